"""The six verbs against the fake kernel and a real store."""

from __future__ import annotations

import pytest

from podnet.cni import plan
from podnet.topology.kernel import (
    AddAddress,
    AddBridge,
    AddVeth,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    KernelError,
    SetLink,
    SetSysctl,
)


async def test_add_wires_the_pod(world):
    result = await world.ok("ADD", args="IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web")
    assert [i["name"] for i in result["interfaces"]] == ["cni0", plan.host_veth("podnet", "c1", "eth0"), "eth0"]
    assert result["interfaces"][2]["sandbox"] == "/pod1"
    assert result["ips"] == [{"interface": 2, "address": "10.244.1.2/24", "gateway": "10.244.1.1"}]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}]
    pod, node = world.kernel.observe("/pod1"), world.kernel.observe("")
    eth0, host = pod.link("eth0"), node.link(result["interfaces"][1]["name"])
    assert eth0.up
    assert pod.link("lo").up
    assert (eth0.mtu, eth0.mac) == (1450, "0a:58:0a:f4:01:02")
    assert (host.master, host.hairpin, host.up, host.peer_index) == ("cni0", True, True, eth0.index)
    assert host.alias == "podnet:podnet/c1/eth0 default/web"
    assert ("cni0", "10.244.1.1/24") in [(name, str(a)) for name, a in node.addresses]
    assert world.kernel.sysctl("", "net.ipv4.ip_forward") == "1"
    assert world.kernel.sysctl("", "net.bridge.bridge-nf-call-iptables") == "1"
    assert world.kernel.sysctl("/pod1", "net.ipv4.conf.eth0.arp_notify") == "1"
    assert world.kernel.sysctl("/pod1", "net.ipv6.conf.eth0.disable_ipv6") == "1"


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
async def test_the_answer_is_in_the_version_of_the_question(world, version):
    assert (await world.ok("ADD", cniVersion=version))["cniVersion"] == version


async def test_delete_then_add_again(world):
    await world.ok("ADD")
    await world.ok("DEL")
    assert world.addresses == {}
    assert world.ports() == []
    assert world.kernel.observe("/pod1").link("eth0") is None
    await world.ok("DEL")
    assert (await world.ok("ADD"))["ips"][0]["address"] == "10.244.1.3/24"


@pytest.mark.parametrize("netns", ["", "/gone/x", "/pod5"], ids=["empty", "missing", "another"])
async def test_delete_needs_no_namespace(world, netns):
    await world.ok("ADD")
    await world.ok("DEL", netns=netns)
    assert world.addresses == {}
    assert world.ports() == []


async def test_delete_of_what_was_never_added(world):
    await world.ok("DEL", container="unknown", netns="/gone/y")


@pytest.mark.parametrize("wrong", [{"nonsense": 1}, {"prevResult": {"ips": 5}}, {"mtu": "x"}, {"ipam": []}])
async def test_delete_works_with_a_configuration_that_is_wrong_by_now(world, wrong):
    await world.ok("ADD")
    await world.ok("DEL", **wrong)
    assert world.addresses == {}


async def test_a_second_add_is_refused_and_the_first_stays_whole(world):
    first = await world.ok("ADD")
    refused = await world.refused("ADD")
    assert "already" in refused["msg"]
    await world.ok("CHECK", prevResult=first)


async def test_an_interface_of_that_name_is_refused_and_nothing_is_left(world):
    world.kernel.apply("", [AddVeth("x", "eth0", "/pod1")])
    refused = await world.refused("ADD")
    assert "'eth0' already exists" in refused["msg"]
    assert world.addresses == {}
    assert world.ports() == []
    assert world.kernel.observe("/pod1").link("eth0") is not None


async def test_two_interfaces_of_one_container(world):
    await world.ok("ADD")
    await world.ok("ADD", ifname="net1")
    await world.ok("DEL", ifname="net1")
    assert world.kernel.observe("/pod1").link("eth0") is not None
    assert len(world.addresses) == 1


@pytest.mark.parametrize(
    ("netns", "words"), [("/gone/pod", "failed to open netns"), ("/self", "should not be the same")]
)
async def test_an_invalid_namespace(world, netns, words):
    refused = await world.refused("ADD", netns=netns)
    assert refused["code"] == 8
    assert words in refused["msg"]
    assert world.addresses == {}


async def test_a_failure_inside_the_pod_leaves_nothing(world, monkeypatch):
    apply = world.kernel.apply

    def fail_in_pod(netns, ops):
        if netns == "/pod1":
            raise KernelError("no", 1)
        apply(netns, ops)

    monkeypatch.setattr(world.kernel, "apply", fail_in_pod)
    refused = await world.refused("ADD")
    assert refused["code"] >= 100
    assert world.addresses == {}
    assert world.ports() == []


@pytest.mark.parametrize("refused", [SetSysctl, SetLink], ids=["sysctl", "link"])
async def test_a_failure_half_way_on_the_node_leaves_nothing(world, monkeypatch, refused):
    await world.ok("ADD", container="c0", netns="/pod2")
    apply = world.kernel.apply

    def fail_after_the_veth(netns, ops):
        for op in ops:
            if netns == "" and isinstance(op, refused):
                raise KernelError("read-only", 30, op)
            apply(netns, [op])

    monkeypatch.setattr(world.kernel, "apply", fail_after_the_veth)
    await world.refused("ADD")
    assert list(world.addresses) == ["c0"]
    assert world.ports() == [plan.host_veth("podnet", "c0", "eth0")]
    assert world.kernel.observe("/pod1").link("eth0") is None


async def test_a_host_end_of_that_name_is_refused_and_not_deleted(world):
    name = plan.host_veth("podnet", "c1", "eth0")
    world.kernel.apply("", [AddVeth(name, "other")])
    assert name in (await world.refused("ADD"))["msg"]
    assert world.kernel.observe("").link(name) is not None
    assert world.addresses == {}


async def test_without_subnet_env_try_again_later(world):
    world.subnet_env.unlink()
    assert (await world.refused("ADD"))["code"] == 11
    assert (await world.refused("STATUS"))["code"] == 50
    world.subnet_env.write_text("FLANNEL_SUBNET=nonsense\n")
    assert (await world.refused("ADD"))["code"] == 5
    world.subnet_env.write_text(world.subnet)
    await world.ok("STATUS")


async def test_configured_ranges_win_over_the_node_subnet(world):
    world.subnet_env.unlink()
    conf = {"ipam": {"ranges": [[{"subnet": "172.16.0.0/24", "gateway": "172.16.0.254"}]]}, "mtu": 1400}
    result = await world.ok("ADD", **conf)
    assert result["ips"] == [{"interface": 2, "address": "172.16.0.1/24", "gateway": "172.16.0.254"}]
    assert world.kernel.observe("/pod1").link("eth0").mtu == 1400


async def test_dual_stack_needs_no_conflict_check(world):
    conf = {"ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]}}
    result = await world.ok("ADD", **conf)
    assert [item["address"] for item in result["ips"]] == ["10.1.0.2/24", "fd00::2/64"]
    assert [route["dst"] for route in result["routes"]] == ["0.0.0.0/0", "::/0"]
    assert world.kernel.sysctl("/pod1", "net.ipv6.conf.eth0.accept_dad") == "0"
    assert world.kernel.sysctl("/pod1", "net.ipv6.conf.eth0.disable_ipv6") == "0"
    assert world.kernel.sysctl("", "net.ipv6.conf.all.forwarding") == "1"
    await world.ok("CHECK", prevResult=result, **conf)


async def test_requested_address_and_mac(world):
    runtime = {"ips": ["10.244.1.77"], "mac": "02:AA:00:00:00:01"}
    result = await world.ok("ADD", runtimeConfig=runtime)
    assert result["ips"][0]["address"] == "10.244.1.77/24"
    assert world.kernel.observe("/pod1").link("eth0").mac == "02:aa:00:00:00:01"
    taken = await world.refused("ADD", container="c2", netns="/pod2", runtimeConfig=runtime)
    assert "already allocated" in taken["msg"]
    await world.ok("CHECK", prevResult=result, runtimeConfig=runtime)


async def test_second_in_a_chain(world):
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "lo", "sandbox": "/pod1"}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
    }
    result = await world.ok("ADD", prevResult=previous)
    assert [i["name"] for i in result["interfaces"]][0::3] == ["lo", "eth0"]
    assert [(item["address"], item["interface"]) for item in result["ips"]] == [
        ("127.0.0.1/8", 0),
        ("10.244.1.2/24", 3),
    ]
    await world.ok("CHECK", prevResult=result)
    await world.ok("DEL", prevResult=result)


async def test_layer_two_only(world):
    result = await world.ok("ADD", isGateway=False, isDefaultGateway=False)
    assert "routes" not in result
    assert not [a for name, a in world.kernel.observe("").addresses if name == "cni0"]


async def test_routes_of_the_configuration(world):
    ipam = {"subnet": "10.7.0.0/24", "routes": [{"dst": "192.168.0.0/16"}, {"dst": "0.0.0.0/0", "gw": "10.7.0.9"}]}
    result = await world.ok("ADD", ipam=ipam)
    assert result["routes"] == [{"dst": "192.168.0.0/16"}, {"dst": "0.0.0.0/0", "gw": "10.7.0.9"}]
    made = {(str(r.destination), str(r.gateway)) for r in world.kernel.observe("/pod1").routes if r.gateway}
    assert made == {("192.168.0.0/16", "10.7.0.1"), ("0.0.0.0/0", "10.7.0.9")}
    await world.ok("CHECK", ipam=ipam, prevResult=result)


BREAKAGES = {
    "address": ("/pod1", lambda s: [DeleteAddress("eth0", next(a for n, a in s.addresses if n == "eth0"))], "address"),
    "route": ("/pod1", lambda s: [DeleteRoute(next(r for r in s.routes if r.gateway))], "route to 0.0.0.0/0"),
    "down": ("/pod1", lambda _: [SetLink("eth0", up=False)], "eth0 is down"),
    "mac": ("/pod1", lambda _: [SetLink("eth0", mac="02:00:00:00:00:99")], "has MAC"),
    "port": ("", lambda _: [SetLink(plan.host_veth("podnet", "c1", "eth0"), master="")], "not a port"),
    "hairpin": ("", lambda _: [SetLink(plan.host_veth("podnet", "c1", "eth0"), hairpin=False)], "hairpin off"),
    "gone": ("", lambda _: [DeleteLink(plan.host_veth("podnet", "c1", "eth0"))], "is missing"),
    "bridge": ("", lambda _: [DeleteLink("cni0")], "bridge cni0"),
    "forward": ("", lambda _: [SetSysctl("net.ipv4.ip_forward", "0")], "ip_forward"),
}


@pytest.mark.parametrize("name", BREAKAGES)
async def test_check_finds(world, name):
    netns, break_it, words = BREAKAGES[name]
    result = await world.ok("ADD")
    await world.ok("CHECK", prevResult=result)
    world.kernel.apply(netns, break_it(world.kernel.observe(netns)))
    refused = await world.refused("CHECK", prevResult=result)
    assert words in refused["msg"] + refused.get("details", "")


async def test_check_needs_the_previous_result_and_the_reservation(world):
    assert (await world.refused("CHECK"))["code"] == 7
    result = await world.ok("ADD")
    world.store.release("podnet", "c1", "eth0")
    assert "not reserved" in (await world.refused("CHECK", prevResult=result))["msg"]


@pytest.mark.parametrize(("verb", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")])
async def test_a_verb_that_the_version_does_not_have(world, verb, version):
    assert (await world.refused(verb, cniVersion=version))["code"] == 1


async def test_gc_removes_all_but_the_listed(world):
    for n in (1, 2, 3):
        await world.ok("ADD", container=f"c{n}", netns=f"/pod{n}")
    await world.ok("GC", **{"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]})
    assert list(world.addresses) == ["c2"]
    assert world.ports() == [plan.host_veth("podnet", "c2", "eth0")]


async def test_gc_finds_links_whose_lease_is_lost_and_spares_other_networks(world):
    await world.ok("ADD")
    world.store.release("podnet", "c1", "eth0")
    await world.ok("ADD", container="c2", netns="/pod2", name="other", ipam={"subnet": "10.99.0.0/24"}, bridge="br9")
    await world.ok("GC", **{"cni.dev/attachments": []})
    assert world.ports() == []
    assert [link.master for link in world.kernel.observe("").links if link.kind == "veth"] == ["br9"]
    assert len(world.store.leases("other")) == 1


async def test_gc_without_a_list_removes_nothing(world):
    await world.ok("ADD")
    assert (await world.refused("GC"))["code"] == 7
    assert len(world.addresses) == 1


async def test_a_crash_between_reservation_and_wiring_is_reclaimed(world):
    """The record stands, the link does not: DEL and GC both take the address back."""
    pool = {"ipam": {"subnet": "10.3.0.0/29"}}
    for n in range(5):
        await world.ok("ADD", container=f"dead{n}", netns=f"/pod{n + 1}", **pool)
    assert "no IP addresses" in (await world.refused("ADD", container="x", netns="/pod1", ifname="net1", **pool))["msg"]
    assert (await world.refused("STATUS", **pool))["code"] == 50
    await world.ok("GC", **pool, **{"cni.dev/valid-attachments": []})
    await world.ok("STATUS", **pool)
    await world.ok("ADD", container="x", **pool)


async def test_a_rebooted_node_has_its_whole_pool(world):
    await world.ok("ADD")
    await world.ok("ADD", container="c2", netns="/pod2", name="other", ipam={"subnet": "10.99.0.0/24"}, bridge="br9")
    assert world.plugin.reclaim_after_reboot() == 0
    world.kernel.apply("", [DeleteLink(plan.host_veth("podnet", "c1", "eth0"))])
    assert world.plugin.reclaim_after_reboot() == 0, "one link lives: the rest is for GC to tell"
    world.kernel.apply("", [DeleteLink(plan.host_veth("other", "c2", "eth0"))])
    assert world.plugin.reclaim_after_reboot() == 2
    assert world.addresses == {}
    assert (await world.ok("ADD", container="c3", netns="/pod3"))["ips"][0]["address"] == "10.244.1.3/24"


async def test_stale_bridge_address(world):
    await world.ok("ADD")
    world.subnet_env.write_text(world.subnet.replace("10.244.1.", "10.244.7."))
    refused = await world.refused("ADD", container="c2", netns="/pod2")
    assert "already has an IP address different from 10.244.7.1/24" in refused["msg"]
    assert len(world.addresses) == 1
    await world.ok("ADD", container="c2", netns="/pod2", forceAddress=True)
    assert [str(a) for name, a in world.kernel.observe("").addresses if name == "cni0"] == ["10.244.7.1/24"]


async def test_a_name_taken_by_something_that_is_no_bridge(world):
    world.kernel.apply("", [AddVeth("cni0", "other")])
    assert "not a bridge" in (await world.refused("ADD"))["msg"]


async def test_a_deleted_bridge_comes_back_at_the_next_add(world):
    await world.ok("ADD")
    world.kernel.apply("", [DeleteLink("cni0")])
    await world.ok("ADD", container="c2", netns="/pod2")
    assert world.ports() == [plan.host_veth("podnet", "c2", "eth0")]


async def test_a_bridge_somebody_changed_is_mended_after_a_while(world):
    await world.ok("ADD")
    address = next(a for name, a in world.kernel.observe("").addresses if name == "cni0")
    world.kernel.apply("", [DeleteAddress("cni0", address), SetSysctl("net.bridge.bridge-nf-call-iptables", "0")])
    world.now[0] += 60
    await world.ok("ADD", container="c2", netns="/pod2")
    assert ("cni0", address) in world.kernel.observe("").addresses
    assert world.kernel.sysctl("", "net.bridge.bridge-nf-call-iptables") == "1"


async def test_an_existing_bridge_is_used(world):
    world.kernel.apply(
        "",
        [AddBridge("cni0", mac="02:00:00:00:00:77"), AddAddress("cni0", plan.ipaddress.ip_interface("10.244.1.1/24"))],
    )
    result = await world.ok("ADD")
    assert result["interfaces"][0]["mac"] == "02:00:00:00:00:77"
