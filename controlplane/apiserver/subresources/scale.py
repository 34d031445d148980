"""The scale subresource: one shape for everything that has replicas.

Source: pkg/registry/apps/*/storage (ScaleREST) and k8s.io/api autoscaling/v1 Scale.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.errors import bad_request, conflict, invalid, invalid_value
from podnet.controlplane.api.selectors import from_label_selector_object, from_labels
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver import metadata as meta
from podnet.controlplane.apiserver import scheme
from podnet.controlplane.apiserver.options import WriteOptions
from podnet.controlplane.apiserver.patching import PatchType, patched
from podnet.controlplane.apiserver.registry import Registry

API_VERSION = "autoscaling/v1"


def scale_of(obj: Object) -> Object:
    """The Scale of an object."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    head = {
        k: metadata[k] for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if k in metadata
    }
    scale_status: dict[str, Any] = {"replicas": int(status.get("replicas") or 0)}
    selector = _selector_text(spec.get("selector"))
    if selector:
        scale_status["selector"] = selector
    scale_spec = {"replicas": int(spec["replicas"])} if spec.get("replicas") else {}
    return {"kind": "Scale", "apiVersion": API_VERSION, "metadata": head, "spec": scale_spec, "status": scale_status}


def _selector_text(selector: Any) -> str:
    if not isinstance(selector, dict):
        return ""
    if "matchLabels" in selector or "matchExpressions" in selector:
        return str(from_label_selector_object(selector))
    return str(from_labels(selector))


async def get_scale(registry: Registry, resource: Resource, namespace: str, name: str) -> Object:
    """GET scale."""
    return scale_of((await registry.get(resource, namespace, name)).obj)


async def put_scale(
    registry: Registry, resource: Resource, namespace: str, name: str, scale: Object, options: WriteOptions
) -> Object:
    """PUT scale: writes spec.replicas and nothing else."""
    scale = scheme.check_fields(meta.type_check(scale, resource, api_version=API_VERSION, kind="Scale"), options)
    said = scale["metadata"].get("name")
    if said not in {None, "", name}:
        raise bad_request(f"the name of the object ({said}) does not match the name on the URL ({name})")
    return await _write(registry, resource, namespace, name, options, lambda _: scale)


async def patch_scale(
    registry: Registry,
    resource: Resource,
    namespace: str,
    name: str,
    patch: Any,
    patch_type: PatchType,
    options: WriteOptions,
) -> Object:
    """PATCH scale."""
    if patch_type == "apply":
        return await _apply_scale(registry, resource, namespace, name, patch, options)

    def transform(current: Object) -> Object:
        new = patched(current, patch, patch_type, resource, kind="Scale")
        return scheme.check_fields(meta.type_check(new, resource, api_version=API_VERSION, kind="Scale"), options)

    return await _write(registry, resource, namespace, name, options, transform)


async def _apply_scale(
    registry: Registry, resource: Resource, namespace: str, name: str, body: Any, options: WriteOptions
) -> Object:
    """An apply of a Scale is an apply of the replicas of what it scales."""
    scale = scheme.check_fields(meta.type_check(body, resource, api_version=API_VERSION, kind="Scale"), options)
    metadata = {k: scale["metadata"][k] for k in ("name", "namespace", "resourceVersion") if k in scale["metadata"]}
    replicas = (scale.get("spec") or {}).get("replicas")
    applied: Object = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
    if replicas is not None:
        applied["spec"] = {"replicas": replicas}
    entry, _ = await registry.apply(resource, namespace, name, applied, options, subresource="scale")
    return scale_of(entry.obj)


async def _write(
    registry: Registry, resource: Resource, namespace: str, name: str, options: WriteOptions, scale: Any
) -> Object:
    def transform(obj: Object) -> Object:
        wanted = scale(scale_of(obj))
        _check(wanted, obj, resource)
        obj["spec"]["replicas"] = int((wanted.get("spec") or {}).get("replicas") or 0)
        return obj

    return scale_of((await registry.write(resource, namespace, name, transform, options, subresource="scale")).obj)


def _check(scale: Object, obj: Object, resource: Resource) -> None:
    metadata, name = scale["metadata"], obj["metadata"]["name"]
    version, uid = metadata.get("resourceVersion"), metadata.get("uid")
    if uid and uid != obj["metadata"]["uid"]:
        raise conflict(resource.plural, name, meta.uid_precondition(uid, obj["metadata"]["uid"]), resource.group)
    if version and version != obj["metadata"]["resourceVersion"]:
        raise conflict(resource.plural, name, group=resource.group)
    replicas = (scale.get("spec") or {}).get("replicas") or 0
    if replicas < 0:
        causes = [invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")]
        raise invalid("Scale", name, causes, "autoscaling")
