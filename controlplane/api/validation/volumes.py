"""The volumes of a pod.

Source: Kubernetes API reference "Volume" (1.32).
"""

from __future__ import annotations

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause, duplicate, forbidden_field, invalid_value, not_supported, required
from podnet.controlplane.api.validation.containers import validate_relative_path
from podnet.controlplane.api.validation.environment import validate_field_ref, validate_resource_ref
from podnet.controlplane.api.validation.resources import validate_quantity
from podnet.controlplane.api.validation.storage import validate_claim_spec
from podnet.controlplane.api.validation.values import JSONObject, must_have, objects, part, texts

_FILE_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
_MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"
_REQUIRED: dict[str, tuple[str, ...]] = {
    "hostPath": ("path",),
    "secret": ("secretName",),
    "configMap": ("name",),
    "persistentVolumeClaim": ("claimName",),
    "nfs": ("server", "path"),
    "csi": ("driver",),
    "iscsi": ("targetPortal", "iqn"),
    "glusterfs": ("endpoints", "path"),
    "flexVolume": ("driver",),
    "gitRepo": ("repository",),
}
_PROJECTIONS = ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle")


def validate_volumes(spec: JSONObject, path: str) -> tuple[set[str], list[Cause]]:
    """The names of the volumes, and what is wrong with them."""
    found: set[str] = set()
    causes: list[Cause] = []
    for index, volume in objects(spec, "volumes"):
        where = f"{path}.volumes[{index}]"
        name = volume.get("name") or ""
        messages = names.dns1123_label(name) if name else []
        if not name:
            causes.append(required(f"{where}.name"))
        causes += texts(f"{where}.name", name, messages)
        if name in found:
            causes.append(duplicate(f"{where}.name", name))
        causes += _validate_source(volume, where)
        if name and not messages:
            found.add(name)
    return found, causes


def _validate_source(volume: JSONObject, path: str) -> list[Cause]:
    given = [name for name, value in volume.items() if name != "name" and value is not None]
    if not given:
        return [required(path, "must specify a volume type")]
    causes = [forbidden_field(f"{path}.{name}", "may not specify more than 1 volume type") for name in given[1:]]
    name, source = given[0], part(volume, given[0])
    where = f"{path}.{name}"
    causes += must_have(source, where, *_REQUIRED.get(name, ()))
    if name in {"secret", "configMap", "downwardAPI", "projected"}:
        causes += _validate_mode(source, "defaultMode", where)
    if name == "hostPath":
        if ".." in (source.get("path") or "").split("/"):
            causes.append(invalid_value(f"{where}.path", source["path"], "must not contain '..'"))
        if (source.get("type") or "") not in _HOST_PATH_TYPES:
            causes.append(not_supported(f"{where}.type", source["type"], list(_HOST_PATH_TYPES)))
    elif name in {"secret", "configMap"}:
        causes += _validate_items(source, where)
    elif name == "downwardAPI":
        causes += _validate_files(source, where)
    elif name == "projected":
        causes += _validate_projected(source, where)
    elif name == "ephemeral":
        causes += _validate_ephemeral(source, where)
    elif name == "emptyDir" and validate_quantity(source.get("sizeLimit", "0"), where):
        causes.append(forbidden_field(f"{where}.sizeLimit", "SizeLimit field must be a valid resource quantity"))
    return causes


def _validate_ephemeral(source: JSONObject, path: str) -> list[Cause]:
    if source.get("volumeClaimTemplate") is None:
        return [required(f"{path}.volumeClaimTemplate")]
    template = part(source, "volumeClaimTemplate")
    return validate_claim_spec(part(template, "spec"), f"{path}.volumeClaimTemplate.spec")


def _validate_mode(source: JSONObject, field: str, path: str) -> list[Cause]:
    mode = source.get(field)
    return [] if mode is None or 0 <= mode <= 0o777 else [invalid_value(f"{path}.{field}", mode, _MODE_TEXT)]


def _validate_items(source: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, item in objects(source, "items"):
        where = f"{path}.items[{index}]"
        causes += must_have(item, where, "key", "path")
        causes += validate_relative_path(item.get("path") or "", f"{where}.path")
        causes += _validate_mode(item, "mode", where)
    return causes


def _validate_files(source: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, item in objects(source, "items"):
        where = f"{path}.items[{index}]"
        causes += must_have(item, where, "path")
        causes += validate_relative_path(item.get("path") or "", f"{where}.path")
        field_ref, resource_ref = item.get("fieldRef"), item.get("resourceFieldRef")
        if field_ref is not None:
            causes += validate_field_ref(part(item, "fieldRef"), f"{where}.fieldRef", _FILE_FIELDS)
            if resource_ref is not None:
                causes.append(
                    invalid_value(
                        where, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"
                    )
                )
        elif resource_ref is not None:
            causes += validate_resource_ref(part(item, "resourceFieldRef"), f"{where}.resourceFieldRef", volume=True)
        else:
            causes.append(required(where, "one of fieldRef and resourceFieldRef is required"))
        causes += _validate_mode(item, "mode", where)
    return causes


def _validate_projected(source: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, projection in objects(source, "sources"):
        where = f"{path}.sources[{index}]"
        given = [name for name in _PROJECTIONS if projection.get(name) is not None]
        if not given:
            causes.append(required(where, "must specify a projected volume type"))
            continue
        causes += [forbidden_field(f"{where}.{name}", "may not specify more than 1 volume type") for name in given[1:]]
        name, row = given[0], part(projection, given[0])
        place = f"{where}.{name}"
        if name in {"secret", "configMap"}:
            causes += must_have(row, place, "name") + _validate_items(row, place)
        elif name == "downwardAPI":
            causes += _validate_files(row, place)
        elif name == "serviceAccountToken":
            causes += _validate_token(row, place)
        paths = [item.get("path") or "" for _, item in objects(row, "items")]
        paths += [row["path"]] if row.get("path") else []
        for text in paths:
            if text and text in seen:
                causes.append(invalid_value(where, text, "conflicting duplicate paths"))
            seen.add(text)
    return causes


def _validate_token(row: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    seconds = row.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        text = "may not specify a duration less than 10 minutes"
        causes.append(invalid_value(f"{path}.expirationSeconds", seconds, text))
    if seconds is not None and seconds > 1 << 32:
        text = "may not specify a duration larger than 2^32 seconds"
        causes.append(invalid_value(f"{path}.expirationSeconds", seconds, text))
    causes += must_have(row, path, "path")
    return causes + validate_relative_path(row.get("path") or "", f"{path}.path")
