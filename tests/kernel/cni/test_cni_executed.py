"""The executed plugin, its daemon and the kernel together; the pitfalls of real CNI plugins as tests."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from podnet.cni.store import LeaseStore
from podnet.controlplane.kubelet.libcni import CNIRuntime, CNIRuntimeError, PodInfo
from podnet.topology.kernel import DeleteLink, SetLink, SetSysctl
from podnet.topology.linux.syscalls import in_netns

pytestmark = pytest.mark.kernel


def leases(node):
    store = LeaseStore(node.paths.cni_state_dir)
    try:
        return {lease.container_id: str(lease.address) for lease in store.leases("podnet")}
    finally:
        store.close()


def test_pods_of_one_node_reach_each_other_and_the_node_at_once(node):
    one, two = node.new_netns("one"), node.new_netns("two")
    first = node.ok("ADD", "one", one)
    node.ok("ADD", "two", two)
    # A first packet that is lost, because the port is not forwarding yet, is repeated after a second.
    assert node.ping(two, first["ips"][0]["address"].partition("/")[0], wait_s=1)
    assert node.ping(one, "10.244.1.1")
    assert node.ping(node.netns, "10.244.1.3")
    assert node.ping(one, "127.0.0.1"), "lo is up"
    node.ok("CHECK", "one", one, prevResult=first)


def test_delete_has_an_effect_when_it_returns(node):
    pod = node.new_netns("pod")
    for _ in range(3):
        node.ok("ADD", "c1", pod)
        node.ok("DEL", "c1", pod)
        assert node.kernel.observe(pod).link("eth0") is None
        assert node.ports() == []
    assert leases(node) == {}


def test_delete_twice_with_a_missing_and_an_empty_namespace_changes_nothing_else(node):
    before = node.run("nft", "list", "ruleset").stdout
    gone = node.new_netns("gone")
    node.ok("ADD", "c1", gone)
    node.delete_netns(gone)
    for netns in (gone, "", gone):
        node.ok("DEL", "c1", netns)
    assert leases(node) == {}
    assert node.run("nft", "list", "ruleset").stdout == before


def test_hairpin_and_bridge_nf_let_a_pod_reach_itself_and_its_neighbour_through_a_service(node):
    """A DNAT in the node stands for kube-proxy; the reply must come back through it in both cases."""
    one, two = node.new_netns("one"), node.new_netns("two")
    address = node.ok("ADD", "one", one)["ips"][0]["address"].partition("/")[0]
    node.ok("ADD", "two", two)
    node.kernel.nft(
        node.netns,
        "table ip svc {\n chain pre { type nat hook prerouting priority dstnat;\n"
        f"  ip daddr 10.96.0.7 tcp dport 80 dnat to {address}:8080\n }}\n"
        " chain post { type nat hook postrouting priority srcnat;\n"
        f"  ip saddr {address} ip daddr {address} masquerade\n }}\n}}\n",
    )
    serve = (
        "import socket; s = socket.create_server(('', 8080)); print(flush=True)\nwhile True: s.accept()[0].send(b'hi')"
    )
    with in_netns(one):
        server = subprocess.Popen(["python3", "-c", serve], stdout=subprocess.PIPE)
    ask = "import socket; print(socket.create_connection(('10.96.0.7', 80), 3).recv(9))"
    try:
        server.stdout.readline()
        for pod in (one, two):
            done = node.run("python3", "-c", ask, netns=pod)
            assert done.stdout == "b'hi'\n", (pod, done.stderr)
        # Both halves are needed: each one off breaks one of the two (DESIGN of the pitfall, not of ours).
        node.kernel.apply(node.netns, [SetSysctl("net.bridge.bridge-nf-call-iptables", "0")])
        assert node.run("python3", "-c", ask.replace(", 3)", ", 1)"), netns=two).returncode != 0
        node.kernel.apply(node.netns, [SetSysctl("net.bridge.bridge-nf-call-iptables", "1")])
        port = next(link for link in node.kernel.observe(node.netns).links if "/one/" in link.alias)
        node.kernel.apply(node.netns, [SetLink(port.name, hairpin=False)])
        assert node.run("python3", "-c", ask.replace(", 3)", ", 1)"), netns=one).returncode != 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_a_hundred_parallel_adds_have_a_hundred_addresses(node):
    pods = [node.new_netns(f"p{n}") for n in range(100)]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda n: node.ok("ADD", f"c{n}", pods[n]), range(100)))
    addresses = {result["ips"][0]["address"] for result in results}
    assert len(addresses) == 100
    assert len(node.ports()) == 100
    for n in (0, 57, 99):
        (own,) = [str(a) for name, a in node.kernel.observe(pods[n]).addresses if name == "eth0"]
        assert own == results[n]["ips"][0]["address"]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: node.ok("DEL", f"c{n}", pods[n]), range(100)))
    assert node.ports() == []
    assert leases(node) == {}


def test_a_hundred_parallel_adds_while_the_daemon_is_killed(node):
    """What was acknowledged is there, no address is given twice, and GC reclaims the rest."""
    pods = [node.new_netns(f"p{n}") for n in range(60)]
    killer = threading.Timer(0.08, node.kill)
    killer.start()
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: node.call("ADD", f"c{n}", pods[n]), range(60)))
    killer.join()
    added = {n: json.loads(item.stdout) for n, item in enumerate(done) if item.returncode == 0}
    refused = [json.loads(item.stdout)["code"] for item in done if item.returncode != 0]
    assert set(refused) <= {11}
    given = [result["ips"][0]["address"] for result in added.values()]
    assert len(given) == len(set(given))
    node.start()
    for n, result in added.items():
        node.ok("CHECK", f"c{n}", pods[n], prevResult=result)
    valid = [{"containerID": f"c{n}", "ifname": "eth0"} for n in added]
    node.ok("GC", **{"cni.dev/valid-attachments": valid})
    assert set(leases(node)) == {f"c{n}" for n in added}
    assert len(node.ports()) == len(added)
    late = {n for n in range(60) if n not in added}
    for n in sorted(late)[:3]:
        assert node.ok("ADD", f"c{n}", pods[n])["ips"][0]["address"] not in given


def test_pods_keep_address_and_connection_while_the_daemon_is_away(node):
    one, two = node.new_netns("one"), node.new_netns("two")
    first, second = node.ok("ADD", "one", one), node.ok("ADD", "two", two)
    node.kill()
    assert node.ping(two, first["ips"][0]["address"].partition("/")[0])
    assert node.refused("ADD", "three", node.new_netns("three"))["code"] == 11
    assert node.refused("STATUS")["code"] == 50
    node.ok("CHECK", "two", two, prevResult=second)
    node.ok("DEL", "one", one)
    assert node.kernel.observe(one).link("eth0") is None
    node.start()
    node.ok("STATUS")
    assert leases(node) == {"two": "10.244.1.3"}
    assert node.ok("ADD", "one", one)["ips"][0]["address"] == "10.244.1.4/24"


def test_a_rebooted_node_has_its_whole_pool(node):
    """The node dies with its pods, and nobody ran DEL: its leases are on disk, the pool was full."""
    pool = {"ipam": {"subnet": "10.250.0.0/29"}}
    pods = [node.new_netns(f"p{n}") for n in range(5)]
    for n, pod in enumerate(pods):
        node.ok("ADD", f"c{n}", pod, **pool)
    node.kill()
    for pod in (*pods, node.netns):
        node.delete_netns(pod)
    node.netns = node.new_netns("node-again")
    node.start()
    assert leases(node) == {}
    node.ok("ADD", "new", node.new_netns("n"), **pool)


def test_what_a_crash_leaked_is_reclaimed_by_gc(node):
    """Pods died with their namespaces while the daemon was down; one lives on, and the pool is full."""
    pool = {"ipam": {"subnet": "10.250.0.0/29"}}
    pods = [node.new_netns(f"p{n}") for n in range(5)]
    for n, pod in enumerate(pods):
        node.ok("ADD", f"c{n}", pod, **pool)
    node.kill()
    for pod in pods[1:]:
        node.delete_netns(pod)
    node.start()
    assert "no IP addresses available" in node.refused("ADD", "new", node.new_netns("n"), **pool)["msg"]
    node.ok("GC", **pool, **{"cni.dev/valid-attachments": [{"containerID": "c0", "ifname": "eth0"}]})
    assert leases(node) == {"c0": "10.250.0.2"}
    node.ok("ADD", "new", node.namespaces[-1], **pool)


def test_stale_bridge_address_with_and_without_force(node):
    node.ok("ADD", "old", node.new_netns("old"))
    node.subnet("10.244.9.1")
    pod = node.new_netns("new")
    assert "already has an IP address different from" in node.refused("ADD", "new", pod)["msg"]
    result = node.ok("ADD", "new", pod, forceAddress=True)
    assert result["ips"][0]["address"].startswith("10.244.9.")
    assert node.ping(pod, "10.244.9.1")


def test_dual_stack_is_ready_at_once(node):
    """No duplicate address detection: the address is usable when ADD returns, and ADD does not wait for it."""
    ipam = {"ranges": [[{"subnet": "10.251.0.0/24"}], [{"subnet": "fd00:251::/64"}]]}
    one, two = node.new_netns("one"), node.new_netns("two")
    node.ok("ADD", "one", one, ipam=ipam)
    started = time.monotonic()
    node.ok("ADD", "two", two, ipam=ipam)
    assert time.monotonic() - started < 1, "detection of duplicates takes a second or more"
    shown = node.run("ip", "-6", "-o", "addr", "show", "dev", "eth0", netns=two).stdout
    assert "fd00:251::3/64" in shown
    assert "tentative" not in shown.splitlines()[0]
    assert node.ping(two, "fd00:251::2")
    assert node.ping(two, "fd00:251::1")


def test_a_deleted_bridge_heals_at_the_next_add(node):
    one, two = node.new_netns("one"), node.new_netns("two")
    node.ok("ADD", "one", one)
    node.kernel.apply(node.netns, [DeleteLink("cni0")])
    node.ok("ADD", "two", two)
    assert node.ping(two, "10.244.1.1")


def test_an_existing_interface_of_that_name_is_an_error(node):
    pod = node.new_netns("pod")
    node.run("ip", "link", "add", "name", "eth0", "type", "veth", "peer", "name", "x0", netns=pod)
    assert "already exists" in node.refused("ADD", "c1", pod)["msg"]
    assert leases(node) == {}
    assert node.ports() == []


def test_the_nodes_own_namespace_and_no_namespace_are_refused(node):
    assert node.refused("ADD", "c1", node.netns)["code"] == 8
    assert node.refused("ADD", "c1", "/nowhere")["code"] == 8
    plain = node.directory / "plain"
    plain.write_text("")
    assert node.refused("ADD", "c1", str(plain))["code"] == 8
    assert leases(node) == {}


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
async def test_the_runtime_side_drives_it(node, version):
    """libcni's part with our plugin: add, check, delete, in every version."""
    conf = node.paths.cni_conf_dir / "10-podnet.conflist"
    conf.write_text(json.dumps(json.loads(conf.read_text()) | {"cniVersion": version}))
    with in_netns(node.netns):
        runtime = CNIRuntime(node.paths.cni_conf_dir, [node.paths.cni_bin_dir], node.paths.cni_state_dir / "results")
        pod = node.new_netns("pod")
        await runtime.status()
        result = await runtime.add("c1", pod, "eth0", PodInfo("default", "web", "uid"))
        assert result["cniVersion"] == version
        await runtime.check("c1", pod)
        node.kernel.apply(pod, [SetLink("eth0", up=False)])
        if version != "0.3.1":
            with pytest.raises(CNIRuntimeError, match="eth0 is down"):
                await runtime.check("c1", pod)
        await runtime.delete("c1", pod)
        await runtime.delete("c1", pod)
    assert leases(node) == {}
