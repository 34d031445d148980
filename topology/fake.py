"""FakeKernel: a `Kernel` in memory, for tests.

It keeps the rules of the real one that plans depend on - several namespaces, veth pairs whose ends die together, ports,
connected routes that come and go with their link, the errno of each refusal - and is trusted because it passes the
same suite (tests/contract/test_kernel.py). It does not forward packets, gives links no IPv6 link-local address, and
does not interpret nft scripts: it keeps them, in `scripts`.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, ip_network

from podnet.topology import kernel as k
from podnet.topology.kernel import KernelError, Netns, NetnsState, Op

_SYSCTLS = {
    "net.ipv4.ip_forward": "0",
    "net.ipv4.ip_local_port_range": "32768\t60999",
    "net.ipv4.ip_unprivileged_port_start": "1024",
    "net.ipv4.ping_group_range": "1\t0",
    "net.ipv6.conf.all.forwarding": "0",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
    "net.bridge.bridge-nf-call-arptables": "1",
    "net.netfilter.nf_conntrack_max": "262144",
}
_LEAVES = {
    "net.ipv4.conf": {"rp_filter": "0", "route_localnet": "0", "proxy_arp": "0", "forwarding": "0", "arp_notify": "0",
                      "send_redirects": "1", "accept_redirects": "1", "accept_local": "0", "arp_ignore": "0"},
    "net.ipv6.conf": {"accept_dad": "1", "accept_ra": "1", "disable_ipv6": "0", "keep_addr_on_down": "0"},
}  # fmt: skip
_KERNEL_ROUTE = 2
_BRIDGE_PORTS_MAX = 1023


def _refuse(code: int, what: str) -> KernelError:
    return KernelError(f"{what}: {os.strerror(code)}", code)


@dataclass(slots=True, eq=False)
class _Device:
    """One interface; `peer` is the other end of a veth, `space` where it lives."""

    name: str
    index: int
    kind: str
    mac: str
    mtu: int
    space: _Space
    up: bool = False
    master: _Device | None = None
    peer: _Device | None = None
    hairpin: bool = False
    alias: str = ""
    vxlan: k.Vxlan | None = None
    rate_bit_s: int = 0

    @property
    def operstate(self) -> str:
        if not self.up:
            return "DOWN"
        if self.kind == "veth":
            return "UP" if self.peer and self.peer.up else "LOWERLAYERDOWN"
        if self.kind == "bridge":
            ports = [device for device in self.space.devices.values() if device.master is self]
            return "UP" if any(port.operstate == "UP" for port in ports) else "DOWN"
        return "UNKNOWN"

    @property
    def port_state(self) -> str:
        if self.master is None:
            return ""
        return "forwarding" if self.up and self.master.up and self.operstate == "UP" else "disabled"


@dataclass(slots=True, eq=False)
class _Space:
    """One network namespace."""

    devices: dict[str, _Device] = field(default_factory=dict)
    addresses: list[tuple[_Device, k.IPInterface]] = field(default_factory=list)
    routes: list[k.Route] = field(default_factory=list)
    neighbours: dict[tuple[str, k.IPAddress], k.Neighbour] = field(default_factory=dict)
    fdb: dict[tuple[str, str, str], k.FdbEntry] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=lambda: dict(_SYSCTLS))
    scripts: list[str] = field(default_factory=list)
    indexes: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    def device(self, name: str) -> _Device:
        if name not in self.devices:
            raise _refuse(errno.ENODEV, f"link {name!r}")
        return self.devices[name]


class FakeKernel:
    """The `Kernel` of tests. "" is the caller's own namespace; others are made by `create_netns`."""

    def __init__(self) -> None:
        self._spaces: dict[Netns, _Space] = {}
        self._macs = itertools.count(1)
        self.create_netns("")

    # --- the world around the kernel -------------------------------------------------------------------------

    def create_netns(self, netns: Netns) -> None:
        """A new namespace with a loopback that is down."""
        space = self._spaces[netns] = _Space()
        space.devices["lo"] = _Device("lo", 1, "", "00:00:00:00:00:00", 65536, space)

    def delete_netns(self, netns: Netns) -> None:
        """Delete a namespace, its links, and their peers elsewhere."""
        space = self._spaces.pop(netns)
        for device in list(space.devices.values()):
            self._drop(device)

    def scripts(self, netns: Netns) -> tuple[str, ...]:
        """The nft scripts run in a namespace, in order."""
        return tuple(self._space(netns).scripts)

    def rate_bit_s(self, netns: Netns, link: str) -> int:
        """The tbf rate of a link, 0 without one."""
        return self._space(netns).device(link).rate_bit_s

    # --- Kernel ----------------------------------------------------------------------------------------------

    def apply(self, netns: Netns, ops: Sequence[Op]) -> None:
        """Apply in order; stop at the first refusal."""
        space = self._space(netns)
        for op in ops:
            try:
                self._apply_one(space, op)
            except KernelError as error:
                raise KernelError(f"{type(op).__name__}: {error}", error.errno, op) from error

    def observe(self, netns: Netns) -> NetnsState:
        """The namespace as one value."""
        space = self._space(netns)
        devices = sorted(space.devices.values(), key=lambda device: device.index)
        return NetnsState(
            links=tuple(_link(device) for device in devices),
            addresses=tuple((device.name, address) for device, address in space.addresses),
            routes=tuple(space.routes),
            neighbours=tuple(space.neighbours.values()),
            fdb=tuple(space.fdb.values()),
        )

    def sysctl(self, netns: Netns, key: str) -> str:
        """Read a sysctl."""
        space = self._space(netns)
        if key in space.sysctls:
            return space.sysctls[key]
        return _interface_default(space, key)

    def nft(self, netns: Netns, script: str) -> str:
        """Keep the script; nothing is printed."""
        self._space(netns).scripts.append(script)
        return ""

    def forget(self, netns: Netns) -> None:
        """Nothing is kept."""

    # --- how each operation works ----------------------------------------------------------------------------

    def _space(self, netns: Netns) -> _Space:
        if netns not in self._spaces:
            raise _refuse(errno.ENOENT, f"network namespace {netns!r}")
        return self._spaces[netns]

    def _apply_one(self, space: _Space, op: Op) -> None:
        match op:
            case k.AddBridge():
                self._new_device(space, op.name, "bridge", op.mac, op.mtu).up = True
            case k.AddVeth():
                self._add_veth(space, op)
            case k.AddVxlan():
                self._add_vxlan(space, op)
            case k.SetLink():
                self._set_link(space, op)
            case k.DeleteLink():
                self._delete_link(space, op.name)
            case k.AddAddress() | k.DeleteAddress():
                _change_address(space, op)
            case k.ReplaceRoute() | k.DeleteRoute():
                _change_route(space, op)
            case k.ReplaceNeighbour() | k.DeleteNeighbour():
                _change_neighbour(space, op)
            case k.ReplaceFdb() | k.DeleteFdb():
                _change_fdb(space, op)
            case k.SetSysctl():
                if op.key not in space.sysctls:
                    _interface_default(space, op.key)
                space.sysctls[op.key] = op.value
            case k.LimitRate():
                device = space.device(op.link)
                if not op.rate_bit_s and not device.rate_bit_s:
                    raise _refuse(errno.ENOENT, f"no queue on {op.link!r}")
                device.rate_bit_s = op.rate_bit_s

    def _new_device(self, space: _Space, name: str, kind: str, mac: str, mtu: int) -> _Device:
        _check_name(name)
        if name in space.devices:
            raise _refuse(errno.EEXIST, f"link {name!r}")
        mac = (mac or f"02:fa:ce:00:{(number := next(self._macs)) >> 8:02x}:{number & 255:02x}").lower()
        device = space.devices[name] = _Device(name, next(space.indexes), kind, mac, mtu or 1500, space)
        return device

    def _add_veth(self, space: _Space, op: k.AddVeth) -> None:
        _check_name(op.name)
        _check_name(op.peer)
        there = self._space(op.peer_netns) if op.peer_netns else space
        master = space.device(op.master) if op.master else None
        if op.name in space.devices or op.peer in there.devices or (there is space and op.name == op.peer):
            raise _refuse(errno.EEXIST, f"veth {op.name!r}, {op.peer!r}")
        peer = self._new_device(there, op.peer, "veth", op.peer_mac, op.mtu)
        near = self._new_device(space, op.name, "veth", op.mac, op.mtu)
        near.peer, peer.peer = peer, near
        if master is not None:
            _enslave(near, master)
        near.hairpin = op.hairpin
        _set_up(near, up=op.up)

    def _add_vxlan(self, space: _Space, op: k.AddVxlan) -> None:
        device = space.device(op.device) if op.device else None
        for other in space.devices.values():
            if other.vxlan and (other.vxlan.vni, other.vxlan.port) == (op.vni, op.port):
                raise _refuse(errno.EEXIST, f"VNI {op.vni} on port {op.port}")
        mtu = op.mtu or (device.mtu - 50 if device else 1500)
        new = self._new_device(space, op.name, "vxlan", op.mac, mtu)
        new.vxlan = k.Vxlan(op.vni, op.local, op.device, op.port, op.learning)

    def _set_link(self, space: _Space, op: k.SetLink) -> None:
        device = space.device(op.name)
        if op.master is not None:
            if op.master:
                _enslave(device, space.device(op.master))
            else:
                device.master, device.hairpin = None, False
        if op.hairpin is not None:
            if device.master is None:
                raise _refuse(errno.EOPNOTSUPP, f"{op.name!r} is no bridge port")
            device.hairpin = op.hairpin
        if op.netns is not None:
            self._move(device, self._space(op.netns), op.rename or op.name)
        elif op.rename is not None:
            self._rename(device, op.rename)
        device.mac = op.mac.lower() if op.mac else device.mac
        device.mtu = op.mtu or device.mtu
        device.alias = op.alias if op.alias is not None else device.alias
        if op.up is not None:
            _set_up(device, up=op.up)

    def _rename(self, device: _Device, name: str) -> None:
        _check_name(name)
        if name in device.space.devices:
            raise _refuse(errno.EEXIST, f"link {name!r}")
        del device.space.devices[device.name]
        device.name = name
        device.space.devices[name] = device

    def _move(self, device: _Device, there: _Space, name: str) -> None:
        if device.name == "lo":
            raise _refuse(errno.EINVAL, "lo")
        if name in there.devices:
            raise _refuse(errno.EEXIST, f"link {name!r}")
        _set_up(device, up=False)
        _forget_device(device)
        device.master, device.hairpin = None, False
        device.space, device.name = there, name
        if device.index in {other.index for other in there.devices.values()}:
            device.index = next(there.indexes)
        there.devices[name] = device

    def _delete_link(self, space: _Space, name: str) -> None:
        device = space.device(name)
        if name == "lo":
            raise _refuse(errno.EOPNOTSUPP, "lo")
        self._drop(device)

    def _drop(self, device: _Device) -> None:
        for end in (device, device.peer):
            if end is None:
                continue
            for port in end.space.devices.values():
                if port.master is end:
                    port.master, port.hairpin = None, False
            _forget_device(end)
        device.peer = None


def _check_name(name: str) -> None:
    if not 0 < len(name.encode()) <= k.MAX_IFNAME or name in (".", "..") or any(c in "/: \t\n" for c in name):
        raise _refuse(errno.EINVAL, f"not an interface name: {name!r}")


def _enslave(device: _Device, master: _Device) -> None:
    if master.kind != "bridge":
        raise _refuse(errno.EOPNOTSUPP, f"{master.name!r} is no bridge")
    if sum(other.master is master for other in device.space.devices.values()) >= _BRIDGE_PORTS_MAX:
        raise _refuse(54, f"bridge {master.name!r}")
    device.master = master


def _set_up(device: _Device, *, up: bool) -> None:
    if up == device.up:
        return
    device.up = up
    space = device.space
    if device.name == "lo":
        loopback = IPv4Interface("127.0.0.1/8")
        space.addresses = [item for item in space.addresses if item != (device, loopback)]
        if up:
            space.addresses.append((device, loopback))
        return
    if up:
        for owner, address in space.addresses:
            if owner is device:
                _connect(space, device, address)
    else:
        space.routes = [route for route in space.routes if route.link != device.name]


def _connect(space: _Space, device: _Device, address: k.IPInterface) -> None:
    if device.up and address.network.prefixlen < address.network.max_prefixlen:
        route = k.Route(
            address.network, device.name, source=address.ip if address.version == 4 else None, protocol=_KERNEL_ROUTE
        )
        space.routes.append(route)


def _forget_device(device: _Device) -> None:
    space = device.space
    space.devices.pop(device.name, None)
    space.addresses = [item for item in space.addresses if item[0] is not device]
    space.routes = [route for route in space.routes if route.link != device.name]
    space.neighbours = {key: item for key, item in space.neighbours.items() if item.link != device.name}
    space.fdb = {key: item for key, item in space.fdb.items() if item.link != device.name}
    space.sysctls = {key: value for key, value in space.sysctls.items() if f".{device.name}." not in key}


def _change_address(space: _Space, op: k.AddAddress | k.DeleteAddress) -> None:
    device = space.device(op.link)
    entry = (device, op.address)
    if isinstance(op, k.AddAddress):
        if entry in space.addresses:
            raise _refuse(errno.EEXIST, f"{op.address} on {op.link!r}")
        space.addresses.append(entry)
        _connect(space, device, op.address)
        return
    if entry not in space.addresses:
        raise _refuse(errno.EADDRNOTAVAIL, f"{op.address} on {op.link!r}")
    space.addresses.remove(entry)
    space.routes = [
        route
        for route in space.routes
        if not (route.source == op.address.ip and route.link == op.link)
        and not (route.protocol == _KERNEL_ROUTE and route.destination == op.address.network and route.link == op.link)
    ]


def _change_route(space: _Space, op: k.ReplaceRoute | k.DeleteRoute) -> None:
    wanted = op.route
    if wanted.link:
        space.device(wanted.link)
    if isinstance(op, k.DeleteRoute):
        found = next((route for route in space.routes if _is_route(route, wanted)), None)
        if found is None:
            raise _refuse(errno.ESRCH, f"route to {wanted.destination}")
        space.routes.remove(found)
        return
    route = _resolved(space, wanted)
    for position, other in enumerate(space.routes):
        if other.destination == route.destination:
            space.routes[position] = route
            return
    space.routes.append(route)


def _is_route(route: k.Route, wanted: k.Route) -> bool:
    return (
        route.destination == wanted.destination
        and wanted.link in ("", route.link)
        and wanted.gateway in (None, route.gateway)
    )


def _resolved(space: _Space, route: k.Route) -> k.Route:
    """The route as the kernel keeps it: with the link by which its gateway is reached; refused where there is none."""
    if route.link:
        if not space.device(route.link).up:
            raise _refuse(errno.ENETDOWN, f"link {route.link!r}")
        if route.gateway is None or route.onlink:
            return route
    elif route.gateway is None:
        raise _refuse(errno.ENODEV, f"route to {route.destination}")
    for other in space.routes:
        direct = other.gateway is None and other.destination.version == route.destination.version
        if direct and route.gateway in ip_network(other.destination) and route.link in ("", other.link):
            return k.Route(
                route.destination, other.link, route.gateway, route.onlink, route.source, route.protocol
            )  # fmt: skip
    raise _refuse(errno.ENETUNREACH, f"gateway {route.gateway}")


def _change_neighbour(space: _Space, op: k.ReplaceNeighbour | k.DeleteNeighbour) -> None:
    entry = op.neighbour
    space.device(entry.link)
    key = (entry.link, entry.address)
    if isinstance(op, k.ReplaceNeighbour):
        space.neighbours[key] = entry
    elif space.neighbours.pop(key, None) is None:
        raise _refuse(errno.ENOENT, f"neighbour {entry.address} on {entry.link!r}")


def _change_fdb(space: _Space, op: k.ReplaceFdb | k.DeleteFdb) -> None:
    entry = op.entry
    if space.device(entry.link).kind != "vxlan":
        raise _refuse(errno.EOPNOTSUPP, f"{entry.link!r} is no VXLAN device")
    flood = entry.mac == "00:00:00:00:00:00"
    key = (entry.link, entry.mac.lower(), str(entry.destination) if flood else "")
    if isinstance(op, k.ReplaceFdb):
        space.fdb[key] = entry
        return
    if space.fdb.get(key) is None or space.fdb[key].destination != entry.destination:
        raise _refuse(errno.ENOENT, f"fdb {entry.mac} on {entry.link!r}")
    del space.fdb[key]


def _interface_default(space: _Space, key: str) -> str:
    """The default of `net.ipv4.conf.<interface>.<leaf>`; ENOENT for names the kernel does not have."""
    for prefix, leaves in _LEAVES.items():
        if key.startswith(prefix + "."):
            interface, _, leaf = key[len(prefix) + 1 :].rpartition(".")
            if leaf in leaves and (interface in ("all", "default") or interface in space.devices):
                return space.sysctls.get(f"{prefix}.default.{leaf}", leaves[leaf])
    raise _refuse(errno.ENOENT, f"sysctl {key}")


def _link(device: _Device) -> k.Link:
    return k.Link(
        name=device.name,
        index=device.index,
        kind=device.kind,
        mac=device.mac,
        mtu=device.mtu,
        up=device.up,
        operstate=device.operstate if device.name != "lo" or not device.up else "UNKNOWN",
        master=device.master.name if device.master else "",
        peer_index=device.peer.index if device.peer else 0,
        hairpin=device.hairpin,
        alias=device.alias,
        vxlan=device.vxlan,
        port_state=device.port_state,
    )
