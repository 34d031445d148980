"""Environment variables of containers.

Source: Kubernetes API reference "EnvVar", "EnvFromSource" (1.32).
"""

from __future__ import annotations

import re

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause, invalid_value, not_supported, required
from podnet.controlplane.api.validation.values import JSONObject, objects, part, texts

_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")
_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_SUBSCRIPTED = re.compile(r"(metadata\.(?:annotations|labels))\['(.*)'\]", re.DOTALL)
_RESOURCES = re.compile(r"(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-.+)", re.DOTALL)
_RESOURCE_NAMES = [
    f"{list_}.{name}" for list_ in ("limits", "requests") for name in ("cpu", "memory", "ephemeral-storage")
]


def validate_env(container: JSONObject, path: str) -> list[Cause]:
    """`env` and `envFrom`."""
    causes: list[Cause] = []
    for index, variable in objects(container, "env"):
        where = f"{path}.env[{index}]"
        name = variable.get("name") or ""
        causes += texts(f"{where}.name", name, names.env_var_name(name)) if name else [required(f"{where}.name")]
        if variable.get("valueFrom") is not None:
            causes += _validate_source(variable, f"{where}.valueFrom")
    for index, source in objects(container, "envFrom"):
        causes += _validate_env_from(source, f"{path}.envFrom[{index}]")
    return causes


def _validate_source(variable: JSONObject, path: str) -> list[Cause]:
    source = part(variable, "valueFrom")
    given = [name for name in _SOURCES if source.get(name) is not None]
    causes: list[Cause] = []
    for name in given:
        row = part(source, name)
        where = f"{path}.{name}"
        if name == "fieldRef":
            causes += validate_field_ref(row, where, _FIELDS)
        elif name == "resourceFieldRef":
            causes += validate_resource_ref(row, where)
        else:
            causes += _validate_key_ref(row, where)
    if not given:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        causes.append(invalid_value(path, "", text))
    elif variable.get("value"):
        causes.append(invalid_value(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        causes.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    return causes


def validate_field_ref(row: JSONObject, path: str, fields: tuple[str, ...]) -> list[Cause]:
    """A reference to a field of the pod; labels and annotations are subscripted: `metadata.labels['app']`."""
    if not row.get("apiVersion"):
        return [required(f"{path}.apiVersion")]
    field = row.get("fieldPath") or ""
    if not field:
        return [required(f"{path}.fieldPath")]
    subscripted = _SUBSCRIPTED.fullmatch(field)
    if subscripted:
        whole, key = subscripted.groups()
        checked = key.lower() if whole.endswith("annotations") else key
        return texts(path, field, names.qualified_name(checked))
    if row["apiVersion"] != "v1" or (field not in {*_FIELDS, *fields} and not field.startswith("metadata.")):
        text = f"error converting fieldPath: field label not supported: {field}"
        return [invalid_value(f"{path}.fieldPath", field, text)]
    return [] if field in fields else [not_supported(f"{path}.fieldPath", field, list(fields))]


def validate_resource_ref(row: JSONObject, path: str, *, volume: bool = False) -> list[Cause]:
    """A reference to a limit or request of a container; in a volume the container must be named."""
    causes: list[Cause] = []
    resource = row.get("resource") or ""
    if volume and not row.get("containerName"):
        causes.append(required(f"{path}.containerName"))
    if not resource:
        causes.append(required(f"{path}.resource"))
    elif not _RESOURCES.fullmatch(resource):
        causes.append(not_supported(f"{path}.resource", resource, _RESOURCE_NAMES))
    return causes


def _validate_key_ref(row: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    name, key = row.get("name") or "", row.get("key") or ""
    causes += texts(f"{path}.name", name, names.dns1123_subdomain(name)) if name else [required(f"{path}.name")]
    causes += texts(f"{path}.key", key, names.config_map_key(key)) if key else [required(f"{path}.key")]
    return causes


def _validate_env_from(source: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    prefix = source.get("prefix") or ""
    if prefix:
        causes += texts(f"{path}.prefix", prefix, names.env_var_name(prefix))
    given = [name for name in ("configMapRef", "secretRef") if source.get(name) is not None]
    for name in given:
        reference = part(source, name).get("name") or ""
        where = f"{path}.{name}.name"
        causes += texts(where, reference, names.dns1123_subdomain(reference)) if reference else [required(where)]
    if not given:
        causes.append(invalid_value(path, "", "must specify one of: `configMapRef` or `secretRef`"))
    elif len(given) > 1:
        causes.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    return causes
