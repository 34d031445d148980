"""Network configuration lists: what a .conflist says, and what each plugin of the chain is told.

This file decides; it starts no plugin and reads no file. Every refusal names the file and the field's path.
Source: CNI 1.1.0 SPEC sections 1 and 3, CONVENTIONS (capabilities, CNI_ARGS of Kubernetes).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from podnet.controlplane.kubelet.cri import PortMapping

Result: TypeAlias = dict[str, Any]

SUPPORTED_VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
_LIST_FIELDS: dict[str, tuple[type, ...]] = {
    "cniVersion": (str,),
    "cniVersions": (list,),
    "name": (str,),
    "disableCheck": (bool, str),
    "disableGC": (bool, str),
    "loadOnlyInlinedPlugins": (bool, str),
    "plugins": (list,),
}
_JSON_NAMES = {str: "string", list: "list", dict: "object", bool: "boolean", int: "number", float: "number"}


class CNIRuntimeError(Exception):
    """What went wrong, for a pod's event or a node's condition: a bad configuration (code 7), a plugin that is missing
    (code 0), or a plugin's own refusal with its code, message and details."""

    def __init__(self, message: str, *, code: int = 0, plugin: str = "", details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.plugin = plugin
        self.details = details

    @property
    def is_temporary(self) -> bool:
        """Code 11, or 50: the same call may succeed a little later."""
        return self.code in (11, 50)


@dataclass(frozen=True, slots=True)
class PodInfo:
    """Whose attachment it is; handed over in CNI_ARGS as Kubernetes' runtimes do."""

    namespace: str = ""
    name: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class NetworkList:
    """One network: a chain of plugin configurations (their JSON), the CNI version they are called in."""

    name: str
    cni_version: str
    plugins: tuple[Mapping[str, Any], ...]
    disable_check: bool = False
    disable_gc: bool = False
    file: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one container."""

    container_id: str
    ifname: str
    netns: str = ""
    pod: PodInfo = PodInfo()
    capability_args: Mapping[str, Any] = field(default_factory=dict)


def version_tuple(version: str) -> tuple[int, ...]:
    """`1.0.0` -> (1, 0, 0). ValueError when it is no version."""
    parts = tuple(int(part) for part in version.split("."))
    if len(parts) > 3 or any(part < 0 for part in parts):
        raise ValueError(version)
    return parts + (0,) * (3 - len(parts))


def negotiate_version(cni_version: str, cni_versions: Sequence[str], supported: Sequence[str]) -> str:
    """The highest version the configuration offers that we speak (`cniVersions` is 1.1.0's list)."""
    offered = {version_tuple(v): v for v in (cni_version, *cni_versions) if v}
    ours = {version_tuple(v) for v in supported}
    common = [key for key in offered if key in ours]
    if not common:
        wanted = ", ".join(offered[key] for key in sorted(offered)) or "none"
        message = f"cniVersion: {wanted} is not supported, this runtime speaks {', '.join(supported)}"
        raise CNIRuntimeError(message, code=1)
    return offered[max(common)]


def parse_network_list(raw: bytes | str, *, file: str = "") -> NetworkList:
    """Read a .conflist, or a single plugin's .conf up-converted. CNIRuntimeError names the file and the field."""
    try:
        conf = json.loads(raw)
    except ValueError as error:
        raise CNIRuntimeError(f"{file}: not JSON: {error}", code=6) from error
    if not isinstance(conf, dict):
        raise _bad(file, "$", "must be an object")
    if "plugins" not in conf and "type" in conf:
        conf = {
            "cniVersion": conf.get("cniVersion", "0.2.0"),
            "name": conf.get("name"),
            "plugins": [{k: v for k, v in conf.items() if k not in ("cniVersion", "name")}],
        }
    _check_list_fields(conf, file)
    try:
        version = negotiate_version(conf.get("cniVersion", ""), conf.get("cniVersions", []), SUPPORTED_VERSIONS)
    except ValueError as error:
        raise _bad(file, "cniVersion", f"{error} is not a version") from error
    except CNIRuntimeError as error:
        raise CNIRuntimeError(f"{file}: {error}", code=error.code) from error
    return NetworkList(
        name=conf["name"],
        cni_version=version,
        plugins=tuple(conf["plugins"]),
        disable_check=_flag(conf.get("disableCheck", False), file, "disableCheck"),
        disable_gc=_flag(conf.get("disableGC", False), file, "disableGC"),
        file=file,
    )


def _bad(file: str, path: str, what: str) -> CNIRuntimeError:
    where = f"{file}: " if file else ""
    return CNIRuntimeError(f"{where}{path}: {what}", code=7)


def _check_list_fields(conf: Mapping[str, Any], file: str) -> None:
    for key, value in conf.items():
        if key not in _LIST_FIELDS:
            raise _bad(file, key, "unknown field")
        if key == "name" and value is None:
            continue
        if not isinstance(value, _LIST_FIELDS[key]):
            raise _bad(file, key, f"must be a {_JSON_NAMES[_LIST_FIELDS[key][0]]}")
    if not conf.get("name"):
        raise _bad(file, "name", "is required")
    if not valid_id(conf["name"]):
        raise _bad(file, "name", f"invalid network name {conf['name']!r}")
    for index, version in enumerate(conf.get("cniVersions", [])):
        if not isinstance(version, str):
            raise _bad(file, f"cniVersions[{index}]", "must be a string")
    if not conf.get("plugins"):
        raise _bad(file, "plugins", "must name at least one plugin")
    for index, plugin in enumerate(conf["plugins"]):
        path = f"plugins[{index}]"
        if not isinstance(plugin, dict):
            raise _bad(file, path, "must be an object")
        kind = plugin.get("type")
        if not isinstance(kind, str) or not kind:
            raise _bad(file, f"{path}.type", "must be a string" if kind is not None else "is required")
        if "/" in kind:
            raise _bad(file, f"{path}.type", f"{kind!r} must be a plugin's name, not a path")
        _check_capabilities(plugin.get("capabilities", {}), file, path)


def _check_capabilities(capabilities: object, file: str, path: str) -> None:
    if not isinstance(capabilities, dict):
        raise _bad(file, f"{path}.capabilities", "must be an object")
    for name, value in capabilities.items():
        if not isinstance(value, bool):
            raise _bad(file, f"{path}.capabilities.{name}", "must be a boolean")


def _flag(value: object, file: str, path: str) -> bool:
    # libcni also takes the strings, because people write them.
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise _bad(file, path, "must be a boolean")


def valid_id(name: str) -> bool:
    """A network name or container ID: letters, digits, `_.-`, not beginning with punctuation (SPEC section 2)."""
    return bool(name) and name[0].isalnum() and name.isascii() and all(c.isalnum() or c in "_.-" for c in name)


def plugin_config(
    network: NetworkList,
    plugin: Mapping[str, Any],
    *,
    capability_args: Mapping[str, Any] | None = None,
    prev_result: Result | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What one plugin reads on its standard input. runtimeConfig holds the capabilities the plugin declares and the
    caller supplies; `capabilities` itself is for us and is left out (SPEC section 3)."""
    config = {key: value for key, value in plugin.items() if key != "capabilities"}
    config |= {"cniVersion": network.cni_version, "name": network.name}
    declared = plugin.get("capabilities", {})
    runtime = {key: value for key, value in (capability_args or {}).items() if declared.get(key) and value}
    if runtime:
        config["runtimeConfig"] = runtime
    if prev_result is not None:
        config["prevResult"] = prev_result
    return config | dict(extra or {})


def cni_args(container_id: str, pod: PodInfo) -> str:
    """CNI_ARGS as containerd and CRI-O write it."""
    if not pod.name:
        return "IgnoreUnknown=1"
    return ";".join(
        (
            "IgnoreUnknown=1",
            f"K8S_POD_NAMESPACE={pod.namespace}",
            f"K8S_POD_NAME={pod.name}",
            f"K8S_POD_INFRA_CONTAINER_ID={container_id}",
            f"K8S_POD_UID={pod.uid}",
        )
    )


def capability_port_mappings(port_mappings: Iterable[PortMapping]) -> list[dict[str, Any]]:
    """runtimeConfig.portMappings (CONVENTIONS)."""
    return [
        {
            "hostPort": mapping.host_port,
            "containerPort": mapping.container_port,
            "protocol": mapping.protocol.lower(),
            **({"hostIP": mapping.host_ip} if mapping.host_ip else {}),
        }
        for mapping in port_mappings
        if mapping.host_port
    ]


def result_ips(result: Mapping[str, Any]) -> tuple[str, ...]:
    """The pod's addresses without their prefix length, in order; the first is the pod IP. Addresses that the result
    assigns to an interface outside the sandbox are not the pod's."""
    interfaces = result.get("interfaces") or []
    ips = []
    for entry in result.get("ips") or []:
        index = entry.get("interface")
        if isinstance(index, int) and 0 <= index < len(interfaces) and not interfaces[index].get("sandbox"):
            continue
        ips.append(str(entry["address"]).partition("/")[0])
    return tuple(ips)
