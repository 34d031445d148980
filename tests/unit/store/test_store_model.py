"""Random programs against a store and against a model that keeps every state in a list: they must never differ."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from podnet.controlplane.store.memory import MemoryStore
from podnet.controlplane.store.sqlite import SQLiteStore
from podnet.controlplane.store.types import (
    CompactedError,
    Event,
    KeyExistsError,
    KeyValue,
    RevisionMismatchError,
    Store,
)

T = TypeVar("T")
KEYS = st.sampled_from(["/p/a", "/p/b", "/p/b/c", "/q/a", "/p", "/\u00e4"])
PREFIXES = st.sampled_from(["", "/", "/p/", "/p", "/p/b", "/q/", "/none"])
VALUES = st.binary(max_size=4)


class StoreMachine(RuleBasedStateMachine):
    """Each rule does one thing to both sides. `states[i]` is the state at revision `first + i`."""

    driver = "memory"

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="podnet-store-"))
        self.store: Store = self.open()
        self.first = self.run(self.store.revision())
        self.states: list[dict[str, KeyValue]] = [{}]
        self.events: list[Event] = []
        self.compacted = 0

    def open(self) -> Store:
        if self.driver == "memory":
            return MemoryStore()
        return SQLiteStore(self.directory, window_events=4)

    def run(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            async with asyncio.timeout(10):
                return await awaitable

        return self.runner.run(wait())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.store.close())
            self.runner.close()
            shutil.rmtree(self.directory)

    @property
    def now(self) -> int:
        return self.first + len(self.states) - 1

    def happened(self, event: Event) -> None:
        state = dict(self.states[-1])
        if event.deleted:
            del state[event.kv.key]
        else:
            state[event.kv.key] = event.kv
        self.states.append(state)
        self.events.append(event)

    @rule(key=KEYS, value=VALUES)
    def create(self, key: str, value: bytes) -> None:
        current = self.states[-1].get(key)
        if current is not None:
            with pytest.raises(KeyExistsError) as raised:
                self.run(self.store.create(key, value))
            assert raised.value.current == current
            return
        expected = KeyValue(key, value, self.now + 1, self.now + 1)
        assert self.run(self.store.create(key, value)) == expected
        self.happened(Event(deleted=False, kv=expected, prev=None))

    @rule(key=KEYS, value=VALUES, stale=st.booleans())
    def update(self, key: str, value: bytes, stale: bool) -> None:
        current = self.states[-1].get(key)
        if current is None or stale:
            with pytest.raises(RevisionMismatchError) as raised:
                self.run(self.store.update(key, value, (current.mod_revision if current else self.now) - 1))
            assert raised.value.current == current
            return
        expected = KeyValue(key, value, current.create_revision, self.now + 1)
        assert self.run(self.store.update(key, value, current.mod_revision)) == expected
        self.happened(Event(deleted=False, kv=expected, prev=current))

    @rule(key=KEYS, conditional=st.booleans())
    def delete(self, key: str, conditional: bool) -> None:
        current = self.states[-1].get(key)
        if current is None:
            with pytest.raises(RevisionMismatchError):
                self.run(self.store.delete(key))
            return
        expected = KeyValue(key, current.value, current.create_revision, self.now + 1)
        assert self.run(self.store.delete(key, current.mod_revision if conditional else 0)) == expected
        self.happened(Event(deleted=True, kv=expected, prev=current))

    @rule(prefix=PREFIXES, start=KEYS, limit=st.integers(0, 3), back=st.integers(0, 12))
    def range(self, prefix: str, start: str, limit: int, back: int) -> None:
        revision = max(self.first, self.now - back)
        if revision < self.compacted:
            with pytest.raises(CompactedError):
                self.run(self.store.range(prefix, revision=revision))
            return
        state = self.states[revision - self.first]
        expected = [state[key] for key in sorted(state, key=str.encode) if key.startswith(prefix) and key >= start]
        found = self.run(self.store.range(prefix, start=start, limit=limit, revision=revision))
        kept = expected[:limit] if limit else expected
        assert list(found.kvs) == kept
        assert found.remaining == len(expected) - len(kept)
        assert self.run(self.store.get(start, revision)) == state.get(start)

    @rule(prefix=PREFIXES, back=st.integers(0, 12))
    def replay(self, prefix: str, back: int) -> None:
        revision = max(self.first + 1, self.now + 1 - back)
        watch = self.store.watch(prefix, revision)
        if revision < self.compacted:
            with pytest.raises(CompactedError):
                self.run(anext(watch))
            return
        expected = [e for e in self.events if e.revision >= revision and e.kv.key.startswith(prefix)]
        seen: list[Event] = []
        while len(seen) < len(expected):
            seen += self.run(anext(watch))
        assert seen == expected

    @precondition(lambda self: self.now > max(self.compacted, self.first))
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(max(self.compacted, self.first) + 1, self.now))
        self.run(self.store.compact(revision))
        self.compacted = revision

    @precondition(lambda self: self.driver == "sqlite")
    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = self.open()

    @invariant()
    def revisions_agree(self) -> None:
        if hasattr(self, "store"):
            assert self.run(self.store.revision()) == self.now


class SQLiteMachine(StoreMachine):
    """The same, also closing and opening again."""

    driver = "sqlite"


_LIMITS = settings(max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestMemoryStoreModel = StoreMachine.TestCase
TestMemoryStoreModel.settings = _LIMITS
TestSQLiteStoreModel = SQLiteMachine.TestCase
TestSQLiteStoreModel.settings = _LIMITS
