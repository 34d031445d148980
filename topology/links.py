"""Cables of the underlay: veth pairs made, named and shaped through the `Kernel`, known to Mininet as its links.

Mininet spawns about eight programs a link (`ip link del` twice, `ip link add`, `ifconfig`…); one netlink batch does it.

    node's namespace                 the room's namespace
      eth0  ──────────── veth ────────────  worker-1 ── bridge s1

A machine's end is `eth0`; the switch's end bears the machine's name, shortened where it is too long for an interface,
with the whole name as its alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_network
from typing import Any

from podnet.topology.kernel import (
    AddAddress,
    AddVeth,
    Kernel,
    KernelError,
    LimitRate,
    Op,
    ReplaceRoute,
    Route,
    SetLink,
    SetSysctl,
)
from podnet.topology.mininet_modules import mininet
from podnet.topology.naming import port_name
from podnet.topology.spec.types import ClusterSpec, HostRoute

UPLINK = "eth0"
_DEFAULT_ROUTE = IPv4Network("0.0.0.0/0")

# What a cluster node needs before anything else runs on it. Redirects off: a node that routes for its pods must not
# tell them of short cuts, which they would take around its rules.
NODE_SYSCTLS: tuple[tuple[str, str], ...] = (
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.default.send_redirects", "0"),
    ("net.bridge.bridge-nf-call-iptables", "1"),
)


def mac_of(ip: IPv4Address) -> str:
    """A stable MAC of a machine: locally administered, its address in the last four bytes."""
    return "02:00:" + ip.packed.hex(":")


def plan_port(machine: str, netns: str, mac: str, switch: str, mtu: int, *, bridged: bool) -> list[Op]:
    """The cable of one machine, seen from the room: the pair, its port in the bridge, and a readable alias."""
    port = port_name(machine)
    return [
        AddVeth(port, UPLINK, netns, mtu=mtu, peer_mac=mac, master=switch if bridged else ""),
        SetLink(port, alias=f"{machine} {UPLINK} on {switch}"),
    ]


def plan_machine(spec: ClusterSpec, ip: IPv4Address, routes: tuple[HostRoute, ...] = ()) -> list[Op]:
    """What is set inside a machine: its address, its default route and the routes it was given."""
    return [
        SetLink("lo", up=True),
        AddAddress(UPLINK, IPv4Interface((ip, spec.underlay.cidr.prefixlen))),
        SetLink(UPLINK, up=True),
        ReplaceRoute(Route(_DEFAULT_ROUTE, UPLINK, spec.underlay.gateway)),
        *(ReplaceRoute(Route(ip_network(route.to), UPLINK, route.via)) for route in routes),
    ]


def apply_sysctls(kernel: Kernel, netns: str, settings: tuple[tuple[str, str], ...]) -> list[str]:
    """Write them; the names of those this kernel does not have."""
    missing = []
    for key, value in settings:
        try:
            kernel.apply(netns, [SetSysctl(key, value)])
        except KernelError as error:
            if not error.is_not_found:
                raise
            missing.append(key)
    return missing


@dataclass(frozen=True, slots=True)
class End:
    """One end of a cable: whose, in which namespace, under which name."""

    owner: str
    netns: str
    ifname: str


def plan_rate(ifname: str, rate_bit_s: int, delay_ms: float) -> LimitRate:
    """Shaping of one direction of a cable."""
    return LimitRate(ifname, rate_bit_s, delay_ms=delay_ms)


class KernelIntf(mininet.link.Intf):  # type: ignore[misc]  # Mininet has no types
    """An interface as Mininet knows it, configured already: nothing here starts a program."""

    def __init__(self, name: str, node: Any, end: End, kernel: Kernel, ip: str = "", prefixlen: int = 0) -> None:
        self.end = end
        self.kernel = kernel
        super().__init__(name, node=node, moveIntfFn=_stay)
        self.ip, self.prefixLen = ip or None, prefixlen or None

    def config(self, **_params: Any) -> dict[str, Any]:
        """All is configured."""
        return {}

    def ifconfig(self, *args: Any) -> str:
        """`up` and `down`, which Mininet's `link` command uses; other words go to the real ifconfig."""
        if args in (("up",), ("down",)):
            self.kernel.apply(self.end.netns, [SetLink(self.end.ifname, up=args == ("up",))])
            return ""
        return str(super().ifconfig(*args))

    def isUp(self, setUp: bool = False) -> bool:  # noqa: N802
        """Whether the interface is up; sets it up when asked."""
        if setUp:
            self.ifconfig("up")
        link = self.kernel.observe(self.end.netns).link(self.end.ifname)
        return link is not None and link.up

    def updateIP(self) -> str | None:  # noqa: N802 - Mininet's name
        """The address, which does not change."""
        return self.ip

    def updateMAC(self) -> str | None:  # noqa: N802 - Mininet's name
        """The MAC address, from the kernel."""
        link = self.kernel.observe(self.end.netns).link(self.end.ifname)
        self.mac = link.mac if link else None
        return self.mac


class KernelLink(mininet.link.Link):  # type: ignore[misc]  # Mininet has no types
    """A cable that exists already, as Mininet's link between two nodes."""

    def __init__(self, intf1: KernelIntf, intf2: KernelIntf) -> None:  # not Link.__init__: it spawns programs
        self.intf1, self.intf2 = intf1, intf2
        intf1.link = intf2.link = self


def _stay(_name: str, _node: Any) -> None:
    """A veth's end is born in its namespace; Mininet need not move it."""
