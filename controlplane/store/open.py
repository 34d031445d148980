"""Which driver a name stands for."""

from __future__ import annotations

from pathlib import Path

from podnet.controlplane.store.etcd_gateway import EtcdEndpoints
from podnet.controlplane.store.memory import MemoryStore
from podnet.controlplane.store.types import Store, StoreOpenError

DRIVERS = ("sqlite", "memory", "etcd")


def open_store(driver: str, directory: Path | str, etcd: EtcdEndpoints | None = None) -> Store:
    """The store of `driver`: "sqlite" in `directory`, "memory", or "etcd" at `etcd`. Raises StoreOpenError."""
    if driver == "memory":
        return MemoryStore()
    if driver == "sqlite":
        from podnet.controlplane.store.sqlite import SQLiteStore  # threads and SQLite only where they are used

        return SQLiteStore(Path(directory))
    if driver == "etcd":
        from podnet.controlplane.store.etcd import EtcdStore

        return EtcdStore(etcd or EtcdEndpoints(()))
    raise StoreOpenError(f"unknown store driver {driver!r}: use one of {', '.join(DRIVERS)}")
