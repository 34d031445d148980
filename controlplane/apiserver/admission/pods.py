"""Priority and DefaultTolerationSeconds: two plugins that complete a pod's spec.

Source: plugin/pkg/admission/{priority,defaulttolerationseconds} of Kubernetes 1.32.
"""

from __future__ import annotations

from typing import Any

from podnet.controlplane.api.resources import PODS, PRIORITYCLASSES
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup

DEFAULT_TOLERATION_S = 300
SYSTEM_CLASSES = frozenset({"system-node-critical", "system-cluster-critical"})
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def _new_pod(attributes: Attributes) -> Object | None:
    creating = attributes.resource == PODS and attributes.operation == "CREATE" and not attributes.subresource
    return attributes.obj if creating else None


def priority(attributes: Attributes, lookup: Lookup) -> None:
    """Resolve priorityClassName to a number and a preemption policy; keep the classes' own rules."""
    if attributes.resource == PRIORITYCLASSES:
        _check_class(attributes, lookup)
    pod = _new_pod(attributes)
    if pod is None:
        return
    spec = pod.setdefault("spec", {})
    name = spec.get("priorityClassName") or ""
    chosen = lookup.find(PRIORITYCLASSES, "", name) if name else _global_default(lookup)
    if name and chosen is None:
        raise attributes.refuse(f"no PriorityClass with name {name} was found")
    value = int(chosen.get("value", 0)) if chosen else 0
    policy = (chosen or {}).get("preemptionPolicy") or "PreemptLowerPriority"
    if chosen is not None:
        spec["priorityClassName"] = chosen["metadata"]["name"]
    if spec.get("priority") not in {None, value}:
        raise attributes.refuse(
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority admission "
            f"controller computed {value} from the given PriorityClass name"
        )
    if spec.get("preemptionPolicy") not in {None, policy}:
        raise attributes.refuse(
            f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; priority "
            f"admission controller computed {policy} from the given PriorityClass name"
        )
    spec["priority"], spec["preemptionPolicy"] = value, policy


def _check_class(attributes: Attributes, lookup: Lookup) -> None:
    """The system's classes never go, and one class at most is everybody's."""
    if attributes.operation == "DELETE":
        if attributes.name in SYSTEM_CLASSES:
            raise attributes.refuse("this is a system priority class and cannot be deleted")
        return
    if (attributes.obj or {}).get("globalDefault"):
        found = _global_default(lookup)
        if found is not None and (attributes.operation == "CREATE" or found["metadata"]["name"] != attributes.name):
            name = found["metadata"]["name"]
            raise attributes.refuse(f"PriorityClass {name} is already marked as default. Only one default can exist")


def _global_default(lookup: Lookup) -> Object | None:
    defaults = [item for item in lookup.objects(PRIORITYCLASSES) if item.get("globalDefault")]
    return min(defaults, key=lambda item: item.get("value", 0), default=None)


def default_toleration_seconds(attributes: Attributes, lookup: Lookup) -> None:
    """Pods outlive a node's trouble by five minutes unless they say otherwise."""
    pod = _new_pod(attributes)
    if pod is None:
        return
    tolerations: list[dict[str, Any]] = pod.setdefault("spec", {}).get("tolerations") or []
    added = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": lookup.default_toleration_s}
        for key in _TAINTS
        if not any(_tolerates(toleration, key) for toleration in tolerations)
    ]
    if added:
        pod["spec"]["tolerations"] = [*tolerations, *added]


def _tolerates(toleration: dict[str, Any], key: str) -> bool:
    return toleration.get("key", "") in {key, ""} and toleration.get("effect", "") in {"NoExecute", ""}
