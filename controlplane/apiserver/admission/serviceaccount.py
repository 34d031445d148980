"""ServiceAccount: every pod has one, and unless it declines, the account's token mounted where clients look for it.

Source: plugin/pkg/admission/serviceaccount of Kubernetes 1.32.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.resources import PODS, SERVICEACCOUNTS
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup
from podnet.controlplane.apiserver.metadata import generate_name

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_EXPIRATION_S = 3607
"""An hour and seven seconds: upstream's mark of a token that was asked for by this plugin."""
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"


def account_name(pod: Object) -> str:
    """The account a pod asks for."""
    spec = pod.get("spec") or {}
    return str(spec.get("serviceAccountName") or spec.get("serviceAccount") or "default")


def service_account(attributes: Attributes, lookup: Lookup) -> None:
    """Set the account of a new pod and mount its token."""
    if (
        attributes.resource != PODS
        or attributes.operation != "CREATE"
        or attributes.subresource
        or attributes.obj is None
    ):
        return
    pod = attributes.obj
    if MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
        return
    spec = pod.setdefault("spec", {})
    name = account_name(pod)
    account = lookup.find(SERVICEACCOUNTS, attributes.namespace, name)
    if account is None:
        raise attributes.refuse(
            f'error looking up service account {attributes.namespace}/{name}: serviceaccount "{name}" not found'
        )
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(reference) for reference in account["imagePullSecrets"]]
    if _wants_token(spec, account):
        _mount_token(spec)


def _wants_token(spec: dict[str, Any], account: Object) -> bool:
    for said in (spec.get("automountServiceAccountToken"), account.get("automountServiceAccountToken")):
        if said is not None:
            return bool(said)
    return True


def _mount_token(spec: dict[str, Any]) -> None:
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    lacking = [c for c in containers if not any(m.get("mountPath") == MOUNT_PATH for m in c.get("volumeMounts") or ())]
    if not lacking:
        return
    volumes = spec.get("volumes") or []
    name = next(
        (v["name"] for v in volumes if v.get("name", "").startswith("kube-api-access-") and "projected" in v), ""
    )
    if not name:
        taken = {volume.get("name") for volume in volumes}
        name = generate_name("kube-api-access-")
        while name in taken:
            name = generate_name("kube-api-access-")
        spec["volumes"] = [*volumes, token_volume(name)]
    for container in lacking:
        mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]


def token_volume(name: str) -> dict[str, Any]:
    """The projected volume: token, authority, namespace."""
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_EXPIRATION_S, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 420}}
