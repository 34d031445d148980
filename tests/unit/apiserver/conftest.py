"""A registry on the memory store with the bootstrap objects in it, and the in-process client over it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from podnet.controlplane.apiserver.bootstrap import ensure_bootstrap
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.store import open_store


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def registry(clock: Clock) -> AsyncIterator[Registry]:
    store = open_store("memory", "")
    registry = Registry(store, clock=clock)
    await registry.start()
    await ensure_bootstrap(registry, advertise_address="192.168.100.1", port=6443)
    yield registry
    await registry.stop()
    await store.close()


@pytest.fixture
def client(registry: Registry) -> LocalClient:
    return LocalClient(registry)
