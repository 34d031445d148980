"""Where claims let a pod run: filters, messages, and what is promised to whom."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from podnet.controlplane.scheduler.decide import Placement, Unschedulable, decide, explain
from podnet.controlplane.scheduler.types import node_infos, parse_pod
from podnet.controlplane.scheduler.volumes import PodVolumes, VolumeSnapshot, volume_snapshot

DONE = {"pv.kubernetes.io/bind-completed": "yes"}
SELECTED = "volume.kubernetes.io/selected-node"
LATE = {
    "metadata": {"name": "late"},
    "provisioner": "podnet.dev/local-path",
    "volumeBindingMode": "WaitForFirstConsumer",
}
STATIC = {
    "metadata": {"name": "static"},
    "provisioner": "kubernetes.io/no-provisioner",
    "volumeBindingMode": "WaitForFirstConsumer",
}
ZONED = {
    **LATE,
    "metadata": {"name": "zoned"},
    "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["z2"]}]}],
}


def node(name: str, **labels: str) -> Any:
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "status": {"allocatable": amounts},
    }


def pod(name: str, *claims: str, **spec: Any) -> Any:
    volumes = [{"name": f"v{n}", "persistentVolumeClaim": {"claimName": claim}} for n, claim in enumerate(claims)]
    metadata = {"namespace": "d", "name": name, "uid": f"uid-{name}"}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c"}], "volumes": volumes, **spec}}


def claim(name: str, storage_class: str = "late", size: str = "1Gi", phase: str = "Pending", **spec: Any) -> Any:
    annotations, modes = spec.pop("annotations", {}), spec.pop("modes", ["ReadWriteOnce"])
    body = {
        "storageClassName": storage_class,
        "accessModes": modes,
        "resources": {"requests": {"storage": size}},
        **spec,
    }
    metadata = {"namespace": "d", "name": name, "uid": f"uid-{name}", "annotations": annotations}
    return {"metadata": metadata, "spec": body, "status": {"phase": phase}}


def bound(name: str, volume: str, **spec: Any) -> Any:
    return claim(name, phase="Bound", volumeName=volume, annotations=DONE, **spec)


def volume(name: str, on: str = "", storage_class: str = "late", size: str = "1Gi", **spec: Any) -> Any:
    body: dict[str, Any] = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        **spec,
    }
    if on:
        row = {"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}
        body["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [row]}]}}
    return {"metadata": {"name": name}, "spec": body, "status": {"phase": "Available"}}


def snapshot(*objects: Any, **promises: Any) -> VolumeSnapshot:
    claims = [obj for obj in objects if "namespace" in obj["metadata"]]
    volumes = [obj for obj in objects if "namespace" not in obj["metadata"]]
    return replace(volume_snapshot(claims, volumes, (LATE, STATIC, ZONED)), **promises)


NODES = [node("n1", zone="z1"), node("n2", zone="z2")]
CONFLICT = "node(s) had volume node affinity conflict"
NOTHING = "node(s) didn't find available persistent volumes to bind"


@dataclass(frozen=True)
class Case:
    id: str
    pod: Any
    given: VolumeSnapshot
    node: str = ""
    message: str = ""
    others: list[Any] = field(default_factory=list)


CASES = [
    Case("no-claims", pod("p"), snapshot(), "n1"),
    Case("bound-goes-to-its-volume", pod("p", "c"), snapshot(bound("c", "v"), volume("v", "n2")), "n2"),
    Case("two-volumes-two-nodes", pod("p", "c", "e"), snapshot(bound("c", "v"), volume("v", "n2"), bound("e", "w"), volume("w", "n1")), "", f"0/2 nodes are available: 2 {CONFLICT}. "),
    Case("static-first", pod("p", "c"), snapshot(claim("c", "static"), volume("v", "n2", "static")), "n2"),
    Case("static-none", pod("p", "c"), snapshot(claim("c", "static")), "", f"0/2 nodes are available: 2 {NOTHING}. "),
    Case("static-too-small", pod("p", "c"), snapshot(claim("c", "static", "2Gi"), volume("v", "n2", "static")), "", f"0/2 nodes are available: 2 {NOTHING}. "),
    Case("made-anywhere", pod("p", "c"), snapshot(claim("c")), "n1"),
    Case("made-where-the-class-may", pod("p", "c"), snapshot(claim("c", "zoned")), "n2"),
    Case("already-selected", pod("p", "c"), snapshot(claim("c", annotations={SELECTED: "n2"})), "n2"),
    Case("promised-a-moment-ago", pod("p", "c"), snapshot(claim("c"), selected={"d/c": "n2"}), "n2"),
    Case("volume-promised-to-another", pod("p", "c"), snapshot(claim("c", "static"), volume("v", "n2", "static"), taken={"v": "d/x"}), "", f"0/2 nodes are available: 2 {NOTHING}. "),
    Case("two-claims-need-two-volumes", pod("p", "c", "e"), snapshot(claim("c", "static"), claim("e", "static"), volume("v", "n2", "static")), "", f"0/2 nodes are available: 2 {NOTHING}. "),
    Case("immediate", pod("p", "c"), snapshot(claim("c", "")), "", "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."),
    Case("missing", pod("p", "c"), snapshot(), "", '0/2 nodes are available: persistentvolumeclaim "c" not found. '),
    Case("lost", pod("p", "c"), snapshot(bound("c", "v") | {"status": {"phase": "Lost"}}), "", '0/2 nodes are available: persistentvolumeclaim "c" bound to non-existent persistentvolume "v". '),
    Case("volume-not-seen", pod("p", "c"), snapshot(bound("c", "v")), "", "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s). "),
    Case(
        "one-pod-only", pod("p", "c"), snapshot(bound("c", "v", modes=["ReadWriteOncePod"]), volume("v")), "",
        "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode. ",
        [pod("other", "c", nodeName="n1")],
    ),
    Case("many-pods-of-one-node", pod("p", "c"), snapshot(bound("c", "v"), volume("v", "n1")), "n1", "", [pod("other", "c", nodeName="n1")]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_placement(case: Case) -> None:
    outcome = decide(parse_pod(case.pod), node_infos(NODES, case.others), lambda _: 0, lambda _: {}, case.given)
    if case.node:
        assert outcome == Placement(case.node)
    else:
        assert isinstance(outcome, Unschedulable)
        assert outcome.message.startswith(case.message)


def test_explain_says_it_per_node() -> None:
    given = snapshot(bound("c", "v"), volume("v", "n2"))
    first, second = explain(parse_pod(pod("p", "c")), node_infos(NODES), lambda _: {}, given)
    assert first.filters == {"VolumeBinding": (CONFLICT,)}
    assert not second.filters


def test_a_more_important_pod_may_take_the_claim_that_one_pod_may_use() -> None:
    given = snapshot(bound("c", "v", modes=["ReadWriteOncePod"]), volume("v", "n1"))
    holder = pod("holder", "c", nodeName="n1", priority=1)
    outcome = decide(
        parse_pod(pod("p", "c", priority=9)), node_infos(NODES, [holder]), lambda _: 0, lambda _: {}, given
    )
    assert isinstance(outcome, Unschedulable)
    assert outcome.preemption is not None
    assert [victim.key for victim in outcome.preemption.victims] == ["d/holder"]


def test_the_plan_gives_small_claims_small_volumes() -> None:
    given = snapshot(
        claim("big", "static", "5Gi"), claim("small", "static"), claim("new"),
        volume("v9", "n1", "static", "9Gi"), volume("v1", "n1", "static"), volume("v2", "n2", "static"),
    )  # fmt: skip
    parsed = parse_pod(pod("p", "big", "small", "new"))
    infos = node_infos(NODES)
    plan = PodVolumes(parsed, infos, given).plan(infos[0])
    assert plan is not None
    pairs = {(one["metadata"]["name"], other["metadata"]["name"]) for one, other in plan.static}
    assert pairs == {("big", "v9"), ("small", "v1")}
    assert [one["metadata"]["name"] for one in plan.provision] == ["new"]
    assert PodVolumes(parsed, infos, given).plan(infos[1]) is None
    assert PodVolumes(parsed, infos, replace(given, taken={"v1": "x/y"})).plan(infos[0]) is None


@pytest.mark.parametrize(
    ("owned", "why"), [(True, ""), (False, "PVC d/p-v was not created for pod d/p (pod is not owner)")]
)
def test_an_ephemeral_claim_must_be_the_pods_own(owned: bool, why: str) -> None:
    wanted = pod("p")
    wanted["spec"]["volumes"] = [{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]
    waiting = PodVolumes(parse_pod(wanted), [], snapshot())
    assert waiting.refusal == 'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-v"'
    made = claim("p-v")
    if owned:
        made["metadata"]["ownerReferences"] = [{"kind": "Pod", "name": "p", "uid": "uid-p", "controller": True}]
    assert PodVolumes(parse_pod(wanted), [], snapshot(made)).refusal == why
