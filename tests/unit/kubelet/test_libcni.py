"""The runtime's side of CNI, with plugins that write down what they are given."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from podnet.controlplane.kubelet.cni_config import (
    capability_port_mappings,
    negotiate_version,
    parse_network_list,
    plugin_config,
)
from podnet.controlplane.kubelet.cri import PortMapping
from podnet.controlplane.kubelet.libcni import CNIRuntime, CNIRuntimeError, PodInfo, result_ips

PLUGIN = """#!{python} -IS
import json, os, sys, time
name = os.path.basename(sys.argv[0])
conf = json.loads(sys.stdin.buffer.read() or b"{{}}")
here = os.path.dirname(os.path.abspath(sys.argv[0]))
env = {{k: v for k, v in os.environ.items() if k.startswith("CNI_")}}
with open(os.path.join(here, "calls"), "a") as log:
    log.write(json.dumps([name, env, conf, time.monotonic()]) + "\\n")
behaviour = os.path.join(here, name + "." + env["CNI_COMMAND"])
if os.path.exists(behaviour):
    exec(open(behaviour).read())
if env["CNI_COMMAND"] == "ADD":
    result = conf.get("prevResult") or {{"cniVersion": conf["cniVersion"], "ips": [{{"address": "10.0.0.5/24"}}]}}
    result.setdefault("seen", []).append(name)
    print(json.dumps(result))
if env["CNI_COMMAND"] == "VERSION":
    print(json.dumps({{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}}))
"""


class Node:
    def __init__(self, directory):
        self.conf, self.bin, self.cache = directory / "net.d", directory / "bin", directory / "cache"
        self.conf.mkdir()
        self.bin.mkdir()
        self.runtime = CNIRuntime(self.conf, [directory / "none", self.bin], self.cache, timeout_s=20)

    def plugin(self, name, **behaviours):
        path = self.bin / name
        path.write_text(PLUGIN.format(python=sys.executable))
        path.chmod(0o755)
        for verb, code in behaviours.items():
            (self.bin / f"{name}.{verb}").write_text(code)

    def conflist(self, *plugins, file="10-net.conflist", **fields):
        body = {
            "cniVersion": "1.1.0",
            "name": "net",
            "plugins": [p if isinstance(p, dict) else {"type": p} for p in plugins],
        }
        (self.conf / file).write_text(json.dumps(body | fields))

    def calls(self, verb=""):
        log = self.bin / "calls"
        entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [(name, env, conf) for name, env, conf, _ in entries if env["CNI_COMMAND"] == verb or not verb]


FAIL = 'print(json.dumps({"code": 11, "msg": "busy", "details": "later"})); sys.exit(1)'


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    node.plugin("one")
    node.plugin("two")
    return node


async def test_a_chain_passes_results_on_and_caches_the_last(node):
    node.conflist("one", {"type": "two", "own": 1})
    result = await node.runtime.add("c1", "/run/netns/x", "eth0", PodInfo("ns", "pod", "uid"))
    assert result["seen"] == ["one", "two"]
    (_, env, first), (_, _, second) = node.calls("ADD")
    assert (env["CNI_CONTAINERID"], env["CNI_NETNS"], env["CNI_IFNAME"]) == ("c1", "/run/netns/x", "eth0")
    assert env["CNI_ARGS"].split(";") == [
        "IgnoreUnknown=1",
        "K8S_POD_NAMESPACE=ns",
        "K8S_POD_NAME=pod",
        "K8S_POD_INFRA_CONTAINER_ID=c1",
        "K8S_POD_UID=uid",
    ]
    assert str(node.bin) in env["CNI_PATH"]
    assert first == {"type": "one", "cniVersion": "1.1.0", "name": "net"}
    assert (second["own"], second["prevResult"]["seen"]) == (1, ["one"])
    await node.runtime.check("c1", "/run/netns/x")
    assert [conf["prevResult"]["seen"] for _, _, conf in node.calls("CHECK")] == [["one", "two"]] * 2
    await node.runtime.delete("c1", "")
    deleted = node.calls("DEL")
    assert [name for name, _, _ in deleted] == ["two", "one"]
    assert all(conf["prevResult"]["seen"] == ["one", "two"] for _, _, conf in deleted)
    assert list(node.cache.iterdir()) == []


async def test_capabilities_reach_only_the_plugins_that_declare_them(node):
    node.conflist({"type": "one", "capabilities": {"portMappings": True, "mac": False}}, "two")
    await node.runtime.add(
        "c1",
        "/n",
        port_mappings=[PortMapping(80, 8080, "UDP", "127.0.0.1")],
        capability_args={"mac": "02:00:00:00:00:01"},
    )
    (_, _, first), (_, _, second) = node.calls("ADD")
    assert first["runtimeConfig"] == {
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": "127.0.0.1"}]
    }
    assert "capabilities" not in first
    assert "runtimeConfig" not in second
    await node.runtime.delete("c1")
    assert "runtimeConfig" in node.calls("DEL")[1][2]


async def test_a_failed_add_is_undone(node):
    node.plugin("two", ADD=FAIL)
    node.conflist("one", "two")
    with pytest.raises(CNIRuntimeError, match="busy: later") as caught:
        await node.runtime.add("c1", "/n")
    assert (caught.value.code, caught.value.plugin, caught.value.is_temporary) == (11, "two", True)
    assert [name for name, _, _ in node.calls("DEL")] == ["two", "one"]
    assert not node.cache.exists() or list(node.cache.iterdir()) == []


async def test_a_second_add_of_the_same_interface_is_refused_and_spares_the_first(node):
    node.conflist("one")
    await node.runtime.add("c1", "/n")
    with pytest.raises(CNIRuntimeError, match="already has an interface eth0"):
        await node.runtime.add("c1", "/n")
    await node.runtime.add("c1", "/n", "net1")
    assert [env["CNI_COMMAND"] for _, env, _ in node.calls()] == ["ADD", "ADD"]
    await node.runtime.check("c1", "/n")


async def test_one_failing_delete_does_not_spare_the_others_and_is_tried_again(node):
    node.plugin("two", DEL=FAIL)
    node.conflist("one", "two")
    await node.runtime.add("c1", "/n")
    with pytest.raises(CNIRuntimeError, match="busy"):
        await node.runtime.delete("c1", "/n")
    assert [name for name, _, _ in node.calls("DEL")] == ["two", "one"]
    (node.bin / "two.DEL").unlink()
    await node.runtime.delete("c1", "/n")
    assert node.calls("DEL")[2][2]["prevResult"]["seen"] == ["one", "two"]


async def test_delete_uses_the_configuration_of_its_add(node):
    node.conflist({"type": "one", "own": "old"})
    await node.runtime.add("c1", "/n")
    node.conflist({"type": "two", "own": "new"}, name="other")
    await node.runtime.delete("c1", "/n")
    ((name, _, conf),) = node.calls("DEL")
    assert (name, conf["own"], conf["name"]) == ("one", "old", "net")


@pytest.mark.parametrize("garbage", [b"", b"{", b'{"kind": "cniCacheV1"}', b"[]"])
async def test_delete_and_gc_survive_a_corrupt_cache(node, garbage):
    node.conflist("one")
    await node.runtime.add("c1", "/n")
    (entry,) = node.cache.iterdir()
    entry.write_bytes(garbage)
    await node.runtime.delete("c1", "/n")
    assert len(node.calls("DEL")) == 1
    await node.runtime.gc([])


async def test_gc_deletes_cached_attachments_first_and_then_asks_the_plugins(node):
    node.conflist("one")
    await node.runtime.add("c1", "/n")
    await node.runtime.add("c2", "/n")
    await node.runtime.gc([("c2", "eth0")])
    assert [env["CNI_CONTAINERID"] for _, env, _ in node.calls("DEL")] == ["c1"]
    ((_, _, conf),) = node.calls("GC")
    assert conf["cni.dev/valid-attachments"] == [{"containerID": "c2", "ifname": "eth0"}] == conf["cni.dev/attachments"]
    await node.runtime.check("c2", "/n")
    with pytest.raises(CNIRuntimeError, match="never added"):
        await node.runtime.check("c1", "/n")


@pytest.mark.parametrize(
    ("version", "verbs"), [("1.0.0", ["ADD", "CHECK"]), ("0.3.1", ["ADD"]), ("1.1.0", ["ADD", "CHECK", "GC", "STATUS"])]
)
async def test_verbs_a_version_does_not_have_are_not_called(node, version, verbs):
    node.conflist("one", cniVersion=version)
    await node.runtime.add("c1", "/n")
    await node.runtime.check("c1", "/n")
    await node.runtime.gc([("c1", "eth0")])
    await node.runtime.status()
    assert [env["CNI_COMMAND"] for _, env, _ in node.calls()] == verbs


async def test_status(node):
    with pytest.raises(CNIRuntimeError, match="no network config found") as caught:
        await node.runtime.status()
    assert caught.value.code == 50
    node.conflist("missing")
    with pytest.raises(CNIRuntimeError, match=r"failed to find plugin 'missing' in path"):
        await node.runtime.status()
    node.plugin("one", STATUS='print(json.dumps({"code": 50, "msg": "daemon down"})); sys.exit(1)')
    node.conflist("one")
    with pytest.raises(CNIRuntimeError, match="daemon down"):
        await node.runtime.status()


async def test_the_first_file_is_the_network_and_a_broken_one_is_an_error(node):
    node.conflist("two", file="20-b.conflist")
    (node.conf / "10-a.conf").write_text('{"cniVersion": "1.0.0", "name": "single", "type": "one"}')
    assert (node.runtime.network().name, node.runtime.network().plugins) == ("single", ({"type": "one"},))
    (node.conf / "30-c.json").write_text("{")
    with pytest.raises(CNIRuntimeError, match=r"30-c\.json: not JSON"):
        node.runtime.network()
    (node.conf / "30-c.json").unlink()
    (node.conf / "05-note.txt").write_text("not a configuration")
    assert node.runtime.network().name == "single"


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("sys.exit(3)", "exit code 3"),
        ("sys.stderr.write('panic: no'); sys.exit(2)", "panic: no"),
        ("print('not json'); sys.exit(0)", "output is not JSON"),
        ("print('[1]'); sys.exit(0)", "output is not JSON"),
        ("os.kill(os.getpid(), 9)", "exit code -9"),
    ],
)
async def test_plugins_that_misbehave(node, behaviour, words):
    node.plugin("one", ADD=behaviour)
    node.conflist("one")
    with pytest.raises(CNIRuntimeError, match=words):
        await node.runtime.add("c1", "/n")


async def test_a_plugin_that_hangs_is_killed(node, tmp_path):
    node.plugin("one", ADD="time.sleep(60)")
    node.conflist("one")
    runtime = CNIRuntime(node.conf, [node.bin], node.cache, timeout_s=0.5)
    with pytest.raises(CNIRuntimeError, match="did not answer within") as caught:
        await runtime.add("c1", "/n")
    assert caught.value.code == 11


async def test_operations_on_one_container_take_turns(node):
    node.plugin("one", ADD="time.sleep(0.1)")
    node.conflist("one")
    await asyncio.gather(node.runtime.add("c1", "/n"), node.runtime.delete("c1", "/n"))
    assert [env["CNI_COMMAND"] for _, env, _ in node.calls()] == ["ADD", "DEL"]


@pytest.mark.parametrize("name", ["", "../x", "a b", "-a"])
async def test_a_bad_container_id(node, name):
    node.conflist("one")
    with pytest.raises(CNIRuntimeError, match="invalid container ID"):
        await node.runtime.add(name, "/n")


async def test_version(node):
    assert await node.runtime.version("one") == ("1.0.0", "1.1.0")


# --- configuration ------------------------------------------------------------------------------------------------------


def conf(**fields):
    return json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "a"}]} | fields)


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        ("[]", 7, "must be an object"),
        (conf(nam_e="x"), 7, "nam_e: unknown field"),
        (conf(name=5), 7, "name: must be a string"),
        (conf(name=""), 7, "name: is required"),
        (conf(name="a/b"), 7, "name: invalid network name"),
        (conf(plugins={}), 7, "plugins: must be a list"),
        (conf(plugins=[]), 7, "plugins: must name at least one"),
        (conf(plugins=["x"]), 7, "plugins[0]: must be an object"),
        (conf(plugins=[{"type": "a"}, {}]), 7, "plugins[1].type: is required"),
        (conf(plugins=[{"type": 3}]), 7, "plugins[0].type: must be a string"),
        (conf(plugins=[{"type": "../a"}]), 7, "plugins[0].type"),
        (conf(plugins=[{"type": "a", "capabilities": []}]), 7, "plugins[0].capabilities: must be an object"),
        (
            conf(plugins=[{"type": "a", "capabilities": {"mac": "yes"}}]),
            7,
            "plugins[0].capabilities.mac: must be a boolean",
        ),
        (conf(disableCheck=1), 7, "disableCheck: must be a boolean"),
        (conf(disableGC="perhaps"), 7, "disableGC: must be a boolean"),
        (conf(cniVersion="x"), 7, "cniVersion"),
        (conf(cniVersion="0.2.0"), 1, "0.2.0 is not supported"),
        (conf(cniVersions=[1]), 7, "cniVersions[0]: must be a string"),
    ],
)
def test_a_wrong_list_names_file_and_field(raw, code, words):
    with pytest.raises(CNIRuntimeError) as caught:
        parse_network_list(raw, file="/etc/cni/net.d/10.conflist")
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "10.conflist" in str(caught.value)


@pytest.mark.parametrize(
    ("version", "versions", "expected"),
    [("1.0.0", [], "1.0.0"), ("0.4.0", ["1.0.0", "1.1.0", "9.0.0"], "1.1.0"), ("9.0.0", ["0.3.1"], "0.3.1")],
)
def test_the_highest_common_version(version, versions, expected):
    assert negotiate_version(version, versions, ("0.3.1", "0.4.0", "1.0.0", "1.1.0")) == expected


def test_strings_are_taken_for_flags_as_people_write_them():
    assert parse_network_list(conf(disableCheck="true", disableGC="False")).disable_check


def test_port_mappings_without_a_host_port_are_left_out():
    assert capability_port_mappings([PortMapping(80, 0)]) == []


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({}, ()),
        ({"ips": [{"address": "10.0.0.2/24"}, {"address": "fd00::2/64"}]}, ("10.0.0.2", "fd00::2")),
        (
            {
                "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/n"}],
                "ips": [{"address": "10.0.0.1/24", "interface": 0}, {"address": "10.0.0.2/24", "interface": 1}],
            },
            ("10.0.0.2",),
        ),
    ],
    ids=["none", "without interfaces", "the pod's own"],
)
def test_pod_addresses_of_a_result(result, expected):
    assert result_ips(result) == expected


def test_extra_keys_do_not_change_the_networks_own():
    network = parse_network_list(conf())
    assert plugin_config(network, network.plugins[0], extra={"cni.dev/valid-attachments": []}) == {
        "type": "a",
        "cniVersion": "1.0.0",
        "name": "net",
        "cni.dev/valid-attachments": [],
    }
