"""Whether this node takes a pod that was bound to it: the kubelet's own look at what the scheduler promised.

Pure. A pod with `spec.nodeName` set by hand has met no scheduler. Reasons and messages are upstream's
(pkg/kubelet/lifecycle/predicate.go); a rejected pod is Failed, and its controller makes another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import quantity
from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec


@dataclass(frozen=True, slots=True)
class Rejection:
    """status.reason and status.message of the pod."""

    reason: str
    message: str


def admit_pod(pod: Object, node: Object, others: Iterable[Object]) -> Rejection | None:
    """None when the pod may run beside `others` (the node's active pods)."""
    active = [other for other in others if not pod_spec.is_terminal(other)]
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    return (
        _resources(pod, active, allocatable)
        or _affinity(pod, node)
        or _ports(pod, active)
        or _taints(pod, (node.get("spec") or {}).get("taints") or ())
    )


def _rejected(reason: str, message: str) -> Rejection:
    return Rejection(reason, f"Pod was rejected: {message}")


def pod_requests(pod: Object, resource: str) -> int:
    """What a pod asks for (cpu in thousandths, the rest in whole units): its containers and sidecars together, or the
    largest init container when that is more, and its overhead."""
    sidecars = running = largest_init = 0
    for container in pod_spec.init_containers(pod):
        amount = _request(container, resource)
        if pod_spec.is_restartable_init(container):
            sidecars += amount
        else:
            largest_init = max(largest_init, sidecars + amount)
    running = sidecars + sum(_request(container, resource) for container in pod_spec.containers(pod))
    overhead = (pod["spec"].get("overhead") or {}).get(resource)
    return max(running, largest_init) + (_amount(resource, overhead) if overhead is not None else 0)


def _request(container: Mapping[str, Any], resource: str) -> int:
    resources = container.get("resources") or {}
    amount = (resources.get("requests") or {}).get(resource, (resources.get("limits") or {}).get(resource))
    return 0 if amount is None else _amount(resource, amount)


def _amount(resource: str, value: Any) -> int:
    parsed = quantity.of(str(value))
    return parsed.to_milli() if resource == "cpu" else parsed.to_int()


def _resources(pod: Object, active: Sequence[Object], allocatable: Mapping[str, Any]) -> Rejection | None:
    if "pods" in allocatable and len(active) + 1 > int(str(allocatable["pods"])):
        return _out_of("pods", 1, len(active), int(str(allocatable["pods"])))
    for resource in ("cpu", "memory", "ephemeral-storage"):
        wanted = pod_requests(pod, resource)
        if not wanted or resource not in allocatable:
            continue
        used = sum(pod_requests(other, resource) for other in active)
        capacity = _amount(resource, allocatable[resource])
        if used + wanted > capacity:
            return _out_of(resource, wanted, used, capacity)
    return None


def _out_of(resource: str, wanted: int, used: int, capacity: int) -> Rejection:
    return _rejected(
        f"OutOf{resource}",
        f"Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {capacity}",
    )


def _affinity(pod: Object, node: Object) -> Rejection | None:
    labels = node["metadata"].get("labels") or {}
    wanted = pod["spec"].get("nodeSelector") or {}
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    fits = all(labels.get(key) == value for key, value in wanted.items())
    if fits and affinity is not None:
        fits = any(
            _matches_term(term, labels, node["metadata"]["name"]) for term in affinity.get("nodeSelectorTerms") or ()
        )
    if fits:
        return None
    return _rejected("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")


def _matches_term(term: Mapping[str, Any], labels: Mapping[str, str], node_name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False  # an empty term selects nothing
    return all(_matches(expression, labels) for expression in expressions) and all(
        _matches(expression, {"metadata.name": node_name}) for expression in fields
    )


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, operator = labels.get(expression["key"]), expression["operator"]
    values: list[str] = list(expression.get("values") or ())
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator not in {"Gt", "Lt"} or value is None:
        return False
    try:
        mine, bound = int(value), int(values[0])
    except (ValueError, IndexError):
        return False
    return mine > bound if operator == "Gt" else mine < bound


def _host_ports(pod: Object) -> set[tuple[str, str, int]]:
    return {
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", int(port["hostPort"]))
        for container in (*pod_spec.init_containers(pod), *pod_spec.containers(pod))
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


def _ports(pod: Object, active: Sequence[Object]) -> Rejection | None:
    wanted = _host_ports(pod)
    for other in active if wanted else ():
        for ip, protocol, port in _host_ports(other):
            for my_ip, my_protocol, my_port in wanted:
                overlap = "0.0.0.0" in {ip, my_ip} or ip == my_ip
                if overlap and (protocol, port) == (my_protocol, my_port):
                    message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
                    return _rejected("NodePorts", message)
    return None


def _taints(pod: Object, taints: Sequence[Mapping[str, Any]]) -> Rejection | None:
    tolerations = pod["spec"].get("tolerations") or ()
    for taint in taints:
        if taint.get("effect") == "NoExecute" and not any(_tolerates(entry, taint) for entry in tolerations):
            return _rejected(
                "TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
            )
    return None


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")
