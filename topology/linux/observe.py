"""What rtnetlink's dumps say, as one NetnsState.

This file decodes; it opens no socket. Kept: unicast routes of the main table; permanent neighbours and forwarding
entries; every address and link. Sources: rtnetlink(7), include/uapi/linux/{if_link,rtnetlink,neighbour}.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from podnet.topology.kernel import (
    FdbEntry,
    IPAddress,
    IPInterface,
    IPNetwork,
    Link,
    Neighbour,
    NetnsState,
    Route,
    Vxlan,
)
from podnet.topology.linux import links, tables
from podnet.topology.linux import netlink as nl

_IFINFO = struct.Struct("=BxHiII")
_OPERSTATES = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")
_PORT_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")
_RTMSG_SIZE, _NDMSG_SIZE, _IFADDR_SIZE, _IFINFO_SIZE = 12, 12, 8, 16


def _ip(raw: bytes) -> IPAddress:
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)


def _interface(raw: bytes, prefixlen: int) -> IPInterface:
    return IPv4Interface((raw, prefixlen)) if len(raw) == 4 else IPv6Interface((raw, prefixlen))


def _network(raw: bytes, prefixlen: int, family: int) -> IPNetwork:
    if family == nl.AF_INET:
        return IPv4Network((raw or bytes(4), prefixlen))
    return IPv6Network((raw or bytes(16), prefixlen))


def parse_state(
    link_bodies: Iterable[bytes],
    address_bodies: Iterable[bytes],
    route_bodies: Iterable[bytes],
    neighbour_bodies: Iterable[bytes],
    fdb_bodies: Iterable[bytes],
) -> NetnsState:
    """Five dumps as one value."""
    raw_links = [(_IFINFO.unpack_from(body), nl.attributes(body, _IFINFO_SIZE)) for body in link_bodies]
    names = {head[2]: nl.text(attrs.get(links.IFLA_IFNAME, b"")) for head, attrs in raw_links}
    parsed = sorted((_link(head, attrs, names) for head, attrs in raw_links), key=lambda link: link.index)
    return NetnsState(
        links=tuple(parsed),
        addresses=tuple(item for item in (_address(body, names) for body in address_bodies) if item),
        routes=tuple(item for item in (_route(body, names) for body in route_bodies) if item),
        neighbours=tuple(item for item in (_neighbour(body, names) for body in neighbour_bodies) if item),
        fdb=tuple(item for item in (_fdb(body, names) for body in fdb_bodies) if item),
    )


def _link(head: tuple[int, ...], attrs: dict[int, bytes], names: dict[int, str]) -> Link:
    _, _, index, flags, _ = head
    info = nl.attributes(attrs.get(links.IFLA_LINKINFO, b""))
    kind = nl.text(info.get(links.IFLA_INFO_KIND, b""))
    port: dict[int, bytes] = {}
    if nl.text(info.get(links.IFLA_INFO_SLAVE_KIND, b"")) == "bridge":
        port = nl.attributes(info.get(links.IFLA_INFO_SLAVE_DATA, b""))
    master = nl.u32(attrs[links.IFLA_MASTER]) if links.IFLA_MASTER in attrs else 0
    lower = nl.u32(attrs[links.IFLA_LINK]) if links.IFLA_LINK in attrs else 0
    vxlan = _vxlan(nl.attributes(info.get(links.IFLA_INFO_DATA, b"")), names) if kind == "vxlan" else None
    return Link(
        name=names[index],
        index=index,
        kind=kind,
        mac=nl.mac_text(attrs.get(links.IFLA_ADDRESS, b"")),
        mtu=nl.u32(attrs.get(links.IFLA_MTU, bytes(4))),
        up=bool(flags & links.IFF_UP),
        operstate=_OPERSTATES[attrs.get(links.IFLA_OPERSTATE, b"\0")[0]],
        master=names.get(master, ""),
        peer_index=lower if kind == "veth" else 0,
        hairpin=port.get(links.IFLA_BRPORT_MODE, b"\0") != b"\0",
        alias=nl.text(attrs.get(links.IFLA_IFALIAS, b"")),
        vxlan=vxlan,
        port_state=_PORT_STATES[port[links.IFLA_BRPORT_STATE][0]] if links.IFLA_BRPORT_STATE in port else "",
    )


def _vxlan(data: dict[int, bytes], names: dict[int, str]) -> Vxlan:
    local = data.get(links.IFLA_VXLAN_LOCAL) or data.get(links.IFLA_VXLAN_LOCAL6)
    return Vxlan(
        vni=nl.u32(data.get(links.IFLA_VXLAN_ID, bytes(4))),
        local=_ip(local) if local else None,
        device=names.get(nl.u32(data.get(links.IFLA_VXLAN_LINK, bytes(4))), ""),
        port=struct.unpack("!H", data.get(links.IFLA_VXLAN_PORT, bytes(2)))[0],
        learning=data.get(links.IFLA_VXLAN_LEARNING, b"\0") != b"\0",
    )


def _address(body: bytes, names: dict[int, str]) -> tuple[str, IPInterface] | None:
    _, prefixlen, _, _, index = tables.IFADDR.unpack_from(body)
    attrs = nl.attributes(body, _IFADDR_SIZE)
    raw = attrs.get(tables.IFA_LOCAL) or attrs.get(tables.IFA_ADDRESS)
    if raw is None or index not in names:
        return None
    return names[index], _interface(raw, prefixlen)


def _route(body: bytes, names: dict[int, str]) -> Route | None:
    family, prefixlen, _, _, _, protocol, _, kind, flags = tables.RTMSG.unpack_from(body)
    attrs = nl.attributes(body, _RTMSG_SIZE)
    table = nl.u32(attrs[tables.RTA_TABLE]) if tables.RTA_TABLE in attrs else tables.RT_TABLE_MAIN
    if kind != tables.RTN_UNICAST or table != tables.RT_TABLE_MAIN or family not in (nl.AF_INET, nl.AF_INET6):
        return None
    gateway, source = attrs.get(tables.RTA_GATEWAY), attrs.get(tables.RTA_PREFSRC)
    return Route(
        destination=_network(attrs.get(tables.RTA_DST, b""), prefixlen, family),
        link=names.get(nl.u32(attrs[tables.RTA_OIF]), "") if tables.RTA_OIF in attrs else "",
        gateway=_ip(gateway) if gateway else None,
        onlink=bool(flags & tables.RTNH_F_ONLINK),
        source=_ip(source) if source else None,
        protocol=protocol,
    )


def _neighbour(body: bytes, names: dict[int, str]) -> Neighbour | None:
    family, index, state, _, _ = tables.NDMSG.unpack_from(body)
    attrs = nl.attributes(body, _NDMSG_SIZE)
    if not state & tables.NUD_PERMANENT or family not in (nl.AF_INET, nl.AF_INET6) or tables.NDA_DST not in attrs:
        return None
    mac = nl.mac_text(attrs.get(tables.NDA_LLADDR, b""))
    return Neighbour(names.get(index, ""), _ip(attrs[tables.NDA_DST]), mac)


def _fdb(body: bytes, names: dict[int, str]) -> FdbEntry | None:
    _, index, state, _, _ = tables.NDMSG.unpack_from(body)
    attrs = nl.attributes(body, _NDMSG_SIZE)
    if not state & tables.NUD_PERMANENT or tables.NDA_DST not in attrs:
        return None
    return FdbEntry(names.get(index, ""), nl.mac_text(attrs.get(tables.NDA_LLADDR, b"")), _ip(attrs[tables.NDA_DST]))
