"""Tracked connections of a namespace: look at them, and forget some.

A rule that translates addresses is asked once per flow. A UDP client that keeps its port keeps its flow, too, so after
a rule changed its entry must go for the next datagram to meet the new one. TCP ends by itself and is left alone.

    dump CT_GET ─▶ Flow, for whom it may concern ─▶ CT_DELETE of the tuple and zone of those that are to go

Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from podnet.topology.kernel import KernelError, Netns
from podnet.topology.linux import netlink as nl
from podnet.topology.linux.rtnetlink import RouteSocket

NETLINK_NETFILTER = 12
_GET, _DELETE = 0x101, 0x102
_NFGENMSG = struct.Struct("!BBH")
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_STATUS, _CTA_PROTOINFO, _CTA_TIMEOUT = 1, 2, 3, 4, 7
_CTA_COUNTERS_ORIG, _CTA_COUNTERS_REPLY, _CTA_ID, _CTA_ZONE = 9, 10, 12, 18
_CTA_PROTOINFO_TCP, _CTA_PROTOINFO_TCP_STATE = 1, 1
_CTA_COUNTERS_PACKETS, _CTA_COUNTERS_BYTES = 1, 2
_IPS_SEEN_REPLY = 0x2
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_V4_SRC, _CTA_IP_V4_DST = 1, 2
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3

TCP, UDP = 6, 17
TCP_STATES = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)
"""enum tcp_conntrack, in its order."""


_NOWHERE = IPv4Address(0)


@dataclass(frozen=True, slots=True)
class Flow:
    """One tracked IPv4 connection: as the client sent it, and who answers whom.

    `state` is TCP's (ESTABLISHED, TIME_WAIT, …), else UNREPLIED or REPLIED. `packets` and `bytes` of both directions
    are 0 where the namespace does not count (net.netfilter.nf_conntrack_acct).
    """

    protocol: int
    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    reply_source: IPv4Address
    reply_source_port: int
    reply_destination: IPv4Address = _NOWHERE
    reply_destination_port: int = 0
    state: str = ""
    timeout_s: int = 0
    packets: int = 0
    bytes: int = 0


def flows(netns: Netns) -> list[Flow]:
    """Every IPv4 connection that the kernel tracks there."""
    with RouteSocket(netns, NETLINK_NETFILTER) as sock:
        return [flow for flow, _ in _dump(sock)]


def forget_flows(netns: Netns, is_stale: Callable[[Flow], bool]) -> int:
    """Delete the entries that `is_stale` picks; how many went. One that is gone already is as good."""
    deleted = 0
    with RouteSocket(netns, NETLINK_NETFILTER) as sock:
        for flow, body in _dump(sock):
            if not is_stale(flow):
                continue
            try:
                sock.request(nl.message(_DELETE, nl.NLM_F_ACK, _head(), body))
            except KernelError as error:
                if not error.is_not_found:
                    raise
            else:
                deleted += 1
    return deleted


def _head() -> bytes:
    return _NFGENMSG.pack(nl.AF_INET, 0, 0)


def _dump(sock: RouteSocket) -> list[tuple[Flow, bytes]]:
    """Each flow, and the attributes that name it for a deletion."""
    found = []
    for body in sock.dump(_GET, _head()):
        attributes = nl.attributes(body, _NFGENMSG.size)
        flow = parse_flow(attributes)
        if flow is None:
            continue
        kept = [nl.attr(_CTA_TUPLE_ORIG | nl.NLA_F_NESTED, attributes[_CTA_TUPLE_ORIG])]
        kept += [nl.attr(kind, attributes[kind]) for kind in (_CTA_ZONE, _CTA_ID) if kind in attributes]
        found.append((flow, b"".join(kept)))
    return found


def parse_flow(attributes: dict[int, bytes]) -> Flow | None:
    """A flow of one entry's attributes; None when it is not IPv4 or its protocol has no ports."""
    original = _tuple(attributes.get(_CTA_TUPLE_ORIG, b""))
    reply = _tuple(attributes.get(_CTA_TUPLE_REPLY, b""))
    if original is None or reply is None:
        return None
    protocol, source, source_port, destination, destination_port = original
    counters = [nl.attributes(attributes.get(kind, b"")) for kind in (_CTA_COUNTERS_ORIG, _CTA_COUNTERS_REPLY)]
    return Flow(
        protocol,
        source,
        source_port,
        destination,
        destination_port,
        *reply[1:],
        state=_state(attributes),
        timeout_s=int.from_bytes(attributes.get(_CTA_TIMEOUT, b"")[:4], "big"),
        packets=sum(int.from_bytes(each.get(_CTA_COUNTERS_PACKETS, b""), "big") for each in counters),
        bytes=sum(int.from_bytes(each.get(_CTA_COUNTERS_BYTES, b""), "big") for each in counters),
    )


def _state(attributes: dict[int, bytes]) -> str:
    tcp = nl.attributes(nl.attributes(attributes.get(_CTA_PROTOINFO, b"")).get(_CTA_PROTOINFO_TCP, b""))
    if _CTA_PROTOINFO_TCP_STATE in tcp:
        number = tcp[_CTA_PROTOINFO_TCP_STATE][0]
        return TCP_STATES[number] if number < len(TCP_STATES) else str(number)
    status = int.from_bytes(attributes.get(_CTA_STATUS, b"")[:4], "big")
    return "REPLIED" if status & _IPS_SEEN_REPLY else "UNREPLIED"


def _tuple(value: bytes) -> tuple[int, IPv4Address, int, IPv4Address, int] | None:
    parts = nl.attributes(value)
    address, proto = nl.attributes(parts.get(_CTA_TUPLE_IP, b"")), nl.attributes(parts.get(_CTA_TUPLE_PROTO, b""))
    wanted = (_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT)
    if _CTA_IP_V4_SRC not in address or any(kind not in proto for kind in wanted):
        return None
    ports = [int.from_bytes(proto[kind][:2], "big") for kind in wanted[1:]]
    source, destination = IPv4Address(address[_CTA_IP_V4_SRC]), IPv4Address(address[_CTA_IP_V4_DST])
    return proto[_CTA_PROTO_NUM][0], source, ports[0], destination, ports[1]
