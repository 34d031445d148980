"""PersistentVolumes and their claims: binding, reclaiming, protection, expansion, claims of ephemeral volumes."""
