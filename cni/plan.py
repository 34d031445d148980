"""How one pod is wired: the operations, in order, as values.

This file decides; `plugin` applies. A plan names everything in advance - the host's end of the veth, both MAC
addresses - so that nothing has to be read back, and DEL finds its link by computing the same name.

    pod netns                    node netns
    +-----------------------+    +----------------------------------------------+
    | eth0 10.244.1.5/24    |----| vethd3b07384 --- cni0 10.244.1.1/24 -- routes |
    | default via .1        |    |   hairpin on      bridge-nf-call-iptables=1   |
    +-----------------------+    +----------------------------------------------+

Hairpin, because a pod that calls itself through its Service gets its packet back out of the port it came in by;
bridge-nf-call-iptables, because a reply between two pods of one bridge must pass the NAT that changed the request.
arp_notify, because the address may have had another owner a moment ago. Sources: CNI SPEC section 2, the reference
bridge plugin's behaviour, Documentation/networking/ip-sysctl.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from podnet.cni.ipam import Allocation
from podnet.cni.netconf import NetConf
from podnet.cni.types import ALREADY_EXISTS, KERNEL_REFUSED, CNIError, Interface, IPConfig, Result, RouteConfig
from podnet.topology.kernel import (
    AddAddress,
    AddBridge,
    AddVeth,
    DeleteAddress,
    IPAddress,
    IPInterface,
    NetnsState,
    Op,
    ReplaceRoute,
    Route,
    SetLink,
    SetSysctl,
)

ALIAS_PREFIX = "podnet:"
_IFALIAS_MAX = 255


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one container, as a call names it; `pod` is `namespace/name` where CNI_ARGS tells."""

    container_id: str
    ifname: str
    netns: str = ""
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Wiring:
    """Operations in the node's namespace, then in the pod's, and the result they amount to."""

    node: tuple[Op, ...]
    pod: tuple[Op, ...]
    result: Result


def host_veth(network: str, container_id: str, ifname: str) -> str:
    """The name of the host's end: `veth` and eight hex digits that follow from the attachment."""
    return f"veth{_digest(network, container_id, ifname)[:8]}"


def host_mac(network: str, container_id: str, ifname: str) -> str:
    """The host end's MAC: locally administered, following from the attachment."""
    raw = bytes.fromhex("0e" + _digest(network, container_id, ifname)[8:18])
    return raw.hex(":")


def address_mac(address: IPInterface) -> str:
    """A MAC that follows from the address (0a:58 + IPv4, as kubelets have made them): a new owner of an address has
    the same MAC, so no neighbour's ARP entry goes stale."""
    if address.version == 4:
        return (b"\x0a\x58" + address.ip.packed).hex(":")
    return (b"\x0a\x58" + hashlib.sha256(address.ip.packed).digest()[:4]).hex(":")


def link_alias(network: str, attachment: Attachment) -> str:
    """What `ip link` shows beside the host's end, and how GC recognises a link of ours whose lease is lost."""
    text = f"{ALIAS_PREFIX}{network}/{attachment.container_id}/{attachment.ifname}"
    return (f"{text} {attachment.pod}" if attachment.pod else text)[:_IFALIAS_MAX]


def parse_alias(alias: str) -> tuple[str, str, str] | None:
    """(network, container ID, ifname) of an alias of ours."""
    parts = alias.removeprefix(ALIAS_PREFIX).partition(" ")[0].split("/")
    return (parts[0], parts[1], parts[2]) if alias.startswith(ALIAS_PREFIX) and len(parts) == 3 else None


def _digest(network: str, container_id: str, ifname: str) -> str:
    return hashlib.sha256(f"{network}/{container_id}/{ifname}".encode()).hexdigest()


def plan_bridge(
    state: NetnsState, conf: NetConf, gateways: Sequence[IPInterface], mtu: int, *, ipv6: bool
) -> tuple[Op, ...]:
    """What the node's bridge lacks; empty when it is right. `ipv6`: whether this kernel has it at all. CNIError when the name is taken by something else, or the
    bridge has another address and `forceAddress` is off."""
    link = state.link(conf.bridge)
    ops: list[Op] = []
    if link is None:
        mac = address_mac(gateways[0]) if gateways else ""
        ops.append(AddBridge(conf.bridge, mac=mac, mtu=mtu))
        if ipv6:
            ops += _bridge_sysctls(conf.bridge, gateways)
    elif link.kind != "bridge":
        raise CNIError(
            ALREADY_EXISTS, f"{conf.bridge!r} already exists but is not a bridge (it is {link.kind or 'lo'})"
        )
    else:
        if mtu and link.mtu != mtu:
            ops.append(SetLink(conf.bridge, mtu=mtu))
        if not link.up:
            ops.append(SetLink(conf.bridge, up=True))
    present = [address for name, address in state.addresses if name == conf.bridge]
    for gateway in gateways:
        ops += _plan_gateway(conf, gateway, present)
    return tuple(ops)


def _bridge_sysctls(bridge: str, gateways: Sequence[IPInterface]) -> list[Op]:
    """The bridge's addresses are the gateway's alone: none made up from advertisements, none waiting for a conflict
    check, and where pods have no IPv6 no link-local one that makes noise in captures."""
    if any(gateway.version == 6 for gateway in gateways):
        return [SetSysctl(f"net.ipv6.conf.{bridge}.{leaf}", "0") for leaf in ("accept_ra", "accept_dad")]
    return [SetSysctl(f"net.ipv6.conf.{bridge}.disable_ipv6", "1")]


def _plan_gateway(conf: NetConf, gateway: IPInterface, present: Sequence[IPInterface]) -> list[Op]:
    if gateway in present:
        return []
    # A bridge may well have several IPv6 addresses; only one of the same subnet is in the way.
    rivals = [
        address
        for address in present
        if address.version == gateway.version and (gateway.version == 4 or address.network == gateway.network)
    ]
    if rivals and not conf.force_address:
        msg = f"{conf.bridge!r} already has an IP address different from {gateway}"
        raise CNIError(KERNEL_REFUSED, msg, f"it has {', '.join(str(address) for address in rivals)}")
    removed: list[Op] = [DeleteAddress(conf.bridge, address) for address in rivals]
    return [*removed, AddAddress(conf.bridge, gateway)]


def plan_node_sysctls(families: Sequence[int]) -> tuple[SetSysctl, ...]:
    """What a node needs to forward for its pods. bridge-nf has no key where the kernel lacks br_netfilter."""
    ops = []
    if 4 in families:
        ops += [SetSysctl("net.ipv4.ip_forward", "1"), SetSysctl("net.bridge.bridge-nf-call-iptables", "1")]
    if 6 in families:
        ops += [SetSysctl("net.ipv6.conf.all.forwarding", "1"), SetSysctl("net.bridge.bridge-nf-call-ip6tables", "1")]
    return tuple(ops)


def gateway_addresses(conf: NetConf, allocations: Sequence[Allocation]) -> tuple[IPInterface, ...]:
    """The addresses the bridge carries for these pods."""
    if not conf.is_gateway:
        return ()
    return tuple(
        ipaddress.ip_interface(f"{item.gateway}/{item.address.network.prefixlen}")
        for item in allocations
        if item.gateway in item.address.network
    )


def plan_pod(
    conf: NetConf,
    attachment: Attachment,
    allocations: Sequence[Allocation],
    mtu: int,
    *,
    bridge_mac: str = "",
    ipv6: bool = True,
) -> Wiring:
    """Wire one pod. `ipv6`: whether this kernel has it at all."""
    network, ifname = conf.name, attachment.ifname
    name = host_veth(network, attachment.container_id, ifname)
    near_mac = host_mac(network, attachment.container_id, ifname)
    pod_mac = conf.mac or (address_mac(allocations[0].address) if allocations else "")
    node: tuple[Op, ...] = (
        AddVeth(
            name,
            ifname,
            peer_netns=attachment.netns,
            mtu=mtu,
            mac=near_mac,
            peer_mac=pod_mac,
            master=conf.bridge,
            hairpin=conf.hairpin_mode,
            up=False,
        ),
        *((SetSysctl(f"net.ipv6.conf.{name}.disable_ipv6", "1"),) if ipv6 else ()),
        SetLink(name, alias=link_alias(network, attachment), up=True),
    )
    routes = plan_routes(conf, allocations)
    ips = tuple(IPConfig(item.address, item.gateway, 2) for item in allocations)
    pod: list[Op] = [SetLink("lo", up=True), *_pod_sysctls(ifname, allocations, ipv6=ipv6), SetLink(ifname, up=True)]
    pod += [AddAddress(ifname, item.address) for item in allocations]
    pod += [ReplaceRoute(route) for route in kernel_routes(routes, ips, ifname)]
    result = Result(
        (
            Interface(conf.bridge, bridge_mac, mtu=mtu),
            Interface(name, near_mac, mtu=mtu),
            Interface(ifname, pod_mac, attachment.netns, mtu=mtu),
        ),
        ips,
        routes,
        conf.dns,
    )
    return Wiring(node, tuple(pod), result)


def _pod_sysctls(ifname: str, allocations: Sequence[Allocation], *, ipv6: bool) -> list[Op]:
    ops: list[Op] = [SetSysctl(f"net.ipv4.conf.{ifname}.arp_notify", "1")]
    if not ipv6:
        return ops
    conf6 = f"net.ipv6.conf.{ifname}"
    if any(item.address.version == 6 for item in allocations):
        # Addresses are unique by IPAM; the conflict check would hold them back for a second or more.
        leaves = (("disable_ipv6", "0"), ("accept_dad", "0"), ("accept_ra", "0"), ("keep_addr_on_down", "1"))
        return ops + [SetSysctl(f"{conf6}.{leaf}", value) for leaf, value in leaves]
    # Without an IPv6 network a link-local address only makes noise in captures; ::1 on lo stays.
    return [*ops, SetSysctl(f"{conf6}.disable_ipv6", "1")]


def plan_routes(conf: NetConf, allocations: Sequence[Allocation]) -> tuple[RouteConfig, ...]:
    """The configured routes as they are, and a default route per family unless one is configured."""
    if not conf.is_default_gateway:
        return conf.routes
    present = {route.dst.version for route in conf.routes if route.dst.prefixlen == 0}
    defaults = (
        RouteConfig(ipaddress.ip_network("0.0.0.0/0" if item.address.version == 4 else "::/0"), item.gateway)
        for item in allocations
        if item.address.version not in present
    )
    return conf.routes + tuple(dict.fromkeys(defaults))


def kernel_routes(wiring_routes: Sequence[RouteConfig], ips: Sequence[IPConfig], ifname: str) -> tuple[Route, ...]:
    """The routes as the kernel gets them: one without a gateway goes through that of its family's first address, one
    whose family the pod does not have is left out."""
    gateways: dict[int, IPAddress] = {}
    for ip in ips:
        if ip.gateway is not None:
            gateways.setdefault(ip.address.version, ip.gateway)
    return tuple(
        Route(route.dst, ifname, gateway=route.gw or gateways.get(route.dst.version))
        for route in wiring_routes
        if route.gw is not None or route.dst.version in gateways
    )


def check_wiring(wiring: Wiring, conf: NetConf, attachment: Attachment, node: NetnsState, pod: NetnsState) -> list[str]:
    """What is missing of an attachment, in words; empty when it is whole. What others added is tolerated."""
    bridge, near, far = wiring.result.interfaces
    problems = []
    link = node.link(bridge.name)
    if link is None or link.kind != "bridge" or not link.up:
        problems.append(f"bridge {bridge.name} is missing or down")
    host, eth = node.link(near.name), pod.link(attachment.ifname)
    if host is None:
        problems.append(f"host interface {near.name} is missing")
    else:
        if host.master != conf.bridge:
            problems.append(f"host interface {near.name} is not a port of {conf.bridge}")
        if host.hairpin != conf.hairpin_mode:
            problems.append(f"host interface {near.name} has hairpin {'on' if host.hairpin else 'off'}")
        if not host.up:
            problems.append(f"host interface {near.name} is down")
    if eth is None:
        return [*problems, f"interface {attachment.ifname} is missing in {attachment.netns}"]
    if not eth.up:
        problems.append(f"interface {attachment.ifname} is down")
    if far.mac and eth.mac != far.mac:
        problems.append(f"interface {attachment.ifname} has MAC {eth.mac}, expected {far.mac}")
    if host is not None and eth.peer_index != host.index:
        problems.append(f"interface {attachment.ifname} is not the other end of {near.name}")
    have = {address for name, address in pod.addresses if name == attachment.ifname}
    problems += [
        f"address {ip.address} is missing on {attachment.ifname}" for ip in wiring.result.ips if ip.address not in have
    ]
    routes = {(route.destination, route.gateway) for route in pod.routes}
    problems += [
        f"route to {route.destination} via {route.gateway} is missing"
        for route in kernel_routes(wiring.result.routes, wiring.result.ips, attachment.ifname)
        if (route.destination, route.gateway) not in routes
    ]
    gateways = {ipaddress.ip_interface(f"{ip.gateway}/{ip.address.network.prefixlen}") for ip in wiring.result.ips}
    on_bridge = {address for name, address in node.addresses if name == bridge.name}
    if conf.is_gateway:
        problems += [
            f"gateway {gateway} is missing on {bridge.name}" for gateway in sorted(map(str, gateways - on_bridge))
        ]
    return problems
