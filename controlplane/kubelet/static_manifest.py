"""Static pods on paper: from a manifest file to the pod that this node runs, and to its mirror in the API.

Pure. The pod is the file's, named after the node too; its UID is a digest of node, file and text, so that a changed file
is another pod. The mirror is the same pod with the digest in its annotations: what `kubectl get` shows, and no more than
that. Source: kubelet's pkg/kubelet/config/common.go and pod/mirror_client.go; the static pod task page.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from podnet.controlplane.api.defaults import apply_defaults
from podnet.controlplane.api.resources import PODS
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation import validate_create

SOURCE = "kubernetes.io/config.source"
HASH = "kubernetes.io/config.hash"
SEEN = "kubernetes.io/config.seen"
MIRROR = "kubernetes.io/config.mirror"
_TOLERATION = {"operator": "Exists", "effect": "NoExecute"}


class ManifestError(Exception):
    """Why a file is no static pod."""


def static_pod(text: str, file: str, node: str, seen: str) -> Object:
    """The pod of a manifest. `seen`: when the file was first read, RFC 3339."""
    try:
        given = json.loads(text) if file.endswith(".json") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ManifestError(f"cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict) or given.get("kind") != "Pod" or given.get("apiVersion") != "v1":
        raise ManifestError("must be one object with apiVersion: v1 and kind: Pod")
    metadata, spec = given.get("metadata"), given.get("spec")
    if not isinstance(metadata, dict) or not metadata.get("name") or not isinstance(spec, dict):
        raise ManifestError("metadata.name and spec must be set")
    _refuse_references(spec)
    uid = hashlib.sha256(f"{node}\n{file}\n{text}".encode()).hexdigest()[:32]
    annotations = {**(metadata.get("annotations") or {}), HASH: uid, SOURCE: "file", SEEN: seen}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name']}-{node}",
            "namespace": metadata.get("namespace") or "default",
            "labels": dict(metadata.get("labels") or {}),
            "annotations": annotations,
            "uid": uid,
            "creationTimestamp": seen,
        },
        "spec": {
            **spec,
            "nodeName": node,
            "tolerations": [*(t for t in spec.get("tolerations") or () if t != _TOLERATION), dict(_TOLERATION)],
        },
    }
    pod = apply_defaults(pod, PODS)
    causes = validate_create(pod, PODS)
    if causes:
        raise ManifestError("; ".join(f"{cause.field}: {cause.message}" for cause in causes))
    return {**pod, "status": {"phase": "Pending"}}


def _refuse_references(spec: dict[str, Any]) -> None:
    """A static pod depends on no object of the API: it runs without one."""
    if spec.get("serviceAccountName") not in (None, "", "default"):
        raise ManifestError("a static pod may not reference a service account")
    for volume in spec.get("volumes") or ():
        for kind in ("configMap", "secret", "persistentVolumeClaim"):
            if isinstance(volume, dict) and kind in volume:
                raise ManifestError(f"a static pod may not reference other objects: volume {volume.get('name')!r}")


def mirror_pod(pod: Object, node: Object | None) -> Object:
    """What stands for the pod in the API."""
    metadata = {key: pod["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    metadata["annotations"] = {**metadata["annotations"], MIRROR: pod["metadata"]["uid"]}
    if node is not None:
        owner = {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"], "uid": node["metadata"]["uid"]}
        metadata["ownerReferences"] = [{**owner, "controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}


def is_mirror(pod: Object) -> bool:
    """Whether an object of the API only stands for a static pod."""
    return MIRROR in (pod["metadata"].get("annotations") or {})


def is_static(pod: Object) -> bool:
    """Whether a pod came from a file of this node."""
    annotations = pod["metadata"].get("annotations") or {}
    return annotations.get(SOURCE) == "file" and MIRROR not in annotations


def mirrors(mirror: Object, pod: Object) -> bool:
    """Whether this mirror shows this very pod, and is not being deleted."""
    metadata = mirror["metadata"]
    return bool(
        (metadata.get("annotations") or {}).get(MIRROR) == pod["metadata"]["uid"]
        and not metadata.get("deletionTimestamp")
    )
