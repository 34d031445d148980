"""The one door to the kernel: what podnet asks of Linux networking, as values.

Plans (in cni, overlay, proxy, topology) are pure and end in a tuple of operations; a `Kernel` applies them in one
network namespace as one batch, and observes a namespace as one immutable value. `linux.LinuxKernel` is the real one,
`fake.FakeKernel` the one for tests, and both pass tests/contract/test_kernel.py.

A network namespace is named by a path (`/run/netns/x`, `/proc/42/ns/net`); the empty string is the caller's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Protocol, TypeAlias

Netns: TypeAlias = str
IPAddress: TypeAlias = IPv4Address | IPv6Address
IPInterface: TypeAlias = IPv4Interface | IPv6Interface
IPNetwork: TypeAlias = IPv4Network | IPv6Network

MAX_IFNAME = 15


class KernelError(Exception):
    """The kernel refused one operation: which one, and its errno."""

    def __init__(self, message: str, errno: int = 0, op: object = None) -> None:
        super().__init__(message)
        self.errno = errno
        self.op = op

    @property
    def is_not_found(self) -> bool:
        """ENOENT, ENODEV, ESRCH or EADDRNOTAVAIL: what should be changed or deleted is not there."""
        return self.errno in (2, 19, 3, 99)

    @property
    def is_exists(self) -> bool:
        """EEXIST."""
        return self.errno == 17

    @property
    def is_unsupported(self) -> bool:
        """EOPNOTSUPP: this kernel lacks the feature."""
        return self.errno == 95


# --- operations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddBridge:
    """Create a Linux bridge, up. `forward_delay_s` 0 and no STP: a port forwards at once."""

    name: str
    mac: str = ""
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class AddVeth:
    """Create a veth pair: `name` here, `peer` in `peer_netns` ("" = here too). The near end may be put into a bridge
    and set up in the same operation; the far end is down until a `SetLink` in its own namespace."""

    name: str
    peer: str
    peer_netns: Netns = ""
    mtu: int = 0
    mac: str = ""
    peer_mac: str = ""
    master: str = ""
    hairpin: bool = False
    up: bool = True


@dataclass(frozen=True, slots=True)
class AddVxlan:
    """Create a VXLAN device, `nolearning` unless said otherwise (RFC 7348; flannel's vxlan backend)."""

    name: str
    vni: int
    local: IPAddress
    device: str
    port: int = 8472
    mac: str = ""
    mtu: int = 0
    learning: bool = False


@dataclass(frozen=True, slots=True)
class SetLink:
    """Change what is given, leave the rest. `master` "" releases, None leaves alone; `netns` moves the link."""

    name: str
    up: bool | None = None
    mtu: int | None = None
    mac: str | None = None
    master: str | None = None
    hairpin: bool | None = None
    alias: str | None = None
    rename: str | None = None
    netns: Netns | None = None


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """Delete a link (its veth peer goes too)."""

    name: str


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Add an address with its prefix length to a link."""

    link: str
    address: IPInterface


@dataclass(frozen=True, slots=True)
class DeleteAddress:
    """Remove an address."""

    link: str
    address: IPInterface


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the main table; also the operand of Replace/DeleteRoute."""

    destination: IPNetwork
    link: str = ""
    gateway: IPAddress | None = None
    onlink: bool = False
    source: IPAddress | None = None
    protocol: int = 4  # RTPROT_STATIC; kernel routes are 2


@dataclass(frozen=True, slots=True)
class ReplaceRoute:
    """Add the route, or replace the one to the same destination."""

    route: Route


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    """Remove the route to this destination (through this link and gateway, where the operand names them)."""

    route: Route


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent ARP/ND entry."""

    link: str
    address: IPAddress
    mac: str


@dataclass(frozen=True, slots=True)
class ReplaceNeighbour:
    """Add or replace a permanent neighbour."""

    neighbour: Neighbour


@dataclass(frozen=True, slots=True)
class DeleteNeighbour:
    """Remove a neighbour."""

    neighbour: Neighbour


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """A permanent forwarding entry of a VXLAN device: frames to `mac` go to the VTEP `destination`."""

    link: str
    mac: str
    destination: IPAddress


@dataclass(frozen=True, slots=True)
class ReplaceFdb:
    """Add or replace the entry of this MAC."""

    entry: FdbEntry


@dataclass(frozen=True, slots=True)
class DeleteFdb:
    """Remove an entry."""

    entry: FdbEntry


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """Write a namespaced sysctl, by its dotted name, e.g. `net.ipv4.ip_forward`."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class LimitRate:
    """Shape what leaves a link with tbf to `rate_bit_s`, 0 = remove the limit.

    With `delay_ms` the queue is netem, which delays and limits; EOPNOTSUPP where the kernel was built without it.
    """

    link: str
    rate_bit_s: int
    burst_bytes: int = 0
    latency_ms: int = 25
    delay_ms: float = 0.0


Op: TypeAlias = (
    AddBridge
    | AddVeth
    | AddVxlan
    | SetLink
    | DeleteLink
    | AddAddress
    | DeleteAddress
    | ReplaceRoute
    | DeleteRoute
    | ReplaceNeighbour
    | DeleteNeighbour
    | ReplaceFdb
    | DeleteFdb
    | SetSysctl
    | LimitRate
)


# --- what is seen -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Vxlan:
    """The parameters of a VXLAN device."""

    vni: int
    local: IPAddress | None
    device: str
    port: int
    learning: bool


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. `kind` is the kernel's (`veth`, `bridge`, `vxlan`, `` for lo); `peer_index` is the ifindex of
    the veth's other end in its own namespace (IFLA_LINK); `operstate` is `UP`, `DOWN`, `LOWERLAYERDOWN`, …;
    `port_state` is a bridge port's (`forwarding`, `learning`, `disabled`, …), empty for what is no port."""

    name: str
    index: int
    kind: str
    mac: str
    mtu: int
    up: bool
    operstate: str = ""
    master: str = ""
    peer_index: int = 0
    hairpin: bool = False
    alias: str = ""
    vxlan: Vxlan | None = None
    port_state: str = ""


@dataclass(frozen=True, slots=True)
class NetnsState:
    """Everything `observe` sees, in kernel order (links by index). Neighbours and fdb hold permanent entries only."""

    links: tuple[Link, ...] = ()
    addresses: tuple[tuple[str, IPInterface], ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    fdb: tuple[FdbEntry, ...] = ()

    def link(self, name: str) -> Link | None:
        """The link of this name, or None."""
        return next((link for link in self.links if link.name == name), None)


class Kernel(Protocol):
    """The door. Methods block for microseconds to milliseconds; none waits for anything but the kernel."""

    def apply(self, netns: Netns, ops: Sequence[Op]) -> None:
        """Apply the operations in order in one namespace. Raises KernelError at the first that is refused; those
        before it stand (plans are level-triggered: run again)."""
        ...

    def observe(self, netns: Netns) -> NetnsState:
        """Links, addresses, routes, permanent neighbours and FDB entries of a namespace."""
        ...

    def sysctl(self, netns: Netns, key: str) -> str:
        """Read a sysctl. KernelError(is_not_found) where this kernel has none of that name."""
        ...

    def nft(self, netns: Netns, script: str) -> str:
        """Run an nft script as one transaction and return what it printed (for `list …`). KernelError on refusal,
        with nft's own message."""
        ...

    def forget(self, netns: Netns) -> None:
        """Let go of a namespace that is about to be deleted: whatever is kept between calls would keep it alive."""
        ...
