"""What the controller decides about one frame: pure tables, no OpenFlow and no sockets.

Each switch learns which port a MAC address was seen on. A frame to a known address gets a flow and goes out there; all
others are flooded. ARP requests for machines whose addresses are known are answered by the controller itself, so that
no request floods the network (which is what an SDN does better than a bridge).

Only requests that arrive straight from a machine are answered. An answer bears the absent machine's MAC as its source;
sent out of a trunk it would teach the bridge at the other end that the machine is over here.

    packet-in ──► learn(source, port) ──► ARP request for a known address?  answer
                                          destination known?                install a flow, forward
                                          else                              flood
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BROADCAST = "ff:ff:ff:ff:ff:ff"
_MACS_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of a frame that decides. `arp_target` is the address an ARP request asks for, `arp_sender` who asks."""

    in_port: int
    source: str
    destination: str
    arp_target: str = ""
    arp_sender: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer an ARP request out of the port it came in by."""

    port: int
    mac: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Send out of `port`, and install the flow that does so from now on."""

    port: int


@dataclass(frozen=True, slots=True)
class Flood:
    """Send out of every other port."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Send nowhere: the destination is where the frame came from."""


Decision = Answer | Forward | Flood | Drop


def is_group(mac: str) -> bool:
    """Whether an address is broadcast or multicast."""
    return bool(int(mac[:2], 16) & 1)


@dataclass(slots=True)
class SwitchTable:
    """What one switch has learned."""

    ports: dict[str, int] = field(default_factory=dict)
    trunks: set[int] = field(default_factory=set)

    def learn(self, mac: str, port: int) -> bool:
        """Note where a MAC was seen; True where it was elsewhere before, so that its flows are stale."""
        if is_group(mac) or (mac not in self.ports and len(self.ports) >= _MACS_MAX):
            return False
        before = self.ports.get(mac, port)
        self.ports[mac] = port
        return before != port

    def forget_port(self, port: int) -> list[str]:
        """Forget what was seen on a port that is gone."""
        gone = [mac for mac, where in self.ports.items() if where == port]
        for mac in gone:
            del self.ports[mac]
        return gone

    def decide(self, frame: Frame, known: Mapping[str, str]) -> Decision:
        """What to do with a frame whose source has been learned; `known` maps addresses to MACs."""
        if frame.arp_target and frame.in_port not in self.trunks:
            mac = known.get(frame.arp_target, "")
            # A request for one's own address is a duplicate check or an announcement: others must see it.
            if mac and mac != frame.source and frame.arp_sender != frame.arp_target:
                return Answer(frame.in_port, mac)
        if is_group(frame.destination):
            return Flood()
        port = self.ports.get(frame.destination)
        if port is None:
            return Flood()
        return Drop() if port == frame.in_port else Forward(port)
