"""A plugin over the fake kernel and a real store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from podnet.cni.plugin import Node, Plugin
from podnet.cni.request import Request
from podnet.cni.store import LeaseStore
from podnet.topology.fake import FakeKernel
from podnet.topology.kernel import (
    DeleteLink,
)

SUBNET = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"


@dataclass
class World:
    kernel: FakeKernel
    store: LeaseStore
    plugin: Plugin
    subnet_env: Path
    now: list[float]
    subnet: str = SUBNET

    async def call(self, verb, container="c1", netns="/pod1", ifname="eth0", args="", **conf):
        env = {"CNI_COMMAND": verb, "CNI_CONTAINERID": container, "CNI_NETNS": netns, "CNI_IFNAME": ifname}
        env |= {"CNI_PATH": "/bin", "CNI_ARGS": args}
        body = {"cniVersion": "1.1.0", "name": "podnet", "type": "podnet-bridge"} | conf
        response = await self.plugin.handle(Request(env, json.dumps(body).encode()))
        answer = json.loads(response.stdout) if response.stdout else {}
        return (response.exit_code, answer)

    async def ok(self, verb, **kwargs):
        code, answer = await self.call(verb, **kwargs)
        assert code == 0, answer
        return answer

    async def refused(self, verb, **kwargs):
        code, answer = await self.call(verb, **kwargs)
        assert code != 0, answer
        return answer

    @property
    def addresses(self):
        return {lease.container_id: str(lease.address) for lease in self.store.leases("podnet")}

    def ports(self):
        return [link.name for link in self.kernel.observe("").links if link.master == "cni0"]


@pytest.fixture
def world(tmp_path):
    kernel = FakeKernel()
    for n in range(1, 6):
        kernel.create_netns(f"/pod{n}")
    store = LeaseStore(tmp_path)
    env = tmp_path / "subnet.env"
    env.write_text(SUBNET)
    now = [0.0]

    async def remove(names):
        for name in names:
            if kernel.observe("").link(name) is not None:
                kernel.apply("", [DeleteLink(name)])

    def identity(netns):
        if netns.startswith("/gone"):
            raise FileNotFoundError(2, "No such file or directory")
        return (0, 1 if netns == "/self" else len(netns) + hash(netns) if netns else 1)

    node = Node(kernel, store, env, remove, lambda: now[0], "", identity)
    yield World(kernel, store, Plugin(node), env, now)
    store.close()
