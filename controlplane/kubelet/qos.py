"""The quality-of-service class of a pod, from requests and limits.

Pure. Source: kubernetes.io/docs/concepts/workloads/pods/pod-qos; a container without requests has its limits as
requests.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec

_COUNTED = ("cpu", "memory")


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort."""
    described = [*pod_spec.init_containers(pod), *pod_spec.containers(pod)]
    if all(not _counted(container, "requests") and not _counted(container, "limits") for container in described):
        return "BestEffort"
    if all(_is_guaranteed(container) for container in described):
        return "Guaranteed"
    return "Burstable"


def _counted(container: dict[str, Any], which: str) -> dict[str, str]:
    amounts = (container.get("resources") or {}).get(which) or {}
    return {name: str(amounts[name]) for name in _COUNTED if name in amounts and str(amounts[name]) not in {"0", "0m"}}


def _is_guaranteed(container: dict[str, Any]) -> bool:
    limits = _counted(container, "limits")
    requests = {**limits, **_counted(container, "requests")}
    return set(limits) == set(_COUNTED) and requests == limits
