"""Which driver a name stands for."""

from __future__ import annotations

from pathlib import Path

from podnet.controlplane.store.memory import MemoryStore
from podnet.controlplane.store.types import Store, StoreOpenError

DRIVERS = ("sqlite", "memory")


def open_store(driver: str, directory: Path | str) -> Store:
    """The store of `driver` ("sqlite", "memory") in `directory`. Raises StoreOpenError."""
    if driver == "memory":
        return MemoryStore()
    if driver == "sqlite":
        from podnet.controlplane.store.sqlite import SQLiteStore  # threads and SQLite only where they are used

        return SQLiteStore(Path(directory))
    raise StoreOpenError(f"unknown store driver {driver!r}: use one of {', '.join(DRIVERS)}")
