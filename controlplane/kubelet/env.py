"""A container's environment.

Pure: the objects that it refers to come in, the final list of variables goes out. Order and precedence are the
kubelet's: envFrom in order, then env in order (later wins, each value may refer to what stands before it), then the
Service variables that nobody has overridden. Source: kubernetes.io/docs/tasks/inject-data-application and
docs/concepts/services-networking/service/#environment-variables.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.downward import ConfigError, PodFacts, field_value, resource_value
from podnet.controlplane.kubelet.expansion import expand

# RelaxedEnvironmentVariableValidation is off in 1.32: names from envFrom that do not fit are skipped with an event.
_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class EnvSources:
    """The objects of the pod's namespace that its environment may refer to, by name, and the Service variables."""

    config_maps: Mapping[str, Object] = field(default_factory=dict)
    secrets: Mapping[str, Object] = field(default_factory=dict)
    service_env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables in order, and one message for each envFrom source with keys that are no variable names."""

    variables: tuple[tuple[str, str], ...]
    skipped: tuple[str, ...] = ()

    def lookup(self) -> dict[str, str]:
        """The variables as a map."""
        return dict(self.variables)


def render_env(container: Mapping[str, Any], facts: PodFacts, sources: EnvSources) -> Environment:
    """The environment of one container; ConfigError when something it needs is missing."""
    result: dict[str, str] = {}
    service_env = dict(sources.service_env)
    skipped: list[str] = []
    for source in container.get("envFrom") or ():
        skipped += _add_env_from(source, facts, sources, result)

    def lookup(name: str) -> str | None:
        value = result.get(name)
        return service_env.get(name) if value is None else value

    for entry in container.get("env") or ():
        name = entry["name"]
        value: str | None
        if entry.get("value"):
            value = expand(str(entry["value"]), lookup)
        elif entry.get("valueFrom"):
            value = _value_from(entry["valueFrom"], container["name"], facts, sources)
            if value is None:
                continue  # optional and absent: the variable is not set at all
        else:
            value = ""
        service_env.pop(name, None)
        result.pop(name, None)
        result[name] = value
    for name, value in service_env.items():
        result.setdefault(name, value)
    return Environment(tuple(result.items()), tuple(skipped))


def config_references(pod: Object) -> tuple[set[str], set[str]]:
    """(ConfigMap names, Secret names) that the environments of a pod's containers mention, optional ones too."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for container in pod_spec.all_containers(pod):
        for source in container.get("envFrom") or ():
            config_maps |= _name_in(source, "configMapRef")
            secrets |= _name_in(source, "secretRef")
        for entry in container.get("env") or ():
            config_maps |= _name_in(entry.get("valueFrom") or {}, "configMapKeyRef")
            secrets |= _name_in(entry.get("valueFrom") or {}, "secretKeyRef")
    return config_maps, secrets


def secret_bytes(secret: Object) -> dict[str, bytes]:
    """A Secret's data, decoded."""
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def config_map_bytes(config_map: Object) -> dict[str, bytes]:
    """A ConfigMap's data and binaryData."""
    text = {key: str(value).encode() for key, value in (config_map.get("data") or {}).items()}
    return text | {key: base64.b64decode(value) for key, value in (config_map.get("binaryData") or {}).items()}


def _name_in(source: Mapping[str, Any], kind: str) -> set[str]:
    return {source[kind]["name"]} if kind in source and source[kind].get("name") else set()


def _add_env_from(source: Mapping[str, Any], facts: PodFacts, sources: EnvSources, result: dict[str, str]) -> list[str]:
    kind, objects, reference = (
        ("configMap", sources.config_maps, source["configMapRef"])
        if "configMapRef" in source
        else ("secret", sources.secrets, source.get("secretRef") or {})
    )
    name = reference.get("name", "")
    found = objects.get(name)
    if found is None:
        if reference.get("optional"):
            return []
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    data: dict[str, str] = (
        {key: str(value) for key, value in (found.get("data") or {}).items()}
        if kind == "configMap"
        else {key: _text(value) for key, value in secret_bytes(found).items()}
    )
    bad: list[str] = []
    for key, value in data.items():
        variable = source.get("prefix", "") + key
        if _NAME.fullmatch(variable):
            result.pop(variable, None)
            result[variable] = value
        else:
            bad.append(variable)
    if not bad:
        return []
    where = f"{pod_spec.namespace_of(facts.pod)}/{name}"
    keys = ", ".join(sorted(bad))
    skipped = f"Keys [{keys}] from the EnvFrom {kind} {where} were skipped since they are considered invalid"
    return [f"{skipped} environment variable names."]


def _value_from(reference: Mapping[str, Any], container_name: str, facts: PodFacts, sources: EnvSources) -> str | None:
    if "fieldRef" in reference:
        return field_value(facts, reference["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in reference:
        return resource_value(facts, reference["resourceFieldRef"], container_name)
    if "configMapKeyRef" in reference:
        wanted, kind, objects = reference["configMapKeyRef"], "ConfigMap", sources.config_maps
    elif "secretKeyRef" in reference:
        wanted, kind, objects = reference["secretKeyRef"], "Secret", sources.secrets
    else:
        raise ConfigError("invalid valueFrom: no source is set")
    name, key = wanted.get("name", ""), wanted["key"]
    found = objects.get(name)
    if found is None:
        if wanted.get("optional"):
            return None
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    data = found.get("data") or {}
    if key not in data:
        if wanted.get("optional"):
            return None
        raise ConfigError(f"couldn't find key {key} in {kind} {pod_spec.namespace_of(facts.pod)}/{name}")
    return str(data[key]) if kind == "ConfigMap" else _text(base64.b64decode(data[key]))


def _text(value: bytes) -> str:
    # An environment is bytes to the kernel: surrogateescape carries what is not UTF-8 through unharmed.
    return value.decode("utf-8", "surrogateescape")


def service_env(services: Iterable[Object], namespace: str, *, links: bool) -> dict[str, str]:
    """The variables of the Services that a pod in `namespace` sees: always default/kubernetes, and with `links` the
    namespace's own. Headless and ExternalName Services have none."""
    visible: dict[str, Object] = {}
    for service in services:
        metadata = service["metadata"]
        if metadata["namespace"] == namespace and links:
            visible[metadata["name"]] = service
        elif metadata["namespace"] == "default" and metadata["name"] == "kubernetes":
            visible.setdefault("kubernetes", service)
    variables: dict[str, str] = {}
    for name in sorted(visible):
        variables |= _service_variables(name, visible[name]["spec"])
    return variables


def _service_variables(name: str, spec: Mapping[str, Any]) -> dict[str, str]:
    address, ports = spec.get("clusterIP"), spec.get("ports") or ()
    if not address or address == "None" or not ports or spec.get("type") == "ExternalName":
        return {}
    prefix = name.upper().replace("-", "_")
    host = f"[{address}]" if ":" in address else address
    variables = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            variables[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol = (port.get("protocol") or "TCP").upper()
        url = f"{protocol.lower()}://{host}:{port['port']}"
        if index == 0:
            variables[f"{prefix}_PORT"] = url
        one = f"{prefix}_PORT_{port['port']}_{protocol}"
        variables |= {
            one: url,
            f"{one}_PROTO": protocol.lower(),
            f"{one}_PORT": str(port["port"]),
            f"{one}_ADDR": address,
        }
    return variables
