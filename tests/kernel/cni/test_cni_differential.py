"""Ours beside Debian's bridge and host-local: the same namespaces in, the same links, addresses and routes out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from podnet.cni.plan import host_veth
from podnet.topology.kernel import SetLink

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        not Path("/usr/lib/cni/bridge").exists(), reason="Debian's containernetworking-plugins are not installed"
    ),
]
BRIDGE = Path("/usr/lib/cni/bridge")

CASES = {
    "default gateway": (
        {"isDefaultGateway": True, "hairpinMode": True, "mtu": 1450},
        {},
        [[{"subnet": "10.9.1.0/24"}]],
    ),
    "gateway only": (
        {"isGateway": True, "isDefaultGateway": False, "hairpinMode": False, "mtu": 1500},
        {"routes": [{"dst": "10.0.0.0/8"}, {"dst": "192.168.0.0/16", "gw": "10.9.1.77"}]},
        [[{"subnet": "10.9.1.0/24"}]],
    ),
    "layer two": (
        {"isGateway": False, "isDefaultGateway": False, "hairpinMode": False},
        {},
        [[{"subnet": "10.9.1.0/24"}]],
    ),
    "ranges": (
        {"isDefaultGateway": True, "hairpinMode": True},
        {},
        [[{"subnet": "10.9.1.0/24", "rangeStart": "10.9.1.100", "rangeEnd": "10.9.1.110", "gateway": "10.9.1.254"}]],
    ),
    "dual stack": (
        {"isDefaultGateway": True, "hairpinMode": True},
        {},
        [[{"subnet": "10.9.1.0/24"}], [{"subnet": "fd00:9::/64"}]],
    ),
}


def ours(case, version):
    fields, ipam, ranges = case
    return (
        {"cniVersion": version, "name": "diff", "type": "podnet-bridge"} | fields | {"ipam": {"ranges": ranges} | ipam}
    )


def theirs(case, version, data_dir):
    fields, ipam, ranges = case
    section = {"type": "host-local", "ranges": ranges, "dataDir": str(data_dir)} | ipam
    return {"cniVersion": version, "name": "diff", "type": "bridge", "bridge": "cni0"} | fields | {"ipam": section}


def shape(world, netns, names):
    """A namespace without what is random or a matter of taste: names of host ends, MACs, indexes, IPv6 link-local."""
    state = world.kernel.observe(netns)

    def name(link):
        return "veth*" if link in names else link

    return {
        # The bridge's operstate follows its ports' a moment later.
        "links": sorted(
            (name(i.name), i.kind, i.mtu, i.up, i.operstate if i.kind == "veth" else "", name(i.master), i.hairpin)
            for i in state.links
        ),
        "addresses": sorted((name(n), str(a)) for n, a in state.addresses if not a.is_link_local),
        "routes": sorted(
            (str(r.destination), name(r.link), str(r.gateway))
            for r in state.routes
            if not r.destination.is_link_local and not r.destination.is_multicast
        ),
    }


def assert_same_shape(world, mine, theirs, names):
    """Links learn of their carrier a moment after the plugin has gone (linkwatch): what differs is looked at again."""
    deadline = time.monotonic() + 5
    while shape(world, mine, names) != shape(world, theirs, names) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert shape(world, mine, names) == shape(world, theirs, names)


def result_shape(result):
    """A result without MACs, MTUs and the sandbox's path; an empty `dns` says nothing."""
    body = json.loads(json.dumps(result))
    for interface in body.get("interfaces", []):
        interface.pop("mac", None)
        interface.pop("mtu", None)
        interface["sandbox"] = bool(interface.get("sandbox"))
        if interface["name"].startswith("veth"):
            interface["name"] = "veth*"
    if not body.get("dns"):
        body.pop("dns", None)
    return body


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
@pytest.mark.parametrize("name", CASES)
def test_same_in_same_out(node, name, version):
    case = CASES[name]
    debian_node = node.new_netns("debian")
    node.kernel.apply(debian_node, [SetLink("lo", up=True)])
    pods = {kind: [node.new_netns(f"{kind}{n}") for n in range(2)] for kind in ("ours", "theirs")}
    for n in range(2):
        mine = node.ok("ADD", f"c{n}", pods["ours"][n], **ours(case, version))
        conf = theirs(case, version, node.directory / "host-local")
        # A runtime gives its pods `lo` by a plugin of its own; ours does it within ADD.
        env = _env("ADD", f"c{n}", pods["theirs"][n]) | {"CNI_IFNAME": "lo"}
        node.run(BRIDGE.with_name("loopback"), netns=debian_node, input=json.dumps(conf), env=env)
        done = node.run(BRIDGE, netns=debian_node, input=json.dumps(conf), env=_env("ADD", f"c{n}", pods["theirs"][n]))
        assert done.returncode == 0, done.stdout
        reference = json.loads(done.stdout)
        assert result_shape(mine) == result_shape(reference)
        veths = {i["name"] for i in reference["interfaces"]} | {host_veth("diff", f"c{m}", "eth0") for m in range(2)}
        veths = {v for v in veths if v.startswith("veth")}
        assert_same_shape(node, pods["ours"][n], pods["theirs"][n], veths)
        if n == 0:
            assert_same_shape(node, node.netns, debian_node, veths)
        node.ok("CHECK", f"c{n}", pods["ours"][n], **(ours(case, version) | {"prevResult": mine})) if (
            version != "0.3.1"
        ) else None
    for n in range(2):
        node.ok("DEL", f"c{n}", pods["ours"][n], **ours(case, version))
        conf = theirs(case, version, node.directory / "host-local")
        node.run(BRIDGE, netns=debian_node, input=json.dumps(conf), env=_env("DEL", f"c{n}", pods["theirs"][n]))
        assert_same_shape(node, pods["ours"][n], pods["theirs"][n], set())
    assert_same_shape(node, node.netns, debian_node, set())


def _env(verb, container, netns):
    return {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/usr/lib/cni",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }


def test_chained_with_debians_plugins(node):
    """Ours first, tuning and portmap after it: they take our result as prevResult, and DEL runs the other way."""
    pod = node.new_netns("pod")
    result = node.ok("ADD", "c1", pod, cniVersion="1.0.0")
    tuning = {
        "cniVersion": "1.0.0",
        "name": "podnet",
        "type": "tuning",
        "sysctl": {"net.ipv4.conf.eth0.log_martians": "1"},
    }
    done = node.run(
        "/usr/lib/cni/tuning", input=json.dumps(tuning | {"prevResult": result}), env=_env("ADD", "c1", pod)
    )
    assert done.returncode == 0, done.stdout
    assert result_shape(json.loads(done.stdout)) == result_shape(result)
    assert node.kernel.sysctl(pod, "net.ipv4.conf.eth0.log_martians") == "1"
    node.ok("CHECK", "c1", pod, cniVersion="1.0.0", prevResult=json.loads(done.stdout))
    node.ok("DEL", "c1", pod, cniVersion="1.0.0", prevResult=json.loads(done.stdout))


def test_second_in_a_chain_after_debians_loopback(node):
    pod = node.new_netns("pod")
    loopback = {"cniVersion": "1.0.0", "name": "podnet", "type": "loopback"}
    env = _env("ADD", "c1", pod) | {"CNI_IFNAME": "lo"}
    done = node.run("/usr/lib/cni/loopback", input=json.dumps(loopback), env=env)
    assert done.returncode == 0, done.stdout
    result = node.ok("ADD", "c1", pod, cniVersion="1.0.0", prevResult=json.loads(done.stdout))
    assert [interface["name"] for interface in result["interfaces"]][0::3] == ["lo", "eth0"]
    assert node.ping(pod, "10.244.1.1")
