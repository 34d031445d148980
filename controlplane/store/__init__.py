"""The store: etcd's model on memory or SQLite. `open_store` is the way in, `types.Store` what comes out."""

from podnet.controlplane.store.open import open_store

__all__ = ["open_store"]
