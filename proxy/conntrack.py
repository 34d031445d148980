"""UDP connections of endpoints that are gone: found and deleted, so that a client with a fixed port gets a living one.

UDP has no end of a connection: a client that keeps sending from one port keeps its conntrack entry alive, and with it the
translation to an endpoint that may not exist any more. TCP is never touched. Which entries are stale is decided purely
(`stale_flows`); the netlink half below reads and deletes them.

    ORIG  client -> service address:port        REPLY  endpoint -> client
          |_ one of a UDP service port, or a node port  |_ not one of its serving endpoints: stale

A service without any serving endpoint is skipped. Sources: kube-proxy's clean-up; linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from podnet.proxy.model import Model, ServicePort
from podnet.topology.kernel import KernelError, Netns
from podnet.topology.linux import netlink
from podnet.topology.linux.syscalls import in_netns

UDP = 17
_NETLINK_NETFILTER = 12
_CT_GET, _CT_DELETE = (1 << 8) | 1, (1 << 8) | 2
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY = 1, 2
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_V4_SRC, _CTA_IP_V4_DST = 1, 2
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_HEADER = struct.pack("=BBH", netlink.AF_INET, 0, 0)
_RECEIVE_BYTES = 1 << 17
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Flow:
    """One conntrack entry. `key` is its original tuple as the kernel encodes it: what a deletion names."""

    protocol: int
    src: IPv4Address
    sport: int
    dst: IPv4Address
    dport: int
    reply_src: IPv4Address
    reply_sport: int
    key: bytes = b""


def has_udp(model: Model) -> bool:
    """Whether there is anything to look for."""
    return any(port.protocol == "UDP" for port in model.ports)


def stale_flows(model: Model, flows: Iterable[Flow]) -> list[Flow]:
    """The UDP flows whose endpoint no longer serves the service that they were opened to."""
    by_address: dict[tuple[IPv4Address, int], frozenset[tuple[IPv4Address, int]]] = {}
    by_node_port: dict[int, frozenset[tuple[IPv4Address, int]]] = {}
    for port in model.ports:
        if port.protocol != "UDP" or not port.serving:
            continue
        serving = frozenset((endpoint.ip, endpoint.port) for endpoint in port.serving)
        for address in _addresses(port):
            by_address[address, port.port] = serving
        if port.node_port:
            by_node_port[port.node_port] = serving
    stale = []
    for flow in flows:
        if flow.protocol != UDP:
            continue
        allowed = by_address.get((flow.dst, flow.dport)) or by_node_port.get(flow.dport)
        if allowed is not None and (flow.reply_src, flow.reply_sport) not in allowed:
            stale.append(flow)
    return stale


def _addresses(port: ServicePort) -> tuple[IPv4Address, ...]:
    return (port.cluster_ip, *port.outside_ips)


def parse_flow(body: bytes) -> Flow | None:
    """A flow from the body of a ctnetlink message; None for one without ports or addresses of IPv4."""
    found = netlink.attributes(body, len(_HEADER))
    orig, reply = found.get(_CTA_TUPLE_ORIG), found.get(_CTA_TUPLE_REPLY)
    if orig is None or reply is None:
        return None
    there, back = _parse_tuple(orig), _parse_tuple(reply)
    if there is None or back is None:
        return None
    protocol, src, sport, dst, dport = there
    return Flow(protocol, src, sport, dst, dport, back[1], back[2], orig)


def _parse_tuple(data: bytes) -> tuple[int, IPv4Address, int, IPv4Address, int] | None:
    parts = netlink.attributes(data)
    ip = netlink.attributes(parts.get(_CTA_TUPLE_IP, b""))
    proto = netlink.attributes(parts.get(_CTA_TUPLE_PROTO, b""))
    needed = (ip.get(_CTA_IP_V4_SRC), ip.get(_CTA_IP_V4_DST), proto.get(_CTA_PROTO_NUM))
    ports = (proto.get(_CTA_PROTO_SRC_PORT), proto.get(_CTA_PROTO_DST_PORT))
    src, dst, number = needed
    if src is None or dst is None or number is None or ports[0] is None or ports[1] is None:
        return None
    sport, dport = (int.from_bytes(port[:2], "big") for port in (ports[0], ports[1]))
    return number[0], IPv4Address(src[:4]), sport, IPv4Address(dst[:4]), dport


# --- the kernel ---------------------------------------------------------------------------------------------------


def apply_cleanup(model: Model, netns: Netns = "") -> int:
    """Delete the stale flows of a namespace; how many there were."""
    if not has_udp(model):
        return 0
    try:
        with _open(netns) as door:
            stale = stale_flows(model, _dump(door))
            for flow in stale:
                _delete(door, flow)
    except OSError as error:
        raise KernelError(f"conntrack: {error}", error.errno or 0) from error
    return len(stale)


def observe_flows(netns: Netns = "") -> list[Flow]:
    """All IPv4 flows that have ports."""
    try:
        with _open(netns) as door:
            return list(_dump(door))
    except OSError as error:
        raise KernelError(f"conntrack: {error}", error.errno or 0) from error


def _open(netns: Netns) -> socket.socket:
    with in_netns(netns):
        door = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    door.settimeout(_TIMEOUT_S)
    return door


def _dump(door: socket.socket) -> Iterator[Flow]:
    door.send(netlink.message(_CT_GET, netlink.NLM_F_DUMP, _HEADER))
    while True:
        for kind, flags, _, body in netlink.messages(door.recv(_RECEIVE_BYTES)):
            if kind == netlink.NLMSG_DONE:
                return
            if kind == netlink.NLMSG_ERROR:
                _raise(flags, body)
                continue
            flow = parse_flow(body)
            if flow is not None:
                yield flow


def _delete(door: socket.socket, flow: Flow) -> None:
    attribute = netlink.attr(_CTA_TUPLE_ORIG | netlink.NLA_F_NESTED, flow.key)
    door.send(netlink.message(_CT_DELETE, netlink.NLM_F_ACK, _HEADER, attribute))
    for kind, flags, _, body in netlink.messages(door.recv(_RECEIVE_BYTES)):
        if kind == netlink.NLMSG_ERROR:
            _raise(flags, body)


def _raise(flags: int, body: bytes) -> None:
    code, text = netlink.error_of(flags, body)
    if code and abs(code) != errno.ENOENT:  # it ended by itself meanwhile
        raise OSError(abs(code), text or "refused")
