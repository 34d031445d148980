"""Operations on links and their queues as rtnetlink requests.

This file decides bytes; `rtnetlink` sends them. Every encoder returns the requests of one operation, in order. Names
are given to the kernel as names where it takes them, as indexes (through `index_of`) where it does not; namespaces as
open descriptors, which the caller keeps open until the requests are sent.

Verified facts kept here: a veth's near end may be created up and with its master in the same request, its far end may
not be up; the hairpin bit takes a second request, since a port exists only after the first; forward delay 0 makes a
port forward at once. Sources: rtnetlink(7), ip-link(8), tc-tbf(8), include/uapi/linux/{if_link,pkt_sched}.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import TypeAlias

from podnet.topology.kernel import AddBridge, AddVeth, AddVxlan, DeleteLink, LimitRate, SetLink
from podnet.topology.linux import netlink as nl

IndexOf: TypeAlias = Callable[[str], int]
NetnsFd: TypeAlias = Callable[[str], int]

IFF_UP = 1

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_PROTINFO, IFLA_OPERSTATE, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_NET_NS_FD, IFLA_EXT_MASK = 12, 16, 18, 20, 28, 29
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
VETH_INFO_PEER = 1
IFLA_BR_FORWARD_DELAY, IFLA_BR_STP_STATE = 1, 5
IFLA_BRPORT_STATE, IFLA_BRPORT_MODE = 1, 4
IFLA_VXLAN_ID, IFLA_VXLAN_LINK, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING = 1, 3, 4, 7
IFLA_VXLAN_PORT, IFLA_VXLAN_LOCAL6 = 15, 17

_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_NETEM_RATE, _TCA_NETEM_RATE64, _TCA_NETEM_LATENCY64 = 6, 8, 10
_NETEM_LIMIT_PACKETS = 10_000
_TCA_TBF_PARMS, _TCA_TBF_RATE64, _TCA_TBF_BURST = 1, 4, 6
_TC_H_ROOT = 0xFFFFFFFF
# Two handles: the kernel refuses to turn a queue of one kind into another under the same handle.
_TBF_HANDLE, _NETEM_HANDLE = 0x10000, 0x20000
_LINKLAYER_ETHERNET = 1
_BURST_FLOOR_BYTES = 10 * 1514
_BURST_INTERVAL_S = 0.004

_IFINFO = struct.Struct("=BxHiII")
_TCMSG = struct.Struct("=BxxxiIII")

CREATE = nl.NLM_F_CREATE | nl.NLM_F_EXCL | nl.NLM_F_ACK


def ifinfo(index: int = 0, flags: int = 0, change: int = 0, family: int = nl.AF_UNSPEC) -> bytes:
    """An ifinfomsg."""
    return _IFINFO.pack(family, 0, index, flags, change)


def _common(mac: str | None, mtu: int | None) -> bytes:
    parts = b""
    if mac:
        parts += nl.attr(IFLA_ADDRESS, nl.mac_bytes(mac))
    if mtu:
        parts += nl.attr_u32(IFLA_MTU, mtu)
    return parts


def _hairpin(index: int, on: bool) -> bytes:
    return nl.message(
        nl.RTM_SETLINK,
        nl.NLM_F_ACK,
        ifinfo(index, family=nl.AF_BRIDGE),
        nl.nested(IFLA_PROTINFO, nl.attr_u8(IFLA_BRPORT_MODE, on)),
    )


def add_bridge(op: AddBridge) -> list[bytes]:
    """A bridge, up, forwarding at once."""
    data = nl.nested(IFLA_INFO_DATA, nl.attr_u32(IFLA_BR_FORWARD_DELAY, 0), nl.attr_u32(IFLA_BR_STP_STATE, 0))
    info = nl.nested(IFLA_LINKINFO, nl.attr_str(IFLA_INFO_KIND, "bridge"), data)
    head = ifinfo(flags=IFF_UP, change=IFF_UP)
    return [nl.message(nl.RTM_NEWLINK, CREATE, head, nl.attr_str(IFLA_IFNAME, op.name), _common(op.mac, op.mtu), info)]


def add_veth(op: AddVeth, index_of: IndexOf, netns_fd: NetnsFd) -> list[bytes]:
    """The pair in one request, the near end in its bridge and up; `add_veth_hairpin` is the second."""
    peer = ifinfo() + nl.attr_str(IFLA_IFNAME, op.peer) + _common(op.peer_mac, op.mtu)
    if op.peer_netns:
        peer += nl.attr_u32(IFLA_NET_NS_FD, netns_fd(op.peer_netns))
    info = nl.nested(
        IFLA_LINKINFO, nl.attr_str(IFLA_INFO_KIND, "veth"), nl.nested(IFLA_INFO_DATA, nl.nested(VETH_INFO_PEER, peer))
    )
    master = nl.attr_u32(IFLA_MASTER, index_of(op.master)) if op.master else b""
    head = ifinfo(flags=IFF_UP if op.up else 0, change=IFF_UP)
    name = nl.attr_str(IFLA_IFNAME, op.name)
    return [nl.message(nl.RTM_NEWLINK, CREATE, head, name, _common(op.mac, op.mtu), master, info)]


def add_veth_hairpin(op: AddVeth, index_of: IndexOf) -> list[bytes]:
    """The hairpin bit of a port that exists by now."""
    return [_hairpin(index_of(op.name), on=True)] if op.hairpin else []


def add_vxlan(op: AddVxlan, index_of: IndexOf) -> list[bytes]:
    """A VXLAN device, down (its owner sets it up after its address)."""
    local = IFLA_VXLAN_LOCAL if isinstance(op.local, IPv4Address) else IFLA_VXLAN_LOCAL6
    data = nl.nested(
        IFLA_INFO_DATA,
        nl.attr_u32(IFLA_VXLAN_ID, op.vni),
        nl.attr(local, op.local.packed),
        nl.attr_u32(IFLA_VXLAN_LINK, index_of(op.device)) if op.device else b"",
        nl.attr(IFLA_VXLAN_PORT, struct.pack("!H", op.port)),
        nl.attr_u8(IFLA_VXLAN_LEARNING, op.learning),
    )
    info = nl.nested(IFLA_LINKINFO, nl.attr_str(IFLA_INFO_KIND, "vxlan"), data)
    name = nl.attr_str(IFLA_IFNAME, op.name)
    return [nl.message(nl.RTM_NEWLINK, CREATE, ifinfo(), name, _common(op.mac, op.mtu), info)]


def set_link(op: SetLink, index_of: IndexOf, netns_fd: NetnsFd) -> list[bytes]:
    """At most three requests: down and into (or out of) the bridge, the hairpin bit, everything that renames or moves."""
    index = index_of(op.name)
    requests = []
    if op.master is not None:
        master = nl.attr_u32(IFLA_MASTER, index_of(op.master) if op.master else 0)
        requests.append(nl.message(nl.RTM_NEWLINK, nl.NLM_F_ACK, ifinfo(index), master))
    if op.hairpin is not None:
        requests.append(_hairpin(index, op.hairpin))
    attrs = _common(op.mac, op.mtu)
    if op.alias is not None:
        attrs += nl.attr(IFLA_IFALIAS, op.alias.encode())
    if op.rename is not None:
        attrs += nl.attr_str(IFLA_IFNAME, op.rename)
    if op.netns is not None:
        attrs += nl.attr_u32(IFLA_NET_NS_FD, netns_fd(op.netns or "/proc/thread-self/ns/net"))
    if attrs or op.up is not None:
        flags, change = (IFF_UP if op.up else 0, IFF_UP) if op.up is not None else (0, 0)
        requests.append(nl.message(nl.RTM_NEWLINK, nl.NLM_F_ACK, ifinfo(index, flags, change), attrs))
    return requests


def delete_link(op: DeleteLink, index_of: IndexOf) -> list[bytes]:
    """Delete by index: a name the kernel does not know is ENODEV before anything is sent."""
    return [nl.message(nl.RTM_DELLINK, nl.NLM_F_ACK, ifinfo(index_of(op.name)))]


def limit_rate(op: LimitRate, index_of: IndexOf) -> list[bytes]:
    """A tbf root qdisc, or its removal. Limits are given in bytes, so that no clock of the kernel's enters."""
    index = index_of(op.link)
    if op.delay_ms:
        return [_netem(op, index)]
    if not op.rate_bit_s:
        return [nl.message(nl.RTM_DELQDISC, nl.NLM_F_ACK, _TCMSG.pack(nl.AF_UNSPEC, index, 0, _TC_H_ROOT, 0))]
    rate_bytes_s = max(op.rate_bit_s // 8, 1)
    burst = op.burst_bytes or max(_BURST_FLOOR_BYTES, int(rate_bytes_s * _BURST_INTERVAL_S))
    limit = min(burst + rate_bytes_s * op.latency_ms // 1000, 0xFFFFFFFF)
    rate = struct.pack("=BBHhHI", 0, _LINKLAYER_ETHERNET, 0, 0, 0, min(rate_bytes_s, 0xFFFFFFFF))
    options = nl.nested(
        _TCA_OPTIONS,
        nl.attr(_TCA_TBF_PARMS, rate + bytes(12) + struct.pack("=III", limit, 0, 0)),
        nl.attr(_TCA_TBF_RATE64, struct.pack("=Q", rate_bytes_s)) if rate_bytes_s > 0xFFFFFFFF else b"",
        nl.attr_u32(_TCA_TBF_BURST, min(burst, 0xFFFFFFFF)),
    )
    head = _TCMSG.pack(nl.AF_UNSPEC, index, _TBF_HANDLE, _TC_H_ROOT, 0)
    flags = nl.NLM_F_CREATE | nl.NLM_F_REPLACE | nl.NLM_F_ACK
    return [nl.message(nl.RTM_NEWQDISC, flags, head, nl.attr_str(_TCA_KIND, "tbf"), options)]


def _netem(op: LimitRate, index: int) -> bytes:
    """Delay, and the rate too: netem has a rate of its own, so that no second queue is needed."""
    rate_bytes_s = op.rate_bit_s // 8
    rate = (
        nl.attr(_TCA_NETEM_RATE, struct.pack("=IiIi", min(rate_bytes_s, 0xFFFFFFFF), 0, 0, 0)) if rate_bytes_s else b""
    )
    if rate_bytes_s > 0xFFFFFFFF:
        rate += nl.attr(_TCA_NETEM_RATE64, struct.pack("=Q", rate_bytes_s))
    # tc_netem_qopt (latency, limit, loss, gap, duplicate, jitter), then attributes in the same option.
    options = struct.pack("=IIIIII", 0, _NETEM_LIMIT_PACKETS, 0, 0, 0, 0)
    options += nl.attr(_TCA_NETEM_LATENCY64, struct.pack("=q", round(op.delay_ms * 1_000_000))) + rate
    head = _TCMSG.pack(nl.AF_UNSPEC, index, _NETEM_HANDLE, _TC_H_ROOT, 0)
    flags = nl.NLM_F_CREATE | nl.NLM_F_REPLACE | nl.NLM_F_ACK
    return nl.message(nl.RTM_NEWQDISC, flags, head, nl.attr_str(_TCA_KIND, "netem"), nl.attr(_TCA_OPTIONS, options))
