"""The words of CNI: errors with the spec's codes, results and configurations in every version from 0.3.1 to 1.1.0.

This file decides; it touches neither the kernel nor the disk. One `Result` value stands for all versions; `render` and
`parse` know what each of them writes differently:

    0.3.1, 0.4.0   ips[].version "4"/"6", `dns` always present
    1.0.0          no ips[].version, empty `dns` left out
    1.1.0          + interfaces[].mtu, routes[].mtu/priority/...

Source: CNI SPEC 1.1.0 sections 2 and 5, and the result types of the earlier versions.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from podnet.topology.kernel import IPAddress, IPInterface, IPNetwork

SUPPORTED_VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
_LEGACY = frozenset(("0.3.0", "0.3.1", "0.4.0"))

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_NETWORK_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN_LATER = 11
PLUGIN_NOT_AVAILABLE = 50
PLUGIN_LIMITED = 51
# 100 and above are the plugin's own.
POOL_EXHAUSTED = 100
ALREADY_EXISTS = 101
CHECK_FAILED = 102
KERNEL_REFUSED = 103
INTERNAL = 999


class CNIError(Exception):
    """An error as the protocol carries it: `code` from the spec's table, a short message, longer details. As text it is
    both, as libcni prints it."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(f"{msg}; {details}" if details else msg)
        self.code = code
        self.msg = msg
        self.details = details

    def to_json(self, cni_version: str) -> dict[str, Any]:
        """The object a plugin prints before it exits with a failure."""
        body: dict[str, Any] = {"cniVersion": cni_version, "code": self.code, "msg": self.msg}
        return body | ({"details": self.details} if self.details else {})


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface of a result; `sandbox` is the netns path, empty on the node's side."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class IPConfig:
    """One address of a result; `interface` indexes into the result's interfaces."""

    address: IPInterface
    gateway: IPAddress | None = None
    interface: int | None = None


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """One route of a result or an IPAM configuration; no gateway means the address's own."""

    dst: IPNetwork
    gw: IPAddress | None = None
    extra: tuple[tuple[str, int], ...] = ()  # 1.1.0: mtu, advmss, priority, table, scope


@dataclass(frozen=True, slots=True)
class DNS:
    """The dns object, passed through."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What ADD prints, whatever the version."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IPConfig, ...] = ()
    routes: tuple[RouteConfig, ...] = ()
    dns: DNS = field(default_factory=DNS)

    def after(self, previous: Result) -> Result:
        """Append this result to that of an earlier plugin of the chain: interface indexes move along."""
        shift = len(previous.interfaces)
        ips = tuple(
            IPConfig(ip.address, ip.gateway, None if ip.interface is None else ip.interface + shift) for ip in self.ips
        )
        return Result(
            previous.interfaces + self.interfaces,
            previous.ips + ips,
            previous.routes + tuple(route for route in self.routes if route not in previous.routes),
            self.dns if self.dns != DNS() else previous.dns,
        )


# --- rendering --------------------------------------------------------------------------------------------------------


def render_result(result: Result, version: str) -> dict[str, Any]:
    """The result as JSON of the given version."""
    legacy = version in _LEGACY
    body: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        body["interfaces"] = [_render_interface(interface, version) for interface in result.interfaces]
    if result.ips:
        body["ips"] = [_render_ip(ip, legacy=legacy) for ip in result.ips]
    if result.routes:
        body["routes"] = [_render_route(route, version) for route in result.routes]
    dns = _render_dns(result.dns)
    if dns or legacy:
        body["dns"] = dns
    return body


def _render_interface(interface: Interface, version: str) -> dict[str, Any]:
    body: dict[str, Any] = {"name": interface.name}
    if interface.mac:
        body["mac"] = interface.mac
    if interface.mtu and version == "1.1.0":
        body["mtu"] = interface.mtu
    if interface.sandbox:
        body["sandbox"] = interface.sandbox
    return body


def _render_ip(ip: IPConfig, *, legacy: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"version": str(ip.address.version)} if legacy else {}
    if ip.interface is not None:
        body["interface"] = ip.interface
    body["address"] = str(ip.address)
    if ip.gateway is not None:
        body["gateway"] = str(ip.gateway)
    return body


def _render_route(route: RouteConfig, version: str) -> dict[str, Any]:
    body: dict[str, Any] = {"dst": str(route.dst)}
    if route.gw is not None:
        body["gw"] = str(route.gw)
    return body | (dict(route.extra) if version == "1.1.0" else {})


def _render_dns(dns: DNS) -> dict[str, Any]:
    parts = {
        "nameservers": list(dns.nameservers),
        "domain": dns.domain,
        "search": list(dns.search),
        "options": list(dns.options),
    }
    return {key: value for key, value in parts.items() if value}


# --- parsing ------------------------------------------------------------------------------------------------------------


def parse_result(body: Any, path: str = "prevResult") -> Result:
    """Read a result of any version. CNIError 6 (decoding) names the field's path."""
    obj = expect(body, dict, path)
    return Result(
        tuple(_parse_interface(item, where) for item, where in _items(obj, "interfaces", path)),
        tuple(_parse_ip(item, where) for item, where in _items(obj, "ips", path)),
        tuple(parse_route(item, where) for item, where in _items(obj, "routes", path)),
        parse_dns(obj.get("dns") or {}, f"{path}.dns"),
    )


def parse_route(body: Any, path: str) -> RouteConfig:
    """`{"dst": CIDR, "gw": address}`, plus 1.1.0's numbers."""
    obj = expect(body, dict, path)
    gateway = obj.get("gw")
    extra = tuple(
        (key, expect(obj[key], int, f"{path}.{key}"))
        for key in ("mtu", "advmss", "priority", "table", "scope")
        if key in obj
    )
    return RouteConfig(
        parse_network(obj.get("dst"), f"{path}.dst"),
        parse_address(gateway, f"{path}.gw") if gateway else None,
        extra,
    )


def parse_dns(body: Any, path: str) -> DNS:
    """The dns object of a configuration or a result."""
    obj = expect(body, dict, path)
    lists = {
        key: tuple(expect(item, str, where) for item, where in _items(obj, key, path))
        for key in ("nameservers", "search", "options")
    }
    domain = expect(obj.get("domain", ""), str, f"{path}.domain")
    return DNS(lists["nameservers"], domain, lists["search"], lists["options"])


def _parse_interface(body: Any, path: str) -> Interface:
    obj = expect(body, dict, path)
    return Interface(
        expect(obj.get("name"), str, f"{path}.name"),
        expect(obj.get("mac", ""), str, f"{path}.mac"),
        expect(obj.get("sandbox", ""), str, f"{path}.sandbox"),
        expect(obj.get("mtu", 0), int, f"{path}.mtu"),
    )


def _parse_ip(body: Any, path: str) -> IPConfig:
    obj = expect(body, dict, path)
    gateway, index = obj.get("gateway"), obj.get("interface")
    return IPConfig(
        parse_interface_address(obj.get("address"), f"{path}.address"),
        parse_address(gateway, f"{path}.gateway") if gateway else None,
        None if index is None else expect(index, int, f"{path}.interface"),
    )


_JSON_NAMES = {str: "a string", list: "a list", dict: "an object", bool: "a boolean", int: "a number"}


def refuse(path: str, what: str) -> NoReturn:
    """CNIError 7: the configuration's field at `path` is wrong."""
    raise CNIError(INVALID_NETWORK_CONFIG, f"invalid network config: {path}: {what}")


def expect(value: Any, kind: type, path: str) -> Any:
    """The value, when its JSON type is `kind` (a boolean is no number); else CNIError 7 with its path."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        refuse(path, "is required" if value is None else f"must be {_JSON_NAMES[kind]}")
    return value


def _items(obj: Mapping[str, Any], key: str, path: str) -> list[tuple[Any, str]]:
    items = obj.get(key)
    if items is None:
        return []
    return [(item, f"{path}.{key}[{index}]") for index, item in enumerate(expect(items, list, f"{path}.{key}"))]


def parse_network(value: Any, path: str) -> IPNetwork:
    """A CIDR without host bits."""
    text = expect(value, str, path)
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        refuse(path, str(error))


def parse_address(value: Any, path: str) -> IPAddress:
    """An address."""
    text = expect(value, str, path)
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        refuse(path, str(error))


def parse_interface_address(value: Any, path: str) -> IPInterface:
    """An address with its prefix length."""
    text = expect(value, str, path)
    try:
        return ipaddress.ip_interface(text)
    except ValueError as error:
        refuse(path, str(error))
