"""What a capture shows of name lookups: which question went past which point, and what came back.

scapy decodes, also inside VXLAN. The rule kept here: what is in the capture and nothing else; a question without an answer
stays one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 255: "ANY"}


@dataclass(frozen=True, slots=True)
class DNSPacket:
    """One message at one point. `rcode` is empty in a question; `answers` are the data of its answer section in order,
    `ttls` their times to live; `negative_ttl` is for how long a denial may be kept (its SOA's minimum), or None."""

    point: str
    time: float
    source: str
    destination: str
    transport: str
    id: int
    name: str
    type: str
    rcode: str = ""
    answers: tuple[str, ...] = ()
    ttls: tuple[int, ...] = ()
    negative_ttl: int | None = None
    truncated: bool = False

    @property
    def is_answer(self) -> bool:
        """Or a question."""
        return bool(self.rcode)


@dataclass(frozen=True, slots=True)
class Lookup:
    """A question at a point and its answer there, None when none was seen."""

    question: DNSPacket
    answer: DNSPacket | None

    @property
    def rcode(self) -> str:
        """Of the answer; `no answer` without one."""
        return self.answer.rcode if self.answer else "no answer"


def decode_lookups(path: Path) -> list[DNSPacket]:
    """Every DNS message of a capture over UDP (and over TCP where it fits one segment), in order of time."""
    # Late: scapy takes a second. Before the first packet is read: these bind UDP 53 and 8472.
    from scapy.layers import dns as _dns  # noqa: F401
    from scapy.layers import vxlan as _vxlan  # noqa: F401
    from scapy.utils import PcapNgReader

    with PcapNgReader(str(path)) as reader:
        packets = [found for packet in reader if (found := _dns_packet(packet)) is not None]
    return sorted(packets, key=lambda packet: packet.time)


def lookups(packets: Iterable[DNSPacket], point: str) -> list[Lookup]:
    """Questions seen at a point, each with its answer there; a question sent again is the same lookup."""
    found: dict[tuple[str, str, int, str, str], DNSPacket] = {}
    answers: dict[tuple[str, str, int, str, str], DNSPacket] = {}
    for packet in packets:
        if packet.point != point:
            continue
        name = packet.name.lower()
        if packet.is_answer:
            answers.setdefault((packet.destination, packet.source, packet.id, name, packet.type), packet)
        else:
            found.setdefault((packet.source, packet.destination, packet.id, name, packet.type), packet)
    return [Lookup(question, answers.get(key)) for key, question in found.items()]


def _dns_packet(packet: Any) -> DNSPacket | None:
    from scapy.layers.dns import DNS
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.vxlan import VXLAN

    ip = packet[VXLAN].payload if VXLAN in packet else packet
    if IP not in ip or DNS not in ip:
        return None
    ip = ip[IP]
    dns = ip[DNS]
    if not dns.qdcount or not dns.qd:
        return None
    question = dns.qd[0]
    transport = ip[UDP] if UDP in ip else ip[TCP]
    source, destination = (f"{host}:{port}" for host, port in ((ip.src, transport.sport), (ip.dst, transport.dport)))
    records = list(dns.an or ())
    return DNSPacket(
        point=str(packet.sniffed_on),
        time=float(packet.time),
        source=source,
        destination=destination,
        transport="udp" if UDP in ip else "tcp",
        id=int(dns.id),
        name=_text(question.qname),
        type=TYPES.get(int(question.qtype), f"TYPE{question.qtype}"),
        rcode=RCODES.get(int(dns.rcode), f"RCODE{dns.rcode}") if dns.qr else "",
        answers=tuple(_data(each) for each in records),
        ttls=tuple(int(each.ttl) for each in records),
        negative_ttl=next((int(each.minimum) for each in dns.ns or () if each.type == 6), None),
        truncated=bool(dns.tc),
    )


def _data(record: Any) -> str:
    if record.type == 33:
        return f"{record.priority} {record.weight} {record.port} {_text(record.target)}"
    data = getattr(record, "rdata", "")
    return " ".join(map(_text, data)) if isinstance(data, list) else _text(data)


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
