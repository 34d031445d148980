"""What a capture at several points shows of one conversation: where each packet was seen, in what wrapping.

scapy decodes; VXLAN is recognised on its IANA port 4789 and on Linux's older 8472, which flannel uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Sighting:
    """One packet at one point. `outer` is (source, destination, VNI) of the VXLAN packet around it, None without.
    `summary` is e.g. `echo-request id 7 seq 1`; `ttl` is the inner one; times are seconds since the epoch.
    """

    point: str
    time: float
    source: str
    destination: str
    protocol: str
    summary: str
    ttl: int
    length: int
    outer: tuple[str, str, int] | None = None

    @property
    def encapsulated(self) -> bool:
        """Was it seen inside VXLAN?"""
        return self.outer is not None


def decode_capture(path: Path) -> list[Sighting]:
    """Every IPv4 packet of a capture, in order of time; ARP and the like are left out."""
    from scapy.layers import vxlan as _vxlan  # noqa: F401  # late: scapy takes a second; this binds UDP 8472
    from scapy.utils import PcapNgReader

    with PcapNgReader(str(path)) as reader:
        sightings = [sighting for packet in reader if (sighting := _sighting(packet))]
    return sorted(sightings, key=lambda sighting: sighting.time)


def _sighting(packet: Any) -> Sighting | None:
    from scapy.layers.inet import IP
    from scapy.layers.vxlan import VXLAN

    if IP not in packet:
        return None
    outer = None
    inner = packet[IP]
    if VXLAN in packet:
        outer = (str(inner.src), str(inner.dst), int(packet[VXLAN].vni))
        payload = packet[VXLAN].payload
        if IP not in payload:
            return None
        inner = payload[IP]
    protocol, summary = _summary(inner)
    return Sighting(
        point=str(packet.sniffed_on),
        time=float(packet.time),
        source=str(inner.src),
        destination=str(inner.dst),
        protocol=protocol,
        summary=summary,
        ttl=int(inner.ttl),
        length=len(packet),
        outer=outer,
    )


def _summary(ip: Any) -> tuple[str, str]:
    from scapy.layers.inet import ICMP, TCP, UDP

    if ICMP in ip:
        icmp = ip[ICMP]
        names = {8: "echo-request", 0: "echo-reply"}
        return "icmp", f"{names.get(icmp.type, f'type {icmp.type}')} id {icmp.id} seq {icmp.seq}"
    if TCP in ip:
        tcp = ip[TCP]
        return "tcp", f"{tcp.sport} > {tcp.dport} [{tcp.flags}] seq {tcp.seq} len {len(tcp.payload)}"
    if UDP in ip:
        return "udp", f"{ip[UDP].sport} > {ip[UDP].dport} len {len(ip[UDP].payload)}"
    return str(ip.proto), ""
