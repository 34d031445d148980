"""What a node reports, and which pods it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.kubelet.admission import admit_pod, pod_requests
from podnet.controlplane.kubelet.config import KubeletConfig
from podnet.controlplane.kubelet.machine import node_machine_id, observe_machine
from podnet.controlplane.kubelet.node_status import (
    NodeInput,
    adopted_metadata,
    is_ready,
    new_node,
    node_status,
    same_report,
)
from podnet.controlplane.kubelet.qos import qos_class


def node(**labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8", **labels}},
        "spec": {
            "taints": [{"key": "gone", "value": "yes", "effect": "NoExecute"}, {"key": "x", "effect": "NoSchedule"}]
        },
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
    }


TOLERATES = [{"key": "gone", "operator": "Exists"}]


def container(cpu: str = "", memory: str = "", port: int = 0, **more: Any) -> dict[str, Any]:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    ports = [{"containerPort": port, "hostPort": port}] if port else []
    return {"name": "app", "resources": {"requests": requests}, "ports": ports, **more}


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {}, "spec": {"tolerations": TOLERATES, "containers": [*containers], **spec}, "status": {}}


def affinity(*expressions: dict[str, Any], fields: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    term: dict[str, Any] = {"matchExpressions": [*expressions]}
    if fields:
        term["matchFields"] = fields
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    }


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": [*values]}


FIELD = [expression("metadata.name", "In", "n1")]


@pytest.mark.parametrize(
    ("candidate", "others", "reason"),
    [
        pytest.param(pod(container()), [], "", id="plain"),
        pytest.param(pod(container("2")), [], "", id="just-fits"),
        pytest.param(pod(container("2100m")), [], "OutOfcpu", id="too-much-cpu"),
        pytest.param(pod(container("1")), [pod(container("1500m"))], "OutOfcpu", id="too-much-together"),
        pytest.param(pod(container(memory="2Gi")), [], "OutOfmemory", id="too-much-memory"),
        pytest.param(pod(container()), [pod(container())] * 3, "OutOfpods", id="too-many-pods"),
        pytest.param(
            pod(container()),
            [{**pod(container()), "status": {"phase": "Succeeded"}}] * 5,
            "",
            id="the-dead-do-not-count",
        ),
        pytest.param(pod(nodeSelector={"zone": "a"}), [], "", id="selector"),
        pytest.param(pod(nodeSelector={"zone": "b"}), [], "NodeAffinity", id="selector-elsewhere"),
        pytest.param(pod(**affinity(expression("zone", "In", "a", "b"))), [], "", id="in"),
        pytest.param(pod(**affinity(expression("zone", "NotIn", "a"))), [], "NodeAffinity", id="not-in"),
        pytest.param(pod(**affinity(expression("zone", "Exists"))), [], "", id="exists"),
        pytest.param(pod(**affinity(expression("zone", "DoesNotExist"))), [], "NodeAffinity", id="does-not-exist"),
        pytest.param(pod(**affinity(expression("cores", "Gt", "4"))), [], "", id="gt"),
        pytest.param(pod(**affinity(expression("cores", "Lt", "4"))), [], "NodeAffinity", id="lt"),
        pytest.param(pod(**affinity(expression("zone", "Gt", "4"))), [], "NodeAffinity", id="gt-of-text"),
        pytest.param(pod(**affinity(fields=FIELD)), [], "", id="field"),
        pytest.param(pod(**affinity()), [], "NodeAffinity", id="an-empty-term-selects-nothing"),
        pytest.param(pod(container(port=80)), [pod(container(port=80))], "NodePorts", id="port-taken"),
        pytest.param(pod(container(port=80)), [pod(container(port=81))], "", id="another-port"),
        pytest.param(pod(container(), tolerations=[]), [], "TaintToleration", id="no-execute"),
        pytest.param(pod(container(), tolerations=[{"key": "gone", "value": "yes"}]), [], "", id="tolerated-by-value"),
        pytest.param(
            pod(container(), tolerations=[{"key": "gone", "value": "no"}]), [], "TaintToleration", id="another-value"
        ),
        pytest.param(pod(container(), tolerations=[{"operator": "Exists"}]), [], "", id="tolerates-all"),
    ],
)
def test_admission(candidate: dict[str, Any], others: list[dict[str, Any]], reason: str) -> None:
    rejection = admit_pod(candidate, node(), others)
    assert (rejection.reason if rejection else "") == reason


def test_the_message_counts() -> None:
    rejection = admit_pod(pod(container("2100m")), node(), [pod(container("500m"))])
    assert rejection is not None
    assert rejection.message == (
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 2100, used: 500, capacity: 2000"
    )


def test_requests_of_init_containers_and_sidecars() -> None:
    spec = {
        "initContainers": [container("3"), container("500m", restartPolicy="Always"), container("1")],
        "containers": [container("1"), container("1")],
        "overhead": {"cpu": "100m"},
    }
    assert pod_requests({"spec": spec}, "cpu") == 3100
    spec["initContainers"] = spec["initContainers"][1:]
    assert pod_requests({"spec": spec}, "cpu") == 2600


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param([{}], "BestEffort", id="none"),
        pytest.param([{"requests": {"cpu": "1"}}], "Burstable", id="requests"),
        pytest.param([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed", id="limits"),
        pytest.param([{"limits": {"cpu": "1"}}], "Burstable", id="one-limit"),
        pytest.param([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable", id="one-container"),
        pytest.param(
            [{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}],
            "Burstable",
            id="less-than-the-limit",
        ),
    ],
)
def test_qos(resources: list[dict[str, Any]], expected: str) -> None:
    assert qos_class({"spec": {"containers": [{"name": "a", "resources": entry} for entry in resources]}}) == expected


@pytest.fixture
def given(node_config: KubeletConfig, tmp_path: Path) -> NodeInput:
    config = replace(node_config, taints=({"key": "k", "effect": "NoSchedule"},))
    machine = observe_machine(tmp_path / "not" / "there")
    return NodeInput(config, machine, ("podnet", "0.1.0"), ["nginx"], "", "2026-11-21T01:00:00Z")


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def test_a_new_node(given: NodeInput) -> None:
    made = new_node(given)
    assert made["spec"]["taints"] == [{"key": "k", "effect": "NoSchedule"}]
    assert made["metadata"]["labels"]["kubernetes.io/os"] == "linux"
    status = made["status"]
    assert conditions(status) == {
        "MemoryPressure": ("False", "KubeletHasSufficientMemory"),
        "DiskPressure": ("False", "KubeletHasNoDiskPressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID"),
        "Ready": ("True", "KubeletReady"),
    }
    assert is_ready(status)
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == given.config.port
    assert all(status["nodeInfo"][key] for key in ("machineID", "kernelVersion", "osImage", "architecture", "bootID"))


def test_a_report_keeps_what_others_wrote(given: NodeInput) -> None:
    network = {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"}
    before = node_status(given, {"conditions": [network], "volumesInUse": ["x"]})
    assert network in before["conditions"]
    assert before["volumesInUse"] == ["x"]
    later = node_status(replace(given, now="2026-11-21T02:00:00Z"), before)
    assert same_report(before, later)
    ready = {c["type"]: c for c in later["conditions"]}["Ready"]
    assert (ready["lastHeartbeatTime"], ready["lastTransitionTime"]) == ("2026-11-21T02:00:00Z", "2026-11-21T01:00:00Z")


@pytest.mark.parametrize("problem", ["cni is down", "container runtime network not ready: cni is down"])
def test_a_node_without_network(given: NodeInput, problem: str) -> None:
    before = node_status(given, {})
    status = node_status(replace(given, runtime_problem=problem, now="2026-11-21T02:00:00Z"), before)
    ready = {c["type"]: c for c in status["conditions"]}["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")
    assert ready["message"] == "container runtime network not ready: cni is down"
    assert ready["lastTransitionTime"] == "2026-11-21T02:00:00Z"
    assert not same_report(before, status)


def test_adoption_restores_our_labels_and_keeps_others(given: NodeInput) -> None:
    standing = {"metadata": {"name": "worker1", "labels": {"mine": "x"}}, "spec": {"podCIDR": "10.244.1.0/24"}}
    adopted = adopted_metadata(given, standing)
    assert adopted is not None
    assert adopted["metadata"]["labels"]["mine"] == "x"
    assert adopted["metadata"]["labels"]["kubernetes.io/hostname"] == "worker1"
    assert adopted["spec"] == standing["spec"]
    assert adopted_metadata(given, adopted) is None


def test_nodes_of_one_machine_have_ids_of_their_own() -> None:
    one, two = node_machine_id("m", "n1"), node_machine_id("m", "n2")
    assert one != two
    assert one == node_machine_id("m", "n1")
    assert len(one) == 32
