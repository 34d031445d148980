"""Which nodes a DaemonSet wants: its own tolerations, affinity and taints, without asking the scheduler.

Pure. The pods are placed by the scheduler all the same; each is bound to its node by an affinity to the node's name.
Source: kubernetes pkg/controller/daemon (daemon_controller.go NodeShouldRunDaemonPod, util/daemonset_util.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.node_selector import matches_required
from podnet.controlplane.client.taints import find_untolerated
from podnet.controlplane.controllers.deployment.revision import annotations_of
from podnet.controlplane.controllers.history import REVISION_HASH

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_TAINTS = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)
_HOST_NETWORK_TAINT = ("network-unavailable", "NoSchedule")


@dataclass(frozen=True, slots=True)
class Wanted:
    """`run`: a pod belongs on the node. `keep`: one that is there may stay (it came before a NoSchedule taint)."""

    run: bool
    keep: bool


def daemon_tolerations(pod_spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The template's tolerations and those that every daemon pod gets: a sick node still needs its daemons."""
    tolerations: list[dict[str, Any]] = [dict(entry) for entry in pod_spec.get("tolerations") or ()]
    wanted = [*_TAINTS, *([_HOST_NETWORK_TAINT] if pod_spec.get("hostNetwork") else [])]
    for name, effect in wanted:
        toleration = {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
        if toleration not in tolerations:
            tolerations.append(toleration)
    return tolerations


def node_wanted(daemon_set: Object, node: Object) -> Wanted:
    """Whether the DaemonSet runs on this node."""
    spec = daemon_set["spec"]["template"]["spec"]
    name = meta.name(node)
    if spec.get("nodeName") and spec["nodeName"] != name:
        return Wanted(run=False, keep=False)
    if not matches_required(spec, name, meta.labels(node)):
        return Wanted(run=False, keep=False)
    taints = (node.get("spec") or {}).get("taints") or ()
    tolerations = daemon_tolerations(spec)
    if find_untolerated(taints, tolerations, ("NoExecute",)) is not None:
        return Wanted(run=False, keep=False)
    if find_untolerated(taints, tolerations, ("NoSchedule",)) is not None:
        return Wanted(run=False, keep=True)
    return Wanted(run=True, keep=True)


def node_of(pod: Object) -> str:
    """The node a daemon pod is on, or is meant for while it is not placed yet."""
    spec = pod["spec"]
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED) or {}
    for term in affinity.get("nodeSelectorTerms") or ():
        for requirement in term.get("matchFields") or ():
            values: list[str] = requirement.get("values") or []
            if requirement.get("key") == "metadata.name" and requirement.get("operator") == "In" and len(values) == 1:
                return values[0]
    return ""


def pods_by_node(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """The pods of each node, placed ones before others and older before younger."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        found.setdefault(node_of(pod), []).append(pod)
    for group in found.values():
        group.sort(key=_seniority)
    return found


def _seniority(pod: Object) -> tuple[bool, str, str]:
    return not pod["spec"].get("nodeName"), meta.metadata(pod).get("creationTimestamp", ""), meta.name(pod)


def desired_pod(daemon_set: Object, node: str, revision_hash: str) -> Object:
    """The pod for one node, of the template's revision."""
    template = meta.deep_copy(daemon_set["spec"]["template"])
    metadata, spec = template.get("metadata") or {}, template["spec"]
    labels = {**(metadata.get("labels") or {}), REVISION_HASH: revision_hash}
    generation = annotations_of(daemon_set).get(TEMPLATE_GENERATION)
    if generation:
        labels["pod-template-generation"] = generation
    spec["tolerations"] = daemon_tolerations(spec)
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    # Whatever the template requires of nodes has been asked already; the name says it all.
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    affinity[_REQUIRED] = {"nodeSelectorTerms": [term]}
    pod_metadata: Object = {
        "generateName": meta.name(daemon_set) + "-",
        "namespace": meta.namespace(daemon_set),
        "labels": labels,
        "ownerReferences": [meta.controller_reference(daemon_set)],
    }
    for field in ("annotations", "finalizers"):
        if metadata.get(field):
            pod_metadata[field] = metadata[field]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod_metadata, "spec": spec}
