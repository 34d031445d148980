"""What a write would do: the conditions of create, update and delete, decided against the state they will meet.

Both drivers ask here, so that they refuse alike. Pure: a write becomes an `Event` or an exception.
"""

from __future__ import annotations

from podnet.controlplane.store.types import Event, KeyExistsError, KeyValue, RevisionMismatchError


def create(current: KeyValue | None, key: str, value: bytes, revision: int) -> Event:
    """Raises KeyExistsError; ValueError for a key that is no text UTF-8 can hold."""
    key.encode()
    if current is not None:
        raise KeyExistsError(current)
    return Event(deleted=False, kv=KeyValue(key, value, revision, revision), prev=None)


def update(current: KeyValue | None, key: str, value: bytes, mod_revision: int, revision: int) -> Event:
    """Raises RevisionMismatchError."""
    if current is None or current.mod_revision != mod_revision:
        raise RevisionMismatchError(key, current)
    return Event(deleted=False, kv=KeyValue(key, value, current.create_revision, revision), prev=current)


def delete(current: KeyValue | None, key: str, mod_revision: int, revision: int) -> Event:
    """Raises RevisionMismatchError; `mod_revision` 0 deletes whatever is there."""
    if current is None or (mod_revision and current.mod_revision != mod_revision):
        raise RevisionMismatchError(key, current)
    return Event(deleted=True, kv=KeyValue(key, current.value, current.create_revision, revision), prev=current)
