"""The pods of a StatefulSet and their claims: names, hostnames, labels and volumes that stay with the ordinal.

Pure. Source: kubernetes pkg/controller/statefulset/stateful_set_utils.go, KEP-1847 (claim retention).
"""

from __future__ import annotations

import re
from typing import Any

from podnet.controlplane.api import meta
from podnet.controlplane.api.types import Object
from podnet.controlplane.controllers.deployment.revision import annotations_of
from podnet.controlplane.controllers.history import REVISION_HASH

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"
_NAME = re.compile(r"(.*)-([0-9]+)", re.ASCII | re.DOTALL)


def ordinal_of(stateful_set: Object, pod: Object) -> int | None:
    """The number at the end of the pod's name, None when the name is not of this set."""
    match = _NAME.fullmatch(meta.name(pod))
    if match is None or match[1] != meta.name(stateful_set):
        return None
    return int(match[2])


def pod_name(stateful_set: Object, ordinal: int) -> str:
    """`web-0`."""
    return f"{meta.name(stateful_set)}-{ordinal}"


def revision_of(pod: Object) -> str:
    """The name of the ControllerRevision the pod was made from."""
    return meta.labels(pod).get(REVISION_HASH, "")


def _claim_templates(stateful_set: Object) -> list[Object]:
    return stateful_set["spec"].get("volumeClaimTemplates") or []


def identity_labels(stateful_set: Object, ordinal: int) -> dict[str, str]:
    """The labels by which one pod can be selected."""
    return {POD_NAME: pod_name(stateful_set, ordinal), POD_INDEX: str(ordinal)}


def desired_pod(stateful_set: Object, ordinal: int, revision: str) -> Object:
    """The pod of an ordinal, from the set's template, as being of that revision."""
    spec = stateful_set["spec"]
    template = meta.deep_copy(spec["template"])
    metadata, pod_spec = template.get("metadata") or {}, template["spec"]
    name = pod_name(stateful_set, ordinal)
    pod_spec["hostname"] = name
    if spec.get("serviceName"):
        pod_spec["subdomain"] = spec["serviceName"]
    claims = {meta.name(claim): claim_name(stateful_set, claim, ordinal) for claim in _claim_templates(stateful_set)}
    volumes = [volume for volume in pod_spec.get("volumes") or () if volume.get("name") not in claims]
    volumes += [
        {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": False}}
        for volume, claim in claims.items()
    ]
    if volumes:
        pod_spec["volumes"] = volumes
    pod_metadata: Object = {
        "name": name,
        "generateName": meta.name(stateful_set) + "-",
        "namespace": meta.namespace(stateful_set),
        "labels": {
            **(metadata.get("labels") or {}),
            **identity_labels(stateful_set, ordinal),
            REVISION_HASH: revision,
        },
        "ownerReferences": [meta.controller_reference(stateful_set)],
    }
    for field in ("annotations", "finalizers"):
        if metadata.get(field):
            pod_metadata[field] = metadata[field]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod_metadata, "spec": pod_spec}


def claim_name(stateful_set: Object, claim: Object, ordinal: int) -> str:
    """`data-web-0`."""
    return f"{meta.name(claim)}-{pod_name(stateful_set, ordinal)}"


def desired_claims(stateful_set: Object, ordinal: int) -> list[Object]:
    """The PersistentVolumeClaims of an ordinal, to be created where they are missing."""
    labels = (stateful_set["spec"].get("selector") or {}).get("matchLabels") or {}
    claims = []
    for template in _claim_templates(stateful_set):
        metadata: dict[str, Any] = {
            "name": claim_name(stateful_set, template, ordinal),
            "namespace": meta.namespace(stateful_set),
            "labels": {**meta.labels(template), **labels},
        }
        if annotations_of(template):
            metadata["annotations"] = dict(annotations_of(template))
        if _deletes(stateful_set, "whenDeleted"):
            metadata["ownerReferences"] = [_set_reference(stateful_set)]
        spec = meta.deep_copy(template.get("spec") or {})
        claims.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    return claims


def _deletes(stateful_set: Object, when: str) -> bool:
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return bool(policy.get(when) == "Delete")


def _set_reference(stateful_set: Object) -> dict[str, Any]:
    return meta.owner_reference(stateful_set, controller=True, block=True)


def is_stale_claim(stateful_set: Object, claim: Object, ordinal: int) -> bool:
    """The claim belongs to a former pod of this ordinal, which scaling took away: it is about to go as well."""
    name = pod_name(stateful_set, ordinal)
    former = any(r.get("kind") == "Pod" and r.get("name") == name for r in meta.owner_references(claim))
    return former and _deletes(stateful_set, "whenScaled")


def desired_claim_owners(stateful_set: Object, claim: Object, pod: Object | None, *, condemned: bool) -> list[Object]:
    """The claim's owner references under the retention policy: the set's when it goes with the set, its pod's when it
    goes with a pod that scaling takes away, and everybody else's as they are.
    """
    own = {meta.uid(stateful_set), *([meta.uid(pod)] if pod is not None else [])}
    set_kind, pod_kind = ("StatefulSet", meta.name(stateful_set)), ("Pod", meta.name(pod) if pod is not None else "")
    others = [
        reference
        for reference in meta.owner_references(claim)
        if reference.get("uid") not in own
        and (reference.get("kind"), reference.get("name")) not in {set_kind, pod_kind}
    ]
    if condemned and pod is not None and _deletes(stateful_set, "whenScaled"):
        pod_typed = {"apiVersion": "v1", "kind": "Pod", **pod}
        return [*others, meta.owner_reference(pod_typed, controller=True, block=True)]
    if _deletes(stateful_set, "whenDeleted"):
        return [*others, _set_reference(stateful_set)]
    return others
