"""A registry on the memory store with the bootstrap objects in it, the client and the server over it; a whole process."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import Wire, serve
from live_server import LiveServer, live_server

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


@pytest.fixture
async def wire(registry: Registry) -> AsyncIterator[Wire]:
    async with serve(registry) as wire:
        yield wire


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("kubectl")) as server:
        yield server


@pytest.fixture
def ns(server: LiveServer, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own, with the account a controller would make."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-50:].strip("-")
    server.kubectl("create", "namespace", name)
    server.kubectl("-n", name, "create", "serviceaccount", "default")
    return name
