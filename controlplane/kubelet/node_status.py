"""The Node object of this kubelet: what it registers and what it reports.

Pure. Labels are those of kubernetes.io/docs/reference/labels-annotations-taints; conditions carry upstream's reasons
and messages. What others put on a node (taints, conditions, annotations, podCIDR) is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet.config import KubeletConfig
from podnet.controlplane.kubelet.machine import Machine, node_machine_id

KUBELET_VERSION = "v1.32.4"
LIMITS_CONDITION = "ResourceLimitsUnenforced"
READY, NOT_READY = "kubelet is posting ready status", "container runtime network not ready: "
HEARTBEAT_FIELDS = ("lastHeartbeatTime",)


@dataclass(frozen=True, slots=True)
class NodeInput:
    """What a node's report is made of. `runtime_problem` is why the runtime is not ready ("" when it is)."""

    config: KubeletConfig
    machine: Machine
    runtime: tuple[str, str]
    images: Sequence[str]
    runtime_problem: str
    now: str


def default_labels(config: KubeletConfig, machine: Machine) -> dict[str, str]:
    """Labels that the kubelet itself vouches for."""
    return {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/os": "linux",
    }


def new_node(given: NodeInput) -> Object:
    """The node as it is first registered."""
    config = given.config
    spec: dict[str, Any] = {}
    if config.taints:
        spec["taints"] = [dict(taint) for taint in config.taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.node_name,
            "labels": {**default_labels(config, given.machine), **config.labels},
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": spec,
        "status": node_status(given, {}),
    }


def adopted_metadata(given: NodeInput, node: Object) -> Object | None:
    """The standing node with our labels restored, or None when it has them."""
    labels = node["metadata"].get("labels") or {}
    wanted = {**default_labels(given.config, given.machine), **given.config.labels}
    if all(labels.get(key) == value for key, value in wanted.items()):
        return None
    return {**node, "metadata": {**node["metadata"], "labels": {**labels, **wanted}}}


def node_status(given: NodeInput, standing: Mapping[str, Any]) -> dict[str, Any]:
    """The status to write over the standing one."""
    config, machine = given.config, given.machine
    amounts = {
        "cpu": str(machine.cpus),
        "ephemeral-storage": f"{machine.storage_bytes // 1024}Ki",
        "memory": f"{machine.memory_bytes // 1024}Ki",
        "pods": str(config.max_pods),
    }
    machine_id = node_machine_id(machine.machine_id, config.node_name)
    return {
        **standing,
        "capacity": {**standing.get("capacity", {}), **amounts},
        "allocatable": {**standing.get("allocatable", {}), **amounts},
        "conditions": _conditions(given, standing.get("conditions") or ()),
        "addresses": [
            {"type": "InternalIP", "address": config.node_ip},
            {"type": "Hostname", "address": config.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "nodeInfo": {
            "machineID": machine_id,
            "systemUUID": str(UUID(machine_id)),
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel_version,
            "osImage": machine.os_image,
            "containerRuntimeVersion": "://".join(given.runtime),
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
        "images": [{"names": [image], "sizeBytes": 0} for image in given.images],
    }


def same_report(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """True when two statuses differ in heartbeats at most."""
    return _without_heartbeats(one) == _without_heartbeats(other)


def is_ready(status: Mapping[str, Any]) -> bool:
    """True when the Ready condition says so."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())


def _without_heartbeats(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = [
        {key: value for key, value in condition.items() if key not in HEARTBEAT_FIELDS}
        for condition in status.get("conditions") or ()
    ]
    rest = {key: value for key, value in status.items() if key != "conditions" and value not in ({}, [], None)}
    info = {key: value for key, value in (rest.get("nodeInfo") or {}).items() if value}
    return {**rest, "nodeInfo": info, "conditions": conditions}


def _conditions(given: NodeInput, standing: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    ready = not given.runtime_problem
    # A runtime may say it in full itself.
    message = NOT_READY + given.runtime_problem.removeprefix(NOT_READY) if given.runtime_problem else READY
    wanted: tuple[tuple[str, str, str, str], ...] = (
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True" if ready else "False", "KubeletReady" if ready else "KubeletNotReady", message),
    )
    problem = given.config.limits_problem
    if problem:
        wanted = ((LIMITS_CONDITION, "True", "NoControlGroups", problem), *wanted)
    own = {LIMITS_CONDITION, *(kind for kind, *_ in wanted)}
    before = {condition["type"]: condition for condition in standing}
    foreign = [dict(condition) for condition in standing if condition["type"] not in own]
    return [*foreign, *(_condition(entry, before.get(entry[0]), given.now) for entry in wanted)]


def _condition(entry: tuple[str, str, str, str], before: Mapping[str, Any] | None, now: str) -> dict[str, Any]:
    kind, status, reason, message = entry
    same = before is not None and before.get("status") == status and before.get("lastTransitionTime")
    return {
        "type": kind,
        "status": status,
        "lastHeartbeatTime": now,
        "lastTransitionTime": before["lastTransitionTime"] if same and before is not None else now,
        "reason": reason,
        "message": message,
    }
