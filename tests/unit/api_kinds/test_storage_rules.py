"""Claims, volumes and classes: what is refused, with paths and messages, and what may still change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from podnet.controlplane.api import resources
from podnet.controlplane.api.defaults import apply_defaults
from podnet.controlplane.api.meta import deep_copy
from podnet.controlplane.api.validation import validate_create, validate_update

CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
VOLUME = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}


def claim(**spec: Any) -> Any:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c", "namespace": "d"},
        "spec": CLAIM | spec,
    }


def volume(**spec: Any) -> Any:
    body = {key: value for key, value in (VOLUME | spec).items() if value is not None}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": body}


def storage_class(**fields: Any) -> Any:
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "s"}}
    return kind | {"provisioner": "example.com/x"} | fields


def pod(volume_: Any, **container: Any) -> Any:
    spec = {"containers": [{"name": "c", "image": "x", **container}], "volumes": [{"name": "v", **volume_}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d"}, "spec": spec}


def stateful_set(*mounts: str) -> Any:
    container = {
        "name": "c",
        "image": "x",
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in mounts],
    }
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    spec = {
        "serviceName": "s",
        "selector": {"matchLabels": {"a": "b"}},
        "template": template,
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": CLAIM}],
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s", "namespace": "d"}, "spec": spec}


def resource_of(obj: Any) -> Any:
    found = resources.by_kind(obj["apiVersion"], obj["kind"])
    assert found is not None
    return found


def refusals(causes: Any) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in causes]


@dataclass(frozen=True)
class Bad:
    id: str
    obj: Any
    refused: str = ""


NOWHERE = {"nodeAffinity": None, "local": {"path": "/l"}, "hostPath": None}
BAD = [
    Bad("claim", claim()),
    Bad("claim-no-class", claim(storageClassName="")),
    Bad("claim-class-name", claim(storageClassName="No!"), "spec.storageClassName: Invalid value"),
    Bad("claim-modes", claim(accessModes=[]), "spec.accessModes: Required value: at least 1 access mode is required"),
    Bad("claim-mode", claim(accessModes=["Often"]), "spec.accessModes: Unsupported value"),
    Bad("claim-single-pod-alone", claim(accessModes=["ReadWriteOncePod", "ReadWriteOnce"]), "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"),
    Bad("claim-size", claim(resources={}), "spec.resources[storage]: Required value"),
    Bad("claim-nothing", claim(resources={"requests": {"storage": "0"}}), "spec.resources[storage]: Invalid value"),
    Bad("claim-volume-mode", claim(volumeMode="Tape"), "spec.volumeMode: Unsupported value"),
    Bad("volume", volume()),
    Bad("volume-two-kinds", volume(local={"path": "/l"}, nodeAffinity={"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}), "spec.local: Forbidden: may not specify more than 1 volume type"),
    Bad("volume-capacity", volume(capacity=None), "spec.capacity: Required value"),
    Bad("volume-local-anywhere", volume(**NOWHERE), "spec.nodeAffinity: Required value: Local volume requires node affinity"),
    Bad("volume-backsteps", volume(hostPath={"path": "/a/../b"}), "spec.hostPath.path: Invalid value"),
    Bad("volume-no-path", volume(hostPath={"path": ""}), "spec.hostPath.path: Required value"),
    Bad("volume-recycle-root", volume(hostPath={"path": "/"}, persistentVolumeReclaimPolicy="Recycle"), "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"),
    Bad("class", storage_class()),
    Bad("class-provisioner", storage_class(provisioner=""), "provisioner: Required value"),
    Bad("class-provisioner-name", storage_class(provisioner="a b"), "provisioner: Invalid value"),
    Bad("class-policy", storage_class(reclaimPolicy="Recycle"), "reclaimPolicy: Unsupported value"),
    Bad("class-binding", storage_class(volumeBindingMode="Later"), "volumeBindingMode: Unsupported value"),
    Bad("pod-ephemeral", pod({"ephemeral": {"volumeClaimTemplate": {"spec": CLAIM}}})),
    Bad("pod-ephemeral-empty", pod({"ephemeral": {}}), "spec.volumes[0].ephemeral.volumeClaimTemplate: Required value"),
    Bad("pod-ephemeral-modes", pod({"ephemeral": {"volumeClaimTemplate": {"spec": {"resources": CLAIM["resources"]}}}}), "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Required value"),
    Bad("pod-claim-name", pod({"persistentVolumeClaim": {}}), "spec.volumes[0].persistentVolumeClaim.claimName: Required value"),
    Bad("pod-device", pod({"persistentVolumeClaim": {"claimName": "c"}}, volumeDevices=[{"name": "v", "devicePath": "/dev/x"}])),
    Bad("pod-device-unknown", pod({"emptyDir": {}}, volumeDevices=[{"name": "w", "devicePath": "/dev/x"}]), 'spec.containers[0].volumeDevices[0].name: Not found: "w"'),
    Bad("pod-device-mounted", pod({"persistentVolumeClaim": {"claimName": "c"}}, volumeMounts=[{"name": "v", "mountPath": "/v"}], volumeDevices=[{"name": "v", "devicePath": "/dev/x"}]), 'spec.containers[0].volumeDevices[0].name: Invalid value: "v": must not already exist in volumeMounts'),
    Bad("set-mounts-its-claims", stateful_set("data")),
    Bad("set-mounts-nothing-else", stateful_set("other"), 'spec.template.spec.containers[0].volumeMounts[0].name: Not found: "other"'),
]  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
def test_what_is_refused(case: Bad) -> None:
    resource = resource_of(case.obj)
    found = refusals(validate_create(apply_defaults(deep_copy(case.obj), resource), resource))
    assert len(found) == bool(case.refused), found
    assert all(text.startswith(case.refused) for text in found), found


IMMUTABLE = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
BOUND = {"phase": "Bound", "capacity": {"storage": "1Gi"}}


def size(text: str) -> Any:
    return {"resources": {"requests": {"storage": text}}}


@dataclass(frozen=True)
class Change:
    id: str
    before: Any
    after: Any
    refused: str = ""
    status: Any = field(default_factory=dict)


CHANGES = [
    Change("named-by-the-binder", claim(), claim(volumeName="v")),
    Change("not-renamed", claim(volumeName="v"), claim(volumeName="w"), IMMUTABLE),
    Change("class-assigned-later", claim(), claim(storageClassName="s")),
    Change("class-changed", claim(storageClassName="s"), claim(storageClassName="t"), IMMUTABLE),
    Change("no-class-is-a-class", claim(storageClassName=""), claim(storageClassName="t"), IMMUTABLE),
    Change("modes", claim(), claim(accessModes=["ReadWriteMany"]), IMMUTABLE),
    Change("pending-does-not-grow", claim(), claim(**size("2Gi")), IMMUTABLE),
    Change("bound-grows", claim(), claim(**size("2Gi")), "", BOUND),
    Change("bound-does-not-shrink", claim(), claim(**size("1Mi")), "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity", BOUND),
    Change("an-expansion-taken-back", claim(**size("9Gi")), claim(**size("2Gi")), "", BOUND),
    Change("volume-policy", volume(), volume(persistentVolumeReclaimPolicy="Delete")),
    Change("volume-source", volume(), volume(hostPath={"path": "/y"}), "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"),
    Change("class-expansion", storage_class(), storage_class(allowVolumeExpansion=True)),
    Change("class-parameters", storage_class(), storage_class(parameters={"a": "b"}), "parameters: Forbidden: updates to parameters are forbidden."),
    Change("class-other-provisioner", storage_class(), storage_class(provisioner="y"), "provisioner: Forbidden: updates to provisioner are forbidden."),
    Change("class-other-mode", storage_class(), storage_class(volumeBindingMode="WaitForFirstConsumer"), 'volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable'),
]  # fmt: skip


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.id)
def test_what_may_change(case: Change) -> None:
    resource = resource_of(case.before)
    before, after = (apply_defaults(deep_copy(obj), resource) for obj in (case.before, case.after))
    for obj in (before, after):
        obj["metadata"] |= {"uid": "u", "resourceVersion": "1"}
        if case.status:
            obj["status"] = dict(case.status)
    found = refusals(validate_update(after, before, resource))
    assert len(found) == bool(case.refused), found
    assert all(text.startswith(case.refused) for text in found), found
