"""Containers: names, images, ports, mounts, and the order of the three lists.

Source: Kubernetes API reference "Container" (1.32) and the messages of a 1.32 server.
"""

from __future__ import annotations

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause, duplicate, forbidden_field, invalid_value, not_supported, required
from podnet.controlplane.api.validation.environment import validate_env
from podnet.controlplane.api.validation.probes import validate_lifecycle, validate_probes
from podnet.controlplane.api.validation.resources import validate_requirements
from podnet.controlplane.api.validation.values import JSONObject, must_have, objects, one_of, part, texts

PROTOCOLS = ("TCP", "UDP", "SCTP")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MAX_ID = 2**31 - 1


def validate_containers(spec: JSONObject, path: str, volumes: set[str]) -> list[Cause]:
    """The containers, init containers and ephemeral containers of a pod."""
    causes: list[Cause] = []
    if not spec.get("containers"):
        causes.append(required(f"{path}.containers"))
    seen: set[str] = set()
    host_ports: set[str] = set()
    for index, container in objects(spec, "containers"):
        where = f"{path}.containers[{index}]"
        causes += _validate_container(container, where, volumes, seen)
        causes += validate_probes(container, where) + validate_lifecycle(container, where)
        if container.get("restartPolicy") is not None:
            causes.append(forbidden_field(f"{where}.restartPolicy", "may not be set for non-init containers"))
        causes += _validate_host_ports(container, where, host_ports)
    for index, container in objects(spec, "initContainers"):
        where = f"{path}.initContainers[{index}]"
        causes += _validate_container(container, where, volumes, seen)
        causes += _validate_init_container(container, where, host_ports)
    for index, container in objects(spec, "ephemeralContainers"):
        where = f"{path}.ephemeralContainers[{index}]"
        causes += _validate_container(container, where, volumes, seen)
        causes += _validate_ephemeral_container(container, where, spec)
    if spec.get("hostNetwork"):
        causes += _validate_host_network(spec, path)
    return causes


def _validate_container(container: JSONObject, path: str, volumes: set[str], seen: set[str]) -> list[Cause]:
    """What the three lists have in common; `seen` collects the names."""
    causes: list[Cause] = []
    name = container.get("name") or ""
    if not name:
        causes.append(required(f"{path}.name"))
    else:
        causes += texts(f"{path}.name", name, names.dns1123_label(name))
        if name in seen:
            causes.append(duplicate(f"{path}.name", name))
        seen.add(name)
    image = container.get("image") or ""
    if not image:
        causes.append(required(f"{path}.image"))
    elif image != image.strip():
        causes.append(invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace"))
    causes += one_of(container, "terminationMessagePolicy", path, ("File", "FallbackToLogsOnError"), must=True)
    causes += validate_ports(container, path)
    causes += validate_env(container, path)
    causes += _validate_mounts(container, path, volumes)
    causes += one_of(container, "imagePullPolicy", path, _PULL_POLICIES, must=True)
    causes += validate_requirements(part(container, "resources"), f"{path}.resources")
    return causes + _validate_security(part(container, "securityContext"), f"{path}.securityContext")


def validate_ports(container: JSONObject, path: str) -> list[Cause]:
    """Container ports: numbers in range, names unique."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, port in objects(container, "ports"):
        where = f"{path}.ports[{index}]"
        name = port.get("name") or ""
        if name:
            messages = names.port_name(name)
            causes += texts(f"{where}.name", name, messages)
            if not messages and name in seen:
                causes.append(duplicate(f"{where}.name", name))
            seen.add(name)
        number = port.get("containerPort") or 0
        if number == 0:
            causes.append(required(f"{where}.containerPort"))
        else:
            causes += texts(f"{where}.containerPort", number, names.port_number(number))
        if port.get("hostPort"):
            causes += texts(f"{where}.hostPort", port["hostPort"], names.port_number(port["hostPort"]))
        causes += one_of(port, "protocol", where, PROTOCOLS, must=True)
    return causes


def _validate_host_ports(container: JSONObject, path: str, seen: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    for index, port in objects(container, "ports"):
        if port.get("hostPort"):
            text = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if text in seen:
                causes.append(duplicate(f"{path}.ports[{index}].hostPort", text))
            seen.add(text)
    return causes


def _validate_host_network(spec: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, container in objects(spec, "containers"):
        for place, port in objects(container, "ports"):
            if port.get("hostPort") and port["hostPort"] != port.get("containerPort"):
                where = f"{path}.containers[{index}].ports[{place}].containerPort"
                text = "must match `hostPort` when `hostNetwork` is true"
                causes.append(invalid_value(where, port.get("containerPort") or 0, text))
    return causes


def _validate_init_container(container: JSONObject, path: str, host_ports: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    policy = container.get("restartPolicy")
    if policy is not None and policy != "Always":
        causes.append(not_supported(f"{path}.restartPolicy", policy, ["Always"]))
    if policy == "Always":
        causes += validate_probes(container, path) + validate_lifecycle(container, path)
        causes += _validate_host_ports(container, path, host_ports)
        return causes
    text = "may not be set for init containers without restartPolicy=Always"
    fields = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
    causes += [forbidden_field(f"{path}.{field}", text) for field in fields if container.get(field) is not None]
    own: set[str] = set()  # init containers run one after the other: only their own ports can clash
    return causes + _validate_host_ports(container, path, own)


def _validate_ephemeral_container(container: JSONObject, path: str, spec: JSONObject) -> list[Cause]:
    causes: list[Cause] = []
    target = container.get("targetContainerName")
    known = {row.get("name") for name in ("containers", "initContainers") for _, row in objects(spec, name)}
    if target and target not in known:
        causes.append(Cause("FieldValueNotFound", f'Not found: "{target}"', f"{path}.targetContainerName"))
    fields = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "restartPolicy")
    text = "cannot be set for an Ephemeral Container"
    causes += [forbidden_field(f"{path}.{field}", text) for field in fields if container.get(field)]
    if part(container, "resources").get("limits") or part(container, "resources").get("requests"):
        causes.append(forbidden_field(f"{path}.resources", text))
    return causes


def _validate_mounts(container: JSONObject, path: str, volumes: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, mount in objects(container, "volumeMounts"):
        where = f"{path}.volumeMounts[{index}]"
        name, mount_path = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            causes.append(required(f"{where}.name"))
        if name not in volumes:
            causes.append(Cause("FieldValueNotFound", f'Not found: "{name}"', f"{where}.name"))
        if not mount_path:
            causes.append(required(f"{where}.mountPath"))
        elif mount_path in seen:
            causes.append(invalid_value(f"{where}.mountPath", mount_path, "must be unique"))
        seen.add(mount_path)
        for field in ("subPath", "subPathExpr"):
            causes += validate_relative_path(mount.get(field) or "", f"{where}.{field}")
        if mount.get("subPath") and mount.get("subPathExpr"):
            text = "subPathExpr and subPath are mutually exclusive"
            causes.append(invalid_value(f"{where}.subPathExpr", mount["subPathExpr"], text))
        causes += one_of(mount, "mountPropagation", where, ("None", "HostToContainer", "Bidirectional"))
    return causes + _validate_devices(container, path, volumes)


def _validate_devices(container: JSONObject, path: str, volumes: set[str]) -> list[Cause]:
    """Block volumes: each once, and not mounted as a file system too."""
    causes: list[Cause] = []
    mounted = {mount.get("name") for _, mount in objects(container, "volumeMounts")}
    seen: set[str] = set()
    for index, device in objects(container, "volumeDevices"):
        where = f"{path}.volumeDevices[{index}]"
        name, device_path = device.get("name") or "", device.get("devicePath") or ""
        causes += must_have(device, where, "name", "devicePath")
        for field, value in (("name", name), ("devicePath", device_path)):
            if value and f"{field} {value}" in seen:
                causes.append(invalid_value(f"{where}.{field}", value, "must be unique"))
            seen.add(f"{field} {value}")
        if name and name not in volumes:
            causes.append(Cause("FieldValueNotFound", f'Not found: "{name}"', f"{where}.name"))
        if name in mounted:
            causes.append(invalid_value(f"{where}.name", name, "must not already exist in volumeMounts"))
        if ".." in device_path.split("/"):
            causes.append(invalid_value(f"{where}.devicePath", device_path, "must not contain '..'"))
    return causes


def validate_relative_path(value: str, path: str) -> list[Cause]:
    """A path inside a volume: relative, and without `..`."""
    causes: list[Cause] = []
    if value.startswith("/"):
        causes.append(invalid_value(path, value, "must be a relative path"))
    if ".." in value.split("/"):
        causes.append(invalid_value(path, value, "must not contain '..'"))
    return causes


def _validate_security(context: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("runAsUser", "runAsGroup"):
        value = context.get(field)
        if value is not None and not 0 <= value <= _MAX_ID:
            causes.append(invalid_value(f"{path}.{field}", value, f"must be between 0 and {_MAX_ID}, inclusive"))
    if context.get("allowPrivilegeEscalation") is False and context.get("privileged"):
        text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        causes.append(invalid_value(f"{path}.allowPrivilegeEscalation", False, text))
    return causes
