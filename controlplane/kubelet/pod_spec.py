"""Small questions about a pod's spec, each asked in several places.

Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet.cri import ContainerState, ContainerStatus

DEFAULT_GRACE_S = 30


def uid(pod: Object) -> str:
    """The pod's UID."""
    return str(pod["metadata"]["uid"])


def name_of(pod: Object) -> str:
    """The pod's name."""
    return str(pod["metadata"]["name"])


def namespace_of(pod: Object) -> str:
    """The pod's namespace."""
    return str(pod["metadata"]["namespace"])


def full_name(pod: Object) -> str:
    """`web-0_default`, as the kubelet's back-off message names a pod."""
    return f"{name_of(pod)}_{namespace_of(pod)}"


def restart_policy(pod: Object) -> str:
    """Always, OnFailure or Never."""
    return str(pod["spec"].get("restartPolicy") or "Always")


def host_network(pod: Object) -> bool:
    """True when the pod shares its node's network namespace."""
    return bool(pod["spec"].get("hostNetwork"))


def init_containers(pod: Object) -> list[dict[str, Any]]:
    """spec.initContainers."""
    return list(pod["spec"].get("initContainers") or ())


def containers(pod: Object) -> list[dict[str, Any]]:
    """spec.containers."""
    return list(pod["spec"].get("containers") or ())


def ephemeral_containers(pod: Object) -> list[dict[str, Any]]:
    """spec.ephemeralContainers (`kubectl debug`)."""
    return list(pod["spec"].get("ephemeralContainers") or ())


def all_containers(pod: Object) -> Iterator[dict[str, Any]]:
    """Init containers, containers, ephemeral containers, in the order of the spec."""
    yield from init_containers(pod)
    yield from containers(pod)
    yield from ephemeral_containers(pod)


def container_named(pod: Object, name: str) -> dict[str, Any] | None:
    """The container of that name, whatever its sort."""
    return next((c for c in all_containers(pod) if c["name"] == name), None)


def is_restartable_init(container: dict[str, Any]) -> bool:
    """True for a sidecar: an init container with `restartPolicy: Always`."""
    return container.get("restartPolicy") == "Always"


def is_deleting(pod: Object) -> bool:
    """True from the moment a deletionTimestamp is set."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_terminal(pod: Object) -> bool:
    """True when status.phase says that the pod has run to its end."""
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def grace_period_s(pod: Object) -> int:
    """How long the pod may take to end: what the delete asked for, else the spec, else 30 s."""
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    if is_deleting(pod) and asked is not None:
        return int(asked)
    specified = pod["spec"].get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE_S if specified is None else int(specified)


def container_hash(container: dict[str, Any]) -> str:
    """Changes with what may be changed in a running pod and needs a restart: the image (and the name)."""
    text = f"{container['name']}\n{container.get('image', '')}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def should_restart(policy: str, status: ContainerStatus | None) -> bool:
    """Whether the pod's restart policy lets a container in this state start (again)."""
    if status is None or status.state in {ContainerState.CREATED, ContainerState.UNKNOWN}:
        return True
    if status.state is ContainerState.RUNNING:
        return False
    if policy == "OnFailure":
        return status.exit_code != 0
    return policy == "Always"
