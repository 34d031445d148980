"""The configuration our plugin reads on its standard input, checked field by field.

This file decides; it touches neither the kernel nor the disk. What it does not know it refuses with the field's path
(code 7): a misspelt option that is silently ignored costs an afternoon. Precedence of a requested MAC or address, lowest
first: CNI_ARGS, `args.cni`, `runtimeConfig` (CONVENTIONS).

    {"cniVersion": "1.1.0", "name": "podnet", "type": "podnet-bridge", "bridge": "cni0", "isDefaultGateway": true,
     "ipam": {"ranges": [[{"subnet": "10.244.1.0/24"}]], "routes": [{"dst": "10.0.0.0/8"}]}}

Without `ipam.ranges` the node's subnet and MTU come from subnet.env, which the overlay writes, as flannel's plugin does.
Source: CNI SPEC 1.1.0 section 1; the fields' names are those of the reference bridge and host-local plugins.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from podnet.cni.ipam import Range, RangeSet, parse_range
from podnet.cni.types import (
    DNS,
    INCOMPATIBLE_VERSION,
    INVALID_ENVIRONMENT,
    SUPPORTED_VERSIONS,
    UNSUPPORTED_FIELD,
    CNIError,
    Result,
    RouteConfig,
    expect,
    parse_dns,
    parse_result,
    parse_route,
    refuse,
)
from podnet.topology.kernel import MAX_IFNAME, IPAddress

PLUGIN_TYPE = "podnet-bridge"
IPAM_TYPE = "podnet-ipam"

_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
_MAC = re.compile(r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
_FIELDS: dict[str, type] = {
    "cniVersion": str,
    "cniVersions": list,
    "name": str,
    "type": str,
    "bridge": str,
    "isGateway": bool,
    "isDefaultGateway": bool,
    "forceAddress": bool,
    "hairpinMode": bool,
    "ipMasq": bool,
    "mtu": int,
    "ipam": dict,
    "dns": dict,
    "args": dict,
    "capabilities": dict,
    "runtimeConfig": dict,
    "prevResult": dict,
    "cni.dev/valid-attachments": list,
    "cni.dev/attachments": list,
}
_IPAM_FIELDS: dict[str, type] = {"type": str, "ranges": list, "subnet": str, "rangeStart": str, "rangeEnd": str}
_IPAM_FIELDS |= {"gateway": str, "routes": list}
_RUNTIME_FIELDS: dict[str, type] = {"mac": str, "ips": list, "ipRanges": list, "portMappings": list}
_RUNTIME_FIELDS |= {"bandwidth": dict, "dns": dict, "aliases": list, "cgroupPath": str, "deviceID": str}
_KNOWN_ARGS = frozenset(("IgnoreUnknown", "IP", "MAC"))


@dataclass(frozen=True, slots=True)
class NetConf:
    """One call's configuration. `range_sets` empty means: the node's subnet; `mtu` 0 likewise."""

    cni_version: str
    name: str
    bridge: str = "cni0"
    is_gateway: bool = True
    is_default_gateway: bool = True
    force_address: bool = False
    hairpin_mode: bool = True
    mtu: int = 0
    range_sets: tuple[RangeSet, ...] = ()
    routes: tuple[RouteConfig, ...] = ()
    dns: DNS = field(default_factory=DNS)
    mac: str = ""
    requested_ips: tuple[IPAddress, ...] = ()
    prev_result: Result | None = None
    valid_attachments: frozenset[tuple[str, str]] | None = None

    def with_range_sets(self, range_sets: tuple[RangeSet, ...]) -> NetConf:
        """The same with other ranges."""
        return replace(self, range_sets=range_sets)

    def with_mac(self, mac: str) -> NetConf:
        """The same with another MAC for the pod's end."""
        return replace(self, mac=mac)


def valid_name(name: str) -> bool:
    """A network name or container ID as the spec allows it."""
    return bool(_NAME.match(name))


def valid_ifname(name: str) -> bool:
    """An interface name the kernel takes: 1 to 15 characters, no slash, colon or space, not a dot directory."""
    return 0 < len(name) <= MAX_IFNAME and name not in (".", "..") and not re.search(r"[/:\s]", name)


def requested_version(conf: Mapping[str, Any]) -> str:
    """The version to answer in: the configuration's, and 0.1.0 where it says none."""
    version = conf.get("cniVersion", "")
    return version if isinstance(version, str) and version else "0.1.0"


def parse_detach(conf: Any) -> NetConf:
    """What DEL needs: version and network name. The rest may be wrong by now; taking a pod away must still work."""
    body = expect(conf, dict, "$")
    name = expect(body.get("name", ""), str, "name")
    if not valid_name(name):
        refuse("name", f"invalid network name {name!r}")
    return NetConf(_supported_version(body), name)


def _supported_version(body: Mapping[str, Any]) -> str:
    version = requested_version(body)
    if version not in SUPPORTED_VERSIONS:
        msg = f"incompatible CNI versions: config is {version!r}, plugin supports {list(SUPPORTED_VERSIONS)}"
        raise CNIError(INCOMPATIBLE_VERSION, msg)
    return version


def parse_netconf(conf: Any, cni_args: str = "") -> NetConf:
    """Check and read the whole configuration. CNIError 1 for a version we do not speak, 2 for something that we could
    but do not do, 7 for anything else."""
    body = expect(conf, dict, "$")
    version = _supported_version(body)
    _check_fields(body, _FIELDS, "")
    if not valid_name(body.get("name", "")):
        refuse("name", f"invalid network name {body.get('name', '')!r}")
    if body.get("ipMasq"):
        msg = "unsupported field in the network config: ipMasq: true (the overlay masquerades for the whole node)"
        raise CNIError(UNSUPPORTED_FIELD, msg)
    bridge = body.get("bridge", "cni0")
    if not valid_ifname(bridge):
        refuse("bridge", f"invalid interface name {bridge!r}")
    mtu = body.get("mtu", 0)
    if mtu and not 68 <= mtu <= 65535:
        refuse("mtu", f"{mtu} is outside 68..65535")
    runtime, args = body.get("runtimeConfig", {}), _args_cni(body)
    _check_fields(runtime, _RUNTIME_FIELDS, "runtimeConfig.")
    env_args = parse_cni_args(cni_args)
    range_sets, routes = _parse_ipam(body.get("ipam", {}), runtime)
    default_gateway = body.get("isDefaultGateway", True)
    return NetConf(
        cni_version=version,
        name=body["name"],
        bridge=bridge,
        is_gateway=body.get("isGateway", True) or default_gateway,
        is_default_gateway=default_gateway,
        force_address=body.get("forceAddress", False),
        hairpin_mode=body.get("hairpinMode", True),
        mtu=mtu,
        range_sets=range_sets,
        routes=routes,
        dns=parse_dns(body.get("dns", {}), "dns"),
        mac=_requested_mac(env_args, args, runtime),
        requested_ips=_requested_ips(env_args, args, runtime),
        prev_result=parse_result(body["prevResult"]) if "prevResult" in body else None,
        valid_attachments=valid_attachments(body),
    )


def parse_cni_args(text: str) -> dict[str, str]:
    """CNI_ARGS, `K=V;K=V`. An unknown key is refused unless IgnoreUnknown says otherwise (CNIError 4)."""
    args: dict[str, str] = {}
    for pair in filter(None, text.split(";")):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise CNIError(INVALID_ENVIRONMENT, f"invalid CNI_ARGS: {pair!r} is not a KEY=VALUE pair")
        args[key] = value
    lenient = args.get("IgnoreUnknown", "").lower() in ("1", "true", "yes")
    unknown = sorted(set(args) - _KNOWN_ARGS)
    if unknown and not lenient:
        raise CNIError(INVALID_ENVIRONMENT, f"invalid CNI_ARGS: unknown args {', '.join(unknown)}")
    return args


def node_range_sets(subnets: Sequence[str]) -> tuple[RangeSet, ...]:
    """The node's own subnets, one range set each, for a configuration without `ipam.ranges`."""
    return tuple((parse_range({"subnet": subnet}, "subnet.env"),) for subnet in subnets)


def _check_fields(body: Mapping[str, Any], fields: Mapping[str, type], prefix: str) -> None:
    for key, value in body.items():
        if key.startswith("cni.dev/") and key not in fields:
            continue  # reserved for the spec: a newer one may have more of them
        if key not in fields:
            refuse(f"{prefix}{key}", "unknown field")
        expect(value, fields[key], f"{prefix}{key}")


def _args_cni(body: Mapping[str, Any]) -> Mapping[str, Any]:
    # `args` is free form by convention, only its `cni` part is ours to read.
    cni = body.get("args", {}).get("cni", {})
    return cni if isinstance(cni, dict) else {}


def _parse_ipam(
    ipam: Mapping[str, Any], runtime: Mapping[str, Any]
) -> tuple[tuple[RangeSet, ...], tuple[RouteConfig, ...]]:
    _check_fields(ipam, _IPAM_FIELDS, "ipam.")
    if ipam.get("type", IPAM_TYPE) != IPAM_TYPE:
        refuse("ipam.type", f"{ipam['type']!r} is not {IPAM_TYPE!r}: this plugin has IPAM of its own")
    sets = [
        *_parse_range_sets(runtime.get("ipRanges", []), "runtimeConfig.ipRanges"),
        *_parse_range_sets(ipam.get("ranges", []), "ipam.ranges"),
    ]
    if "subnet" in ipam:
        single = {key: ipam[key] for key in ("subnet", "rangeStart", "rangeEnd", "gateway") if key in ipam}
        sets.append((parse_range(single, "ipam"),))
    flat: list[Range] = [item for range_set in sets for item in range_set]
    for index, one in enumerate(flat):
        for other in flat[:index]:
            if one.overlaps(other):
                refuse("ipam.ranges", f"{one} overlaps with {other}")
    routes = tuple(parse_route(item, f"ipam.routes[{i}]") for i, item in enumerate(ipam.get("routes", [])))
    return tuple(sets), routes


def _parse_range_sets(sets: Sequence[Any], path: str) -> list[RangeSet]:
    parsed = []
    for i, item in enumerate(sets):
        ranges = expect(item, list, f"{path}[{i}]")
        if not ranges:
            refuse(f"{path}[{i}]", "must not be empty")
        one = tuple(parse_range(entry, f"{path}[{i}][{j}]") for j, entry in enumerate(ranges))
        if len({entry.subnet.version for entry in one}) > 1:
            refuse(f"{path}[{i}]", "mixes IPv4 and IPv6")
        parsed.append(one)
    return parsed


def _requested_mac(env: Mapping[str, str], args: Mapping[str, Any], runtime: Mapping[str, Any]) -> str:
    for mac, path in (
        (runtime.get("mac"), "runtimeConfig.mac"),
        (args.get("mac"), "args.cni.mac"),
        (env.get("MAC"), "CNI_ARGS.MAC"),
    ):
        if not mac:
            continue
        text = expect(mac, str, path).lower()
        if not _MAC.match(text):
            refuse(path, f"{mac!r} is not a MAC address")
        if int(text[:2], 16) & 1:
            refuse(path, f"{mac!r} is a multicast address")
        return str(text)
    return ""


def _requested_ips(
    env: Mapping[str, str], args: Mapping[str, Any], runtime: Mapping[str, Any]
) -> tuple[IPAddress, ...]:
    for ips, path in (
        (runtime.get("ips"), "runtimeConfig.ips"),
        (args.get("ips"), "args.cni.ips"),
        ([env["IP"]] if env.get("IP") else None, "CNI_ARGS.IP"),
    ):
        if not ips:
            continue
        parsed = []
        for i, item in enumerate(expect(ips, list, path)):
            text = expect(item, str, f"{path}[{i}]")
            try:
                parsed.append(ipaddress.ip_interface(text).ip)
            except ValueError as error:
                refuse(f"{path}[{i}]", str(error))
        return tuple(parsed)
    return ()


def valid_attachments(body: Mapping[str, Any]) -> frozenset[tuple[str, str]] | None:
    """(container ID, interface) of all that may stay, as GC is told; None when it is not."""
    # The second spelling is the one the spec's text first had.
    for key in ("cni.dev/valid-attachments", "cni.dev/attachments"):
        if key in body:
            pairs = []
            for i, item in enumerate(body[key]):
                entry = expect(item, dict, f"{key}[{i}]")
                container = expect(entry.get("containerID"), str, f"{key}[{i}].containerID")
                pairs.append((container, expect(entry.get("ifname"), str, f"{key}[{i}].ifname")))
            return frozenset(pairs)
    return None
