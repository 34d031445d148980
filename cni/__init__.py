"""cni: plug one pod into its node's network, by the Container Network Interface contract."""
