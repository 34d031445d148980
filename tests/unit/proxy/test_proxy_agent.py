"""The agent's model, kept from change to change, against the model of all Services at once; and when flows are looked at."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_objects import LOCAL, REMOTE, piece, service

from podnet.proxy import agent as agent_module
from podnet.proxy.agent import ProxyConfig, _Agent
from podnet.proxy.model import compile_model
from podnet.topology.kernel import KernelError
from podnet.topology.paths import NodePaths

DNS = [{"name": "dns", "port": 53, "protocol": "UDP"}]


class Cache:
    """An informer without a server."""

    def __init__(self):
        self.cache, self.indexer, self.handlers = {}, None, []

    def add_indexer(self, _name, indexer):
        self.indexer = indexer

    def add_handler(self, handler):
        self.handlers.append(handler)

    def get(self, key):
        return self.cache.get(key)

    def by_index(self, _name, value):
        return [found for found in self.cache.values() if value in self.indexer(found)]

    def put(self, key, new):
        old = self.cache.pop(key, None)
        if new is not None:
            self.cache[key] = new
        for handler in self.handlers:
            handler(key, old, new)


class Watched:
    def __init__(self):
        self.services, self.slices, self.nodes = Cache(), Cache(), Cache()
        config = ProxyConfig("n1", "192.168.100.11", NodePaths(Path("/nowhere"), "n1"))
        self.agent = _Agent(config, None, self.services, self.slices, self.nodes)

    def put(self, namespace, name, made, behind=(), ports=None):
        body, found = service(name, **({"ports": ports} if ports else {})), piece(*behind, name=name)
        for each in (body, found):
            each["metadata"]["namespace"] = namespace
        if ports:
            found["ports"] = ports
        self.slices.put(f"{namespace}/{name}-1", found if made else None)
        self.services.put(f"{namespace}/{name}", body if made else None)


# "a-b/x" comes before "a/x" as a text and after it as a namespace and a name.
names = st.tuples(st.sampled_from(["a", "a-b", "b"]), st.sampled_from(["x", "x-y"]))
steps = st.lists(st.tuples(names, st.booleans(), st.sampled_from([(), (LOCAL,), (LOCAL, REMOTE)])), max_size=12)


@given(steps, st.integers(1, 3))
def test_what_is_kept_is_what_all_at_once_would_be(steps, pause):
    watched = Watched()
    for number, ((namespace, name), made, behind) in enumerate(steps):
        watched.put(namespace, name, made, behind)
        if number % pause == 0:
            model = watched.agent._model()
            assert model == compile_model(model.node, watched.services.cache.values(), watched.slices.cache.values())
    zone = {"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "east"}}}
    watched.nodes.put("n1", zone)
    model = watched.agent._model()
    assert model.node.zone == "east"
    assert model == compile_model(model.node, watched.services.cache.values(), watched.slices.cache.values())


@pytest.mark.parametrize(
    ("before", "after", "looks"),
    [
        ((None, ()), ("UDP", (LOCAL,)), True),
        (("UDP", (LOCAL,)), ("UDP", (LOCAL,)), False),
        (("UDP", (LOCAL, REMOTE)), ("UDP", (LOCAL,)), True),
        (("UDP", (LOCAL,)), (None, ()), True),
        (("TCP", (LOCAL, REMOTE)), ("TCP", (LOCAL,)), False),
    ],
    ids=["new", "the same", "an endpoint gone", "gone", "TCP"],
)
def test_flows_are_looked_at_when_a_udp_port_serves_with_others(before, after, looks, monkeypatch):
    looked = []
    monkeypatch.setattr(agent_module, "apply_cleanup", lambda _model, _netns: looked.append(1) or 0)
    watched = Watched()

    def passes(protocol, behind):
        ports = [{"name": "p", "port": 53, "protocol": protocol}] if protocol else None
        watched.put("a", "x", protocol is not None, behind, ports)
        asyncio.run(watched.agent._clean_conntrack(watched.agent._model()))

    passes(*before)
    looked.clear()
    passes(*after)
    assert bool(looked) is looks


def test_a_look_that_failed_is_made_up_for(monkeypatch):
    def fails(_model, _netns):
        raise KernelError("no", 1)

    watched = Watched()
    watched.put("a", "x", True, (LOCAL,), DNS)
    model = watched.agent._model()
    monkeypatch.setattr(agent_module, "apply_cleanup", fails)
    with pytest.raises(KernelError):
        asyncio.run(watched.agent._clean_conntrack(model))
    looked = []
    monkeypatch.setattr(agent_module, "apply_cleanup", lambda _model, _netns: looked.append(1) or 0)
    asyncio.run(watched.agent._clean_conntrack(watched.agent._model()))
    assert looked
