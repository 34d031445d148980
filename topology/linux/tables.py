"""Operations on addresses, routes, neighbours and forwarding entries as rtnetlink requests.

This file decides bytes; `rtnetlink` sends them. IPv6 addresses skip duplicate address detection: the emulator assigns
them once, and detection costs a pod its first second. IPv4 addresses get the broadcast address of their network, as
the CNI project's own plugins give them.

Sources: rtnetlink(7), ip-route(8), bridge(8), include/uapi/linux/{rtnetlink,neighbour,if_addr}.h.
"""

from __future__ import annotations

import struct

from podnet.topology.kernel import (
    AddAddress,
    DeleteAddress,
    DeleteFdb,
    DeleteNeighbour,
    DeleteRoute,
    FdbEntry,
    IPAddress,
    IPInterface,
    Neighbour,
    ReplaceFdb,
    ReplaceNeighbour,
    ReplaceRoute,
    Route,
)
from podnet.topology.linux import netlink as nl
from podnet.topology.linux.links import IndexOf

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 7, 15
RT_TABLE_MAIN = 254
RTN_UNICAST = 1
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
RTNH_F_ONLINK = 4
NDA_DST, NDA_LLADDR = 1, 2
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NTF_SELF = 0x02

IFADDR = struct.Struct("=BBBBI")
RTMSG = struct.Struct("=BBBBBBBBI")
NDMSG = struct.Struct("=BxxxiHBB")

_ZERO_MAC = bytes(6)


def family_of(address: IPAddress | IPInterface) -> int:
    """AF_INET or AF_INET6."""
    return nl.AF_INET if address.version == 4 else nl.AF_INET6


def _address(address: IPInterface, index: int) -> bytes:
    packed = address.ip.packed
    body = IFADDR.pack(family_of(address), address.network.prefixlen, 0, 0, index)
    return body + nl.attr(IFA_LOCAL, packed) + nl.attr(IFA_ADDRESS, packed)


def add_address(op: AddAddress, index_of: IndexOf) -> list[bytes]:
    """EEXIST where the link has it already."""
    body = _address(op.address, index_of(op.link))
    if op.address.version == 6:
        body += nl.attr_u32(IFA_FLAGS, IFA_F_NODAD)
    elif op.address.network.prefixlen < 31:
        body += nl.attr(IFA_BROADCAST, op.address.network.broadcast_address.packed)
    return [nl.message(nl.RTM_NEWADDR, nl.NLM_F_CREATE | nl.NLM_F_EXCL | nl.NLM_F_ACK, body)]


def delete_address(op: DeleteAddress, index_of: IndexOf) -> list[bytes]:
    """EADDRNOTAVAIL where the link does not have it."""
    return [nl.message(nl.RTM_DELADDR, nl.NLM_F_ACK, _address(op.address, index_of(op.link)))]


def _route(route: Route, index_of: IndexOf, *, scope: int, protocol: int) -> bytes:
    destination = route.destination
    family = nl.AF_INET if destination.version == 4 else nl.AF_INET6
    flags = RTNH_F_ONLINK if route.onlink else 0
    body = RTMSG.pack(family, destination.prefixlen, 0, 0, RT_TABLE_MAIN, protocol, scope, RTN_UNICAST, flags)
    if destination.prefixlen:
        body += nl.attr(RTA_DST, destination.network_address.packed)
    if route.link:
        body += nl.attr_u32(RTA_OIF, index_of(route.link))
    if route.gateway is not None:
        body += nl.attr(RTA_GATEWAY, route.gateway.packed)
    return body


def replace_route(op: ReplaceRoute, index_of: IndexOf) -> list[bytes]:
    """Add, or replace the route of the same destination."""
    route = op.route
    link_scope = route.gateway is None and route.destination.version == 4
    scope = RT_SCOPE_LINK if link_scope else RT_SCOPE_UNIVERSE
    body = _route(route, index_of, scope=scope, protocol=route.protocol)
    if route.source is not None:
        body += nl.attr(RTA_PREFSRC, route.source.packed)
    return [nl.message(nl.RTM_NEWROUTE, nl.NLM_F_CREATE | nl.NLM_F_REPLACE | nl.NLM_F_ACK, body)]


def delete_route(op: DeleteRoute, index_of: IndexOf) -> list[bytes]:
    """ESRCH where there is none with this destination and, where given, this link and gateway."""
    body = _route(op.route, index_of, scope=RT_SCOPE_NOWHERE, protocol=0)
    return [nl.message(nl.RTM_DELROUTE, nl.NLM_F_ACK, body)]


def _neighbour(entry: Neighbour, index_of: IndexOf) -> bytes:
    head = NDMSG.pack(family_of(entry.address), index_of(entry.link), NUD_PERMANENT, 0, 0)
    return head + nl.attr(NDA_DST, entry.address.packed)


def replace_neighbour(op: ReplaceNeighbour, index_of: IndexOf) -> list[bytes]:
    """A permanent neighbour."""
    body = _neighbour(op.neighbour, index_of) + nl.attr(NDA_LLADDR, nl.mac_bytes(op.neighbour.mac))
    return [nl.message(nl.RTM_NEWNEIGH, nl.NLM_F_CREATE | nl.NLM_F_REPLACE | nl.NLM_F_ACK, body)]


def delete_neighbour(op: DeleteNeighbour, index_of: IndexOf) -> list[bytes]:
    """ENOENT where there is none."""
    return [nl.message(nl.RTM_DELNEIGH, nl.NLM_F_ACK, _neighbour(op.neighbour, index_of))]


def _fdb(entry: FdbEntry, index_of: IndexOf) -> bytes:
    head = NDMSG.pack(nl.AF_BRIDGE, index_of(entry.link), NUD_NOARP | NUD_PERMANENT, NTF_SELF, 0)
    return head + nl.attr(NDA_LLADDR, nl.mac_bytes(entry.mac)) + nl.attr(NDA_DST, entry.destination.packed)


def replace_fdb(op: ReplaceFdb, index_of: IndexOf) -> list[bytes]:
    """The VTEP of a MAC. The all-zero MAC (flood to) holds a list of VTEPs, which can only grow by appending."""
    flood = nl.mac_bytes(op.entry.mac) == _ZERO_MAC
    flags = nl.NLM_F_CREATE | nl.NLM_F_ACK | (nl.NLM_F_APPEND if flood else nl.NLM_F_REPLACE)
    return [nl.message(nl.RTM_NEWNEIGH, flags, _fdb(op.entry, index_of))]


def delete_fdb(op: DeleteFdb, index_of: IndexOf) -> list[bytes]:
    """ENOENT where there is none."""
    return [nl.message(nl.RTM_DELNEIGH, nl.NLM_F_ACK, _fdb(op.entry, index_of))]
