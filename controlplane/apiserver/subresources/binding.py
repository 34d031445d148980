"""pods/binding: the scheduler's one write, which gives a pod to a node.

Source: pkg/registry/core/pod/storage (BindingREST) of Kubernetes 1.32.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.errors import bad_request, conflict, invalid, not_supported, required
from podnet.controlplane.api.resources import PODS
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.options import WriteOptions
from podnet.controlplane.apiserver.registry import Registry


async def bind(registry: Registry, namespace: str, name: str, binding: Object, options: WriteOptions) -> Object:
    """Set spec.nodeName and PodScheduled; 409 when the pod has a node or is going."""
    target = binding.get("target") or {}
    node = target.get("name")
    causes = []
    if target.get("kind") not in {None, "", "Node"}:
        causes.append(not_supported("target.kind", target.get("kind"), ["Node", "<empty>"]))
    if not node:
        causes.append(required("target.name"))
    if causes:
        raise invalid("Binding", name, causes)
    said = binding.get("metadata") or {}
    if said.get("name") not in {None, "", name}:
        raise bad_request("name in URL does not match name in Binding object")

    def transform(pod: Object) -> Object:
        _check(pod, said, name)
        pod["spec"]["nodeName"] = node
        if said.get("annotations"):
            pod["metadata"]["annotations"] = {**(pod["metadata"].get("annotations") or {}), **said["annotations"]}
        meta.set_condition(pod, {"type": "PodScheduled", "status": "True"}, format_time(registry.clock()))
        return pod

    await registry.write(PODS, namespace, name, transform, options, subresource="binding")
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _check(pod: Object, said: dict[str, Any], name: str) -> None:
    metadata, spec = pod["metadata"], pod["spec"]
    why = ""
    if said.get("uid") and said["uid"] != metadata["uid"]:
        why = f"Precondition failed: UID in precondition: {said['uid']}, UID in object meta: {metadata['uid']}"
    elif metadata.get("deletionTimestamp"):
        why = f"pod {name} is being deleted, cannot be assigned to a host"
    elif spec.get("nodeName"):
        why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
    elif spec.get("schedulingGates"):
        why = f"pod {name} has non-empty .spec.schedulingGates"
    if why:
        raise conflict("pods/binding", name, why)
