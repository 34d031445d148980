"""The binder's decisions: tables for single steps, and laws for whole histories of claims and volumes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from podnet.controlplane.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from podnet.controlplane.client.volume_binding import BIND_COMPLETED, BOUND_BY_CONTROLLER, find_volume
from podnet.controlplane.controllers.persistentvolume.expand import plan_expansion
from podnet.controlplane.controllers.persistentvolume.plan import NOTHING, Step, View, plan_claim, plan_volume
from podnet.controlplane.controllers.persistentvolume.protection import desired_finalizers, uses_claim

LOCAL_PATH = "podnet.dev/local-path"
CLASS = {"metadata": {"name": "standard"}, "provisioner": LOCAL_PATH, "volumeBindingMode": "WaitForFirstConsumer"}
IMMEDIATE = {"metadata": {"name": "now"}, "provisioner": LOCAL_PATH, "volumeBindingMode": "Immediate"}
FOREIGN = {"metadata": {"name": "far"}, "provisioner": "example.com/nfs", "volumeBindingMode": "Immediate"}
IN_TREE = {"metadata": {"name": "old"}, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "Immediate"}
DEFAULT = {
    **CLASS,
    "metadata": {**CLASS["metadata"], "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
}
READY = [{"type": "Ready", "status": "True"}]


def claim(
    name: str = "c", size: str = "1Gi", storage_class: str | None = "", phase: str = "Pending", **spec: Any
) -> Any:
    annotations = spec.pop("annotations", {})
    body = {
        "metadata": {
            "namespace": "d",
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": "5",
            "annotations": annotations,
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec},
        "status": {"phase": phase},
    }
    if storage_class is not None:
        body["spec"]["storageClassName"] = storage_class
    return body


def volume(name: str = "v", size: str = "1Gi", phase: str = "Available", **spec: Any) -> Any:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "7"}
    metadata["annotations"] = spec.pop("annotations", {})
    metadata["labels"] = spec.pop("labels", {})
    return {
        "metadata": metadata,
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}, **spec},
        "status": {"phase": phase},
    }


def node(name: str, *, ready: bool = True, **spec: Any) -> Any:
    conditions = READY if ready else []
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": spec,
        "status": {"conditions": conditions},
    }


def on_node(name: str) -> Any:
    row = {"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [row]}]}}


def kept_for(name: str, uid: str = "") -> Any:
    return {"namespace": "d", "name": name, **({"uid": uid} if uid else {})}


def view(*objects: Any, classes: Any = (), nodes: Any = (), pods: Any = ()) -> View:
    return View(
        {f"d/{o['metadata']['name']}": o for o in objects if "namespace" in o["metadata"]},
        {o["metadata"]["name"]: o for o in objects if "namespace" not in o["metadata"]},
        {c["metadata"]["name"]: c for c in classes},
        {n["metadata"]["name"]: n for n in nodes},
        pods,
    )


@dataclass(frozen=True)
class Fit:
    id: str
    claim: Any
    volumes: Any
    expected: str


FITS = [
    Fit(
        "the-smallest-that-is-enough",
        claim(size="2Gi"),
        [volume("s", "1Gi"), volume("l", "9Gi"), volume("m", "3Gi")],
        "m",
    ),
    Fit("none-is-enough", claim(size="2Gi"), [volume("s", "1Gi")], ""),
    Fit("equal-sizes-by-name", claim(), [volume("b"), volume("a")], "a"),
    Fit("the-one-kept-for-it-first", claim(), [volume("a"), volume("z", "5Gi", claimRef=kept_for("c"))], "z"),
    Fit("kept-for-another", claim(), [volume("a", claimRef=kept_for("other"))], ""),
    Fit("kept-for-an-earlier-claim-of-the-name", claim(), [volume("a", claimRef=kept_for("c", "old"))], ""),
    Fit("modes-must-all-be-there", claim(accessModes=["ReadWriteMany"]), [volume("a")], ""),
    Fit("more-modes-do-no-harm", claim(), [volume("a", accessModes=["ReadWriteMany", "ReadWriteOnce"])], "a"),
    Fit("another-class", claim(storage_class="fast"), [volume("a")], ""),
    Fit("the-same-class", claim(storage_class="fast"), [volume("a", storageClassName="fast")], "a"),
    Fit("a-device-is-no-file-system", claim(volumeMode="Block"), [volume("a")], ""),
    Fit(
        "a-selector-picks",
        claim(selector={"matchLabels": {"t": "x"}}),
        [volume("a"), volume("b", labels={"t": "x"})],
        "b",
    ),
    Fit("released-is-not-free", claim(), [volume("a", phase="Released")], ""),
    Fit("one-that-is-going", claim(), [volume("a") | {"metadata": {"name": "a", "deletionTimestamp": "now"}}], ""),
]


@pytest.mark.parametrize("case", FITS, ids=lambda case: case.id)
def test_which_volume_a_claim_gets(case: Fit) -> None:
    found = find_volume(case.claim, case.volumes)
    assert (found["metadata"]["name"] if found else "") == case.expected


def test_a_volume_is_only_for_nodes_that_reach_it() -> None:
    there = volume("a", nodeAffinity=on_node("n1"))
    assert find_volume(claim(), [there], node=("n1", {"kubernetes.io/hostname": "n1"})) is there
    assert find_volume(claim(), [there], node=("n2", {"kubernetes.io/hostname": "n2"})) is None
    assert find_volume(claim(), [there], taken={"a"}) is None
    assert find_volume(claim(), [there], only_kept=True) is None


@dataclass(frozen=True)
class Said:
    id: str
    claim: Any
    view: View
    reason: str
    message: str


def _waiting_pod() -> Any:
    volumes = [{"name": "x", "persistentVolumeClaim": {"claimName": "c"}}]
    return {"metadata": {"namespace": "d", "name": "p"}, "spec": {"volumes": volumes}}


WAITING = claim(storage_class="standard")
NAMED = claim(volumeName="v")
SAID = [
    Said(
        "no-class-and-no-volume",
        claim(),
        view(),
        "FailedBinding",
        "no persistent volumes available for this claim and no storage class is set",
    ),
    Said(
        "first-consumer",
        WAITING,
        view(classes=[CLASS]),
        "WaitForFirstConsumer",
        "waiting for first consumer to be created before binding",
    ),
    Said(
        "pod-without-a-node",
        WAITING,
        view(classes=[CLASS], pods=[_waiting_pod()]),
        "WaitForPodScheduled",
        "waiting for pod p to be scheduled",
    ),
    Said(
        "class-is-missing",
        claim(storage_class="nix"),
        view(),
        "ProvisioningFailed",
        'storageclass.storage.k8s.io "nix" not found',
    ),
    Said(
        "no-provisioner",
        claim(storage_class="old"),
        view(classes=[IN_TREE]),
        "ProvisioningFailed",
        "no volume plugin matched name: kubernetes.io/no-provisioner",
    ),
    Said(
        "somebody-else-makes-it",
        claim(storage_class="far"),
        view(classes=[FOREIGN]),
        "ExternalProvisioning",
        "Waiting for a volume to be created either by the external provisioner 'example.com/nfs'",
    ),
    Said(
        "too-small",
        NAMED,
        view(volume("v", "1Mi")),
        "VolumeMismatch",
        'Cannot bind to requested volume "v": requested PV is too small',
    ),
    Said(
        "other-class",
        NAMED,
        view(volume("v", storageClassName="x")),
        "VolumeMismatch",
        'Cannot bind to requested volume "v": storageClassName does not match',
    ),
    Said(
        "taken",
        NAMED,
        view(volume("v", claimRef=kept_for("z", "z"))),
        "FailedBinding",
        'volume "v" already bound to a different claim.',
    ),
    Said(
        "no-node-for-immediate",
        claim(storage_class="now"),
        view(classes=[IMMEDIATE]),
        "ProvisioningFailed",
        "no node of this cluster can make a volume for this claim",
    ),
    Said(
        "lost",
        claim(volumeName="v", annotations={BIND_COMPLETED: "yes"}, phase="Bound"),
        view(),
        "ClaimLost",
        "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
    ),
    Said(
        "misbound",
        claim(volumeName="v", annotations={BIND_COMPLETED: "yes"}, phase="Bound"),
        view(volume("v", claimRef=kept_for("z", "z"))),
        "ClaimMisbound",
        "Two claims are bound to the same volume, this one is bound incorrectly",
    ),
]


@pytest.mark.parametrize("case", SAID, ids=lambda case: case.id)
def test_what_a_claim_is_told(case: Said) -> None:
    notice = plan_claim(case.claim, case.view).notice
    assert notice is not None
    assert notice.reason == case.reason
    assert notice.message.startswith(case.message)


def test_a_default_class_that_came_late_is_assigned_but_the_empty_class_is_an_answer() -> None:
    step = plan_claim(claim(storage_class=None), view(classes=[DEFAULT]))
    assert step.write is not None
    assert step.write["spec"]["storageClassName"] == "standard"
    told = plan_claim(claim(storage_class=""), view(classes=[DEFAULT]))
    assert told.write is None
    assert told.notice is not None
    assert told.notice.reason == "FailedBinding"


def test_an_immediate_claim_is_given_to_the_node_with_the_fewest_volumes() -> None:
    made = volume(
        "m",
        annotations={"pv.kubernetes.io/provisioned-by": LOCAL_PATH},
        nodeAffinity=on_node("a"),
        claimRef=kept_for("z", "z"),
    )
    tainted = node("0", taints=[{"key": "k", "effect": "NoSchedule"}])
    step = plan_claim(
        claim(storage_class="now"),
        view(made, classes=[IMMEDIATE], nodes=[tainted, node("a"), node("b"), node("1", ready=False)]),
    )
    assert step.write is not None
    assert step.write["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "b"
    assert step.write["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == LOCAL_PATH


def test_a_chosen_node_that_is_gone_is_chosen_anew() -> None:
    selected = claim(storage_class="standard", annotations={"volume.kubernetes.io/selected-node": "gone"})
    step = plan_claim(selected, view(classes=[CLASS], nodes=[node("a")]))
    assert step.write is not None
    assert "volume.kubernetes.io/selected-node" not in step.write["metadata"]["annotations"]


@dataclass(frozen=True)
class Reclaim:
    id: str
    volume: Any
    phase: str
    reason: str = ""


BY_US = {"pv.kubernetes.io/provisioned-by": LOCAL_PATH}
GONE = kept_for("gone", "u")
RECLAIMS = [
    Reclaim("first-released", volume("v", phase="Bound", claimRef=GONE), "Released"),
    Reclaim("retain-stays", volume("v", phase="Released", claimRef=GONE, persistentVolumeReclaimPolicy="Retain"), ""),
    Reclaim(
        "delete-is-its-makers",
        volume("v", phase="Released", claimRef=GONE, persistentVolumeReclaimPolicy="Delete", annotations=BY_US),
        "",
    ),
    Reclaim(
        "delete-without-a-maker",
        volume("v", phase="Released", claimRef=GONE, persistentVolumeReclaimPolicy="Delete"),
        "Failed",
        "VolumeFailedDelete",
    ),
    Reclaim(
        "recycle",
        volume("v", phase="Released", claimRef=GONE, persistentVolumeReclaimPolicy="Recycle"),
        "Failed",
        "VolumeFailedRecycle",
    ),
    Reclaim("failed-stays", volume("v", phase="Failed", claimRef=GONE, persistentVolumeReclaimPolicy="Recycle"), ""),
    Reclaim("free", volume("v", phase="Pending"), "Available"),
    Reclaim("kept-for-one-to-come", volume("v", phase="Pending", claimRef=kept_for("c")), "Available"),
]


@pytest.mark.parametrize("case", RECLAIMS, ids=lambda case: case.id)
def test_what_becomes_of_a_volume_without_its_claim(case: Reclaim) -> None:
    step = plan_volume(case.volume, view(case.volume))
    assert (step.write["status"]["phase"] if step.write else "") == case.phase
    assert (step.notice.reason if step.notice else "") == case.reason


def test_a_released_volume_of_a_node_that_is_no_more_is_forgotten() -> None:
    spec = {"claimRef": GONE, "persistentVolumeReclaimPolicy": "Delete", "nodeAffinity": on_node("a")}
    left = volume("v", phase="Released", annotations=BY_US, **spec)
    left["metadata"]["finalizers"] = ["external-provisioner.volume.kubernetes.io/finalizer", "x"]
    assert plan_volume(left, view(left, nodes=[node("a")])) is NOTHING
    step = plan_volume(left, view(left, nodes=[node("b")]))
    assert step.write is not None
    assert step.write["metadata"]["finalizers"] == ["x"]
    assert plan_volume(step.write, view(step.write, nodes=[node("b")])).delete


def test_expansion_grows_the_volume_first_and_never_shrinks() -> None:
    annotations = {BIND_COMPLETED: "yes"}
    wants = claim(size="5Gi", volumeName="v", phase="Bound", annotations=annotations)
    wants["status"]["capacity"] = {"storage": "1Gi"}
    ours = volume("v", annotations=BY_US, claimRef=kept_for("c", "uid-c"))
    step = plan_expansion(wants, ours)
    assert step.resource == PERSISTENTVOLUMES
    assert step.write is not None
    assert step.write["spec"]["capacity"]["storage"] == "5Gi"
    step = plan_expansion(wants, step.write)
    assert (step.resource, step.subresource) == (PERSISTENTVOLUMECLAIMS, "status")
    assert step.write is not None
    assert plan_expansion(step.write, ours) is NOTHING
    foreign = plan_expansion(wants, volume("v", claimRef=kept_for("c", "uid-c")))
    assert foreign.write is None
    assert foreign.notice is not None
    assert foreign.notice.reason == "ExternalExpanding"


def test_protection_holds_what_is_used_and_only_by_pods_with_a_node() -> None:
    pod = _waiting_pod()
    assert not uses_claim(pod, claim())
    pod["spec"]["nodeName"] = "n"
    assert uses_claim(pod, claim())
    assert not uses_claim(pod, claim("other"))
    going = {"metadata": {"deletionTimestamp": "now", "finalizers": ["x", "p"]}}
    assert desired_finalizers(going, "p", in_use=True) == ["x", "p"]
    assert desired_finalizers(going, "p", in_use=False) == ["x"]
    assert desired_finalizers({"metadata": {}}, "p", in_use=False) == ["p"]


class Cluster(RuleBasedStateMachine):
    """Claims and volumes come and go while a binder, reading pictures of any age, writes one step at a time.

    Writes are conditional on the version they were made from, as the API server's are: that, and no lock, is what keeps
    two claims from one volume.
    """

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[tuple[str, str], Any] = {}
        self.pictures: list[dict[tuple[str, str], Any]] = []
        self.version = 0
        self.serial = 0

    def _put(self, kind: str, obj: Any) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.objects[kind, obj["metadata"]["name"]] = obj

    @rule(size=st.sampled_from(["1Gi", "2Gi"]), name=st.sampled_from("abc"))
    def claim_comes(self, size: str, name: str) -> None:
        if ("claim", name) not in self.objects:
            self.serial += 1
            made = claim(name, size)
            made["metadata"]["uid"] = f"u{self.serial}"
            self._put("claim", made)

    @rule(
        size=st.sampled_from(["1Gi", "2Gi", "3Gi"]), name=st.sampled_from("xyz"), kept=st.sampled_from(["", "a", "b"])
    )
    def volume_comes(self, size: str, name: str, kept: str) -> None:
        if ("volume", name) not in self.objects:
            extra = {"claimRef": kept_for(kept)} if kept else {}
            self._put("volume", volume(name, size, "Pending", **extra))

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def something_goes(self, data: st.DataObject) -> None:
        self.objects.pop(data.draw(st.sampled_from(sorted(self.objects))))

    @rule()
    def look(self) -> None:
        self.pictures = [*self.pictures[-3:], copy.deepcopy(self.objects)]

    @precondition(lambda self: self.pictures)
    @rule(data=st.data())
    def binder_steps_on_an_old_picture(self, data: st.DataObject) -> None:
        picture = data.draw(st.sampled_from(self.pictures))
        if picture:
            self._step(data.draw(st.sampled_from(sorted(picture))), picture)

    def _step(self, key: tuple[str, str], picture: dict[tuple[str, str], Any]) -> bool:
        current = view(*picture.values())
        obj = picture[key]
        step: Step = plan_claim(obj, current) if key[0] == "claim" else plan_volume(obj, current)
        if step.gone is not None:  # the binder asks the server before it believes that something is gone
            kind = "claim" if step.gone[0] == PERSISTENTVOLUMECLAIMS else "volume"
            found = self.objects.get((kind, step.gone[1].rpartition("/")[2]))
            held = picture.get((kind, step.gone[1].rpartition("/")[2]))
            if found is not None and (held is None or held["metadata"]["uid"] != found["metadata"]["uid"]):
                return False
        if step.write is None:
            return False
        written = copy.deepcopy(step.write)
        kind = "claim" if step.resource == PERSISTENTVOLUMECLAIMS else "volume"
        stored = self.objects.get((kind, written["metadata"]["name"]))
        if stored is None or stored["metadata"]["resourceVersion"] != written["metadata"]["resourceVersion"]:
            return False  # 409: somebody was faster
        part = (
            {"status": written["status"]}
            if step.subresource
            else {"spec": written["spec"], "metadata": written["metadata"]}
        )
        self._put(kind, {**stored, **part, "metadata": {**written["metadata"]}})
        return True

    @invariant()
    def no_volume_has_two_claims(self) -> None:
        bound = [
            o["spec"]["volumeName"]
            for (kind, _), o in self.objects.items()
            if kind == "claim" and o["status"]["phase"] == "Bound"
        ]
        assert len(bound) == len(set(bound))

    def teardown(self) -> None:
        """A fresh binder comes to rest, and then both sides of every binding agree."""
        for _ in range(60):
            if not any(
                self._step(key, copy.deepcopy(self.objects)) for key in sorted(self.objects) if key in self.objects
            ):
                break
        else:
            raise AssertionError("the binder does not come to rest")
        for (kind, _), obj in self.objects.items():
            if kind == "claim" and obj["status"]["phase"] == "Bound":
                reference = self.objects["volume", obj["spec"]["volumeName"]]["spec"]["claimRef"]
                assert reference["uid"] == obj["metadata"]["uid"]
            if kind == "volume" and obj["status"]["phase"] == "Bound":
                holder = self.objects["claim", obj["spec"]["claimRef"]["name"]]
                assert holder["spec"]["volumeName"] == obj["metadata"]["name"]


Cluster.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBinderHistories = Cluster.TestCase


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(1, 9))
def test_the_smallest_that_fits_is_the_law(sizes: list[int], wanted: int) -> None:
    volumes = [volume(f"v{number}", f"{size}Gi") for number, size in enumerate(sizes)]
    found = find_volume(claim(size=f"{wanted}Gi"), volumes)
    enough = [size for size in sizes if size >= wanted]
    assert (found["spec"]["capacity"]["storage"] if found else None) == (f"{min(enough)}Gi" if enough else None)


def test_what_the_binder_gave_it_takes_back() -> None:
    held = claim(volumeName="other")
    by_us = volume("v", phase="Bound", claimRef=kept_for("c", "uid-c"), annotations={BOUND_BY_CONTROLLER: "yes"})
    step = plan_volume(by_us, view(by_us, held))
    assert step.write is not None
    assert "claimRef" not in step.write["spec"]
    by_hand = volume("v", phase="Bound", claimRef=kept_for("c", "uid-c"))
    step = plan_volume(by_hand, view(by_hand, held))
    assert step.write is not None
    assert step.write["spec"]["claimRef"] == kept_for("c")
