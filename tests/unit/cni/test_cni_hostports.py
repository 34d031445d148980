"""hostPorts: what is asked for, the rules that open them, and the six verbs on a node that only pretends."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from podnet.cni.hostports import HostPort, is_open, parse_port_mappings, render_add, render_delete
from podnet.cni.plan import Attachment
from podnet.cni.portmap import Portmap
from podnet.cni.portstore import HostPortStore
from podnet.cni.types import CNIError
from podnet.topology.kernel import KernelError

POD = ipaddress.ip_address("10.244.1.5")
RESULT = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "cni0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/ns"}],
    "ips": [{"address": "10.244.1.5/24", "gateway": "10.244.1.1", "interface": 2}],
}


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"hostPort": 8080, "containerPort": 80}, HostPort("tcp", 8080, "10.244.1.5", 80)),
        ({"hostPort": 53, "containerPort": 53, "protocol": "UDP"}, HostPort("udp", 53, "10.244.1.5", 53)),
        (
            {"hostPort": 80, "containerPort": 80, "hostIP": "127.0.0.1"},
            HostPort("tcp", 80, "10.244.1.5", 80, "127.0.0.1"),
        ),
        ({"hostPort": 80, "containerPort": 80, "hostIP": "0.0.0.0"}, HostPort("tcp", 80, "10.244.1.5", 80)),
        ({"hostPort": 0, "containerPort": 80}, None),
        ({"containerPort": 80}, None),
        ({"hostPort": 80, "containerPort": 80, "hostIP": "fd00::1"}, None),
    ],
    ids=["plain", "udp", "hostIP", "every address", "zero", "none", "other family"],
)
def test_mappings(mapping: dict[str, Any], expected: HostPort | None) -> None:
    assert parse_port_mappings([mapping], POD) == (() if expected is None else (expected,))


@pytest.mark.parametrize(
    ("mapping", "field"),
    [
        ({"hostPort": 70000, "containerPort": 80}, "hostPort"),
        ({"hostPort": 80}, "containerPort"),
        ({"hostPort": 80, "containerPort": 80, "protocol": "icmp"}, "protocol"),
        ({"hostPort": 80, "containerPort": 80, "hostIP": "nowhere"}, "hostIP"),
        ({"hostPort": "80", "containerPort": 80}, "hostPort"),
    ],
    ids=["port", "no container port", "protocol", "address", "type"],
)
def test_a_wrong_mapping_is_refused_with_its_path(mapping: dict[str, Any], field: str) -> None:
    with pytest.raises(CNIError) as caught:
        parse_port_mappings([mapping], POD)
    assert caught.value.code == 7
    assert f"runtimeConfig.portMappings[0].{field}" in caught.value.msg


def test_rules_say_whose_they_are_and_a_strange_name_breaks_nothing() -> None:
    script = render_add([HostPort("tcp", 8080, "10.244.1.5", 80)], 'default/a" } flush ruleset; {')
    assert 'any { tcp . 8080 comment "default/a_ _ flush ruleset_ _" : 10.244.1.5 . 80 }' in script


def test_closing_takes_the_port_and_the_hairpin_once() -> None:
    ports = [HostPort("tcp", 8080, "10.244.1.5", 80), HostPort("udp", 53, "10.244.1.5", 53, "192.168.100.11")]
    assert render_delete(ports) == [
        "delete element ip podnet-hostports any { tcp . 8080 }\n",
        "delete element ip podnet-hostports one { 192.168.100.11 . udp . 53 }\n",
        "delete element ip podnet-hostports pods { 10.244.1.5 . 10.244.1.5 }\n",
    ]


@pytest.mark.parametrize(("target", "expected"), [("10.244.1.5 . 80", True), ("10.244.1.5 . 8", False), ("", False)])
def test_an_open_port_leads_to_the_pod(target: str, expected: bool) -> None:
    answer = f'elements = {{ tcp . 8080 comment "x" : {target} }}' if target else ""
    assert is_open(HostPort("tcp", 8080, "10.244.1.5", 80), answer) is expected


class Recorder:
    """A kernel that notes scripts and refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.scripts: list[str] = []
        self.refusals: dict[str, int] = {}
        self.sysctls: dict[str, str] = {}

    def nft(self, netns: str, script: str) -> str:
        self.scripts.append(script)
        for words, errno in list(self.refusals.items()):
            if words in script:
                del self.refusals[words]
                raise KernelError("no", errno)
        return ""

    def sysctl(self, netns: str, key: str) -> str:
        return self.sysctls.get(key, "0")

    def apply(self, netns: str, ops: Any) -> None:
        for op in ops:
            self.sysctls[op.key] = op.value


class World:
    def __init__(self, directory: Any) -> None:
        self.kernel = Recorder()
        self.store = HostPortStore(directory)
        self.forgotten: list[set[int]] = []
        self.portmap = Portmap(self.kernel, self.store, lambda _, ports: self.forgotten.append(set(ports)))

    async def call(self, verb: str, container: str = "c1", **fields: Any) -> dict[str, Any] | None:
        body = {"cniVersion": "1.1.0", "name": "podnet", "type": "podnet-portmap", **fields}
        attachment = None if verb in {"GC", "STATUS"} else Attachment(container, "eth0", "/ns", "default/web")
        return await self.portmap.verb(verb, body, attachment)

    async def add(self, *mappings: dict[str, Any], container: str = "c1") -> dict[str, Any] | None:
        return await self.call("ADD", container, prevResult=RESULT, runtimeConfig={"portMappings": [*mappings]})


@pytest.fixture
def world(tmp_path: Any) -> Any:
    made = World(tmp_path)
    yield made
    made.store.close()


TCP = {"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}
UDP = {"hostPort": 53, "containerPort": 53, "protocol": "UDP"}


async def test_a_pod_without_host_ports_costs_nothing(world: World, tmp_path: Any) -> None:
    result = await world.add()
    assert result is not None
    assert result["ips"] == [{"address": "10.244.1.5/24", "gateway": "10.244.1.1", "interface": 2}]
    await world.call("DEL")
    assert world.kernel.scripts == []
    assert not [*tmp_path.iterdir()], "no file was made"


async def test_adding_opens_and_deleting_closes(world: World) -> None:
    await world.add(TCP, UDP)
    assert world.kernel.sysctls == {"net.ipv4.conf.cni0.route_localnet": "1"}
    assert world.forgotten == [{53}], "flows of UDP clients meet the new rule"
    assert {port.host_port for port in world.store.ports("podnet", "c1", "eth0")} == {53, 8080}
    world.kernel.scripts.clear()
    await world.call("DEL")
    assert world.kernel.scripts == render_delete(
        [HostPort("tcp", 8080, "10.244.1.5", 80), HostPort("udp", 53, "10.244.1.5", 53)]
    )
    assert world.store.ports("podnet", "c1", "eth0") == ()
    world.kernel.scripts.clear()
    await world.call("DEL")
    assert world.kernel.scripts == []


async def test_deleting_with_the_table_gone_is_no_failure(world: World) -> None:
    await world.add(TCP)
    world.kernel.refusals["delete element ip podnet-hostports any"] = 2
    await world.call("DEL")
    assert world.store.attachments("podnet") == set()


async def test_a_refused_rule_leaves_no_record(world: World) -> None:
    world.kernel.refusals["add element"] = 1
    with pytest.raises(KernelError):
        await world.add(TCP)
    assert world.store.attachments("podnet") == set()


async def test_the_last_one_to_come_has_the_port(world: World) -> None:
    await world.add(TCP, container="old")
    world.kernel.refusals["add element"] = 17
    await world.add(TCP, container="new")
    assert world.store.attachments("podnet") == {("new", "eth0")}
    world.kernel.scripts.clear()
    await world.call("DEL", "old")
    assert world.kernel.scripts == [], "the port is the new one's now"


async def test_check_asks_for_every_port(world: World) -> None:
    with pytest.raises(CNIError, match=r"hostPort 8080/tcp does not lead to 10\.244\.1\.5:80"):
        await world.call("CHECK", prevResult=RESULT, runtimeConfig={"portMappings": [TCP]})
    await world.call("CHECK", prevResult=RESULT)


async def test_garbage_is_what_is_not_listed(world: World) -> None:
    await world.add(TCP, container="living")
    await world.add(UDP, container="dead")
    await world.call("GC", **{"cni.dev/valid-attachments": [{"containerID": "living", "ifname": "eth0"}]})
    assert world.store.attachments("podnet") == {("living", "eth0")}
    with pytest.raises(CNIError, match="valid-attachments"):
        await world.call("GC")


@pytest.mark.parametrize(
    ("fields", "words"),
    [({}, "chained"), ({"prevResult": RESULT, "conditionsV4": []}, "conditionsV4")],
    ids=["alone", "unknown field"],
)
async def test_a_wrong_configuration_is_refused(world: World, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(CNIError, match=words) as caught:
        await world.call("ADD", **fields)
    assert caught.value.code == 7
