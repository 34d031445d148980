"""What is, what should be, and the operations between them.

This file decides. Laws, each a property test: the difference of a state to itself is empty; applied, the difference makes
the desired state; applied twice it changes nothing. Entries go in the order neighbour, forwarding, route - a route that
comes first would lead into a tunnel that does not know its way yet - and leave in the opposite one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet

from podnet.overlay.types import OverlayState, Owned, VxlanDevice
from podnet.topology.kernel import (
    AddAddress,
    AddVxlan,
    DeleteAddress,
    DeleteFdb,
    DeleteLink,
    DeleteNeighbour,
    DeleteRoute,
    FdbEntry,
    IPInterface,
    Link,
    NetnsState,
    Op,
    ReplaceFdb,
    ReplaceNeighbour,
    ReplaceRoute,
    Route,
    SetLink,
    SetSysctl,
)

DEVICE_PREFIX = "flannel."
_KERNEL_ROUTE, _STATIC_ROUTE = 2, 4


def diff_overlay(observed: NetnsState, desired: OverlayState, owned: Owned) -> tuple[Op, ...]:
    """The operations that make the overlay's part of the namespace what is desired; nothing else is touched."""
    ops: list[Op] = []
    for other in observed.links:
        # A device of another VNI is from before the configuration changed.
        if other.vxlan is not None and other.name.startswith(DEVICE_PREFIX) and other.name != owned.vxlan:
            ops.append(DeleteLink(other.name))
            observed = _without(observed, other.name)
    link = observed.link(owned.vxlan)
    if link is not None and (desired.device is None or not _same_device(link, desired.device)):
        ops.append(DeleteLink(owned.vxlan))
        observed, link = _without(observed, owned.vxlan), None
    if desired.device is not None:
        ops += _diff_device(observed, link, desired.device)
    return (*ops, *_diff_entries(observed, desired, owned))


def _same_device(link: Link, device: VxlanDevice) -> bool:
    """Whether it is the same tunnel. These cannot be changed on a living device; MAC, MTU and state can."""
    params = link.vxlan
    return params is not None and (params.vni, params.local, params.device, params.port, params.learning) == (
        device.vni,
        device.local,
        device.device,
        device.port,
        False,
    )


def _without(state: NetnsState, name: str) -> NetnsState:
    """The state after a link is gone: the kernel takes everything on it along."""
    return NetnsState(
        tuple(link for link in state.links if link.name != name),
        tuple(item for item in state.addresses if item[0] != name),
        tuple(route for route in state.routes if route.link != name),
        tuple(item for item in state.neighbours if item.link != name),
        tuple(item for item in state.fdb if item.link != name),
    )


def _diff_device(observed: NetnsState, link: Link | None, device: VxlanDevice) -> list[Op]:
    name, ops = device.name, list[Op]()
    if link is None:
        ops.append(
            AddVxlan(name, device.vni, device.local, device.device, port=device.port, mac=device.mac, mtu=device.mtu)
        )
        # The tunnel carries IPv4; a link-local address would only send its own noise through it.
        ops.append(SetSysctl(f"net.ipv6.conf.{name}.disable_ipv6", "1"))
    else:
        if link.mac != device.mac:
            ops.append(SetLink(name, mac=device.mac))
        if link.mtu != device.mtu:
            ops.append(SetLink(name, mtu=device.mtu))
    present: set[IPInterface] = {
        address for owner, address in observed.addresses if owner == name and address.version == 4
    }
    ops += [DeleteAddress(name, address) for address in sorted(present - {device.address}, key=str)]
    if device.address not in present:
        ops.append(AddAddress(name, device.address))
    if link is None or not link.up:
        ops.append(SetLink(name, up=True))
    return ops


def _diff_entries(observed: NetnsState, desired: OverlayState, owned: Owned) -> list[Op]:
    routes = {route for route in observed.routes if owns_route(route, owned)}
    neighbours = {item for item in observed.neighbours if item.link == owned.vxlan}
    fdb = {item for item in observed.fdb if item.link == owned.vxlan}
    addresses = {item.address for item in desired.neighbours}
    # A device that goes down and up again loses its routes and keeps the rest: the routes are simply missing then.
    return [
        *(DeleteRoute(route) for route in sorted(_stale_routes(routes, desired.routes), key=_route_key)),
        *(DeleteFdb(item) for item in sorted(_stale_fdb(fdb, desired.fdb), key=str)),
        *(DeleteNeighbour(item) for item in sorted(neighbours, key=str) if item.address not in addresses),
        *(ReplaceNeighbour(item) for item in sorted(desired.neighbours - neighbours, key=str)),
        *(ReplaceFdb(item) for item in sorted(desired.fdb - fdb, key=str)),
        *(ReplaceRoute(route) for route in sorted(desired.routes - routes, key=_route_key)),
    ]


def _stale_routes(present: AbstractSet[Route], desired: AbstractSet[Route]) -> set[Route]:
    """Routes to delete. One whose destination is still wanted is replaced in one step instead, so that no packet
    falls between; only where the right one stands beside it, the wrong one is deleted."""
    waiting = {route.destination for route in desired - present}
    return {route for route in present - desired if route.destination not in waiting}


def _stale_fdb(present: AbstractSet[FdbEntry], desired: AbstractSet[FdbEntry]) -> set[FdbEntry]:
    """Likewise: a MAC that moved is replaced, a second destination of one MAC is deleted."""
    waiting = {item.mac for item in desired - present}
    copies = Counter(item.mac for item in present)
    return {item for item in present - desired if item.mac not in waiting or copies[item.mac] > 1}


def owns_route(route: Route, owned: Owned) -> bool:
    """Whether a route is the overlay's: on its device, or a static one into the pod network through an underlay gateway.
    Routes the kernel makes for addresses are never ours, nor are those that somebody added by hand (`proto boot`)."""
    if route.protocol == _KERNEL_ROUTE or route.destination.version != 4:
        return False
    if route.link == owned.vxlan:
        return True
    inside = owned.pod_network.supernet_of(route.destination)
    return inside and route.link == owned.underlay and route.gateway is not None and route.protocol == _STATIC_ROUTE


def _route_key(route: Route) -> tuple[str, str]:
    return str(route.destination), str(route.gateway)


def observed_overlay(observed: NetnsState, owned: Owned) -> OverlayState:
    """The overlay's part of what was observed, in the form of a desired state (for tests and `status`)."""
    link = observed.link(owned.vxlan)
    device = None
    if link is not None and link.vxlan is not None and link.vxlan.local is not None:
        addresses = [address for name, address in observed.addresses if name == link.name and address.version == 4]
        if addresses:
            device = VxlanDevice(
                link.name, link.vxlan.vni, link.vxlan.local, link.vxlan.device, link.vxlan.port, link.mac, link.mtu,
                addresses[0],
            )  # fmt: skip
    return OverlayState(
        device,
        frozenset(route for route in observed.routes if owns_route(route, owned)),
        frozenset(item for item in observed.neighbours if item.link == owned.vxlan),
        frozenset(item for item in observed.fdb if item.link == owned.vxlan),
    )
