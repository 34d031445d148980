"""Deployments, ReplicaSets, StatefulSets and DaemonSets in trouble and in transit, with the real kubectl."""

from __future__ import annotations

import pytest
from workload_room import BROKEN, CONTROL_PLANE, WAIT_S, Room, image_of, is_ready, owner_of, seconds, template, workload


@pytest.fixture
def room(cluster, namespace):
    return Room(cluster, namespace)


# -- Deployment


def test_a_stuck_rollout_keeps_its_bounds_misses_its_deadline_and_scales_in_proportion(room):
    rolling = {"rollingUpdate": {"maxSurge": "50%", "maxUnavailable": "25%"}}
    room.apply(workload("Deployment", "web", replicas=4, strategy=rolling))
    room.rolled_out("deploy/web")

    def sizes():
        sets = room.get("rs", "-l", "app=web")["items"]
        return {image_of(s["spec"]["template"]): s["spec"]["replicas"] for s in sets}

    broken = {"template": template("web", BROKEN), "progressDeadlineSeconds": 3}
    room.patch("deploy", "web", {"spec": broken})
    # 4 and 2 more at most, 3 of them available at least.
    room.wait(lambda: sizes() == {"busybox:1": 3, BROKEN: 3}, "the bounds are reached")
    stuck = room.kubectl("rollout", "status", "deploy/web", f"--timeout={WAIT_S:.0f}s", check=False)
    assert stuck.returncode == 1
    assert 'error: deployment "web" exceeded its progress deadline' in stuck.stderr
    progressing = room.condition("deploy", "web", "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert progressing["message"].endswith("has timed out progressing.")
    status = room.get("deploy", "web")["status"]
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (6, 3, 3)
    assert room.condition("deploy", "web", "Available")["status"] == "True"
    room.kubectl("scale", "deploy/web", "--replicas=8")
    # 12 at most, in the proportion there was.
    room.wait(lambda: sizes() == {"busybox:1": 6, BROKEN: 6}, "both grow in proportion")
    room.kubectl("rollout", "undo", "deploy/web")
    room.wait(lambda: sizes() == {"busybox:1": 8, BROKEN: 0}, "back at the old")
    done = "NewReplicaSetAvailable"
    room.wait(lambda: room.condition("deploy", "web", "Progressing")["reason"] == done, "and through")
    room.rolled_out("deploy/web")


def test_recreate_never_runs_old_and_new_together(room):
    stubborn = {"command": ["sh", "-c", "trap 'sleep 1; exit 0' TERM; sleep 1000 & wait"]}
    pod = template("one", container=stubborn, terminationGracePeriodSeconds=20)
    room.apply(workload("Deployment", "one", pod=pod, replicas=2, strategy={"type": "Recreate"}))
    room.rolled_out("deploy/one")
    room.image("deploy/one", "busybox:2")
    seen = set()

    def changed():
        found = room.get("pods", "-l", "app=one")["items"]
        seen.add(frozenset(map(image_of, found)))
        return len(found) == 2 and all(image_of(p) == "busybox:2" and is_ready(p) for p in found)

    room.wait(changed, "the new pods")
    assert seen <= {frozenset(), frozenset({"busybox:1"}), frozenset({"busybox:2"})}
    assert frozenset({"busybox:1"}) in seen


def test_pause_resume_history_its_limit_and_undo(room):
    room.apply(workload("Deployment", "web", replicas=1, revisionHistoryLimit=1))
    room.kubectl("annotate", "deploy/web", "kubernetes.io/change-cause=the first")
    room.rolled_out("deploy/web")
    room.kubectl("rollout", "pause", "deploy/web")
    room.image("deploy/web", "busybox:2")
    room.kubectl("annotate", "--overwrite", "deploy/web", "kubernetes.io/change-cause=the second")

    def is_observed():
        found = room.get("deploy", "web")
        return found["status"]["observedGeneration"] == found["metadata"]["generation"]

    room.wait(is_observed, "the change is seen")
    assert room.condition("deploy", "web", "Progressing")["reason"] == "DeploymentPaused"
    assert len(room.get("rs", "-l", "app=web")["items"]) == 1
    room.kubectl("scale", "deploy/web", "--replicas=2")  # a paused Deployment scales all the same
    room.wait(lambda: len(room.pods("web")) == 2, "two of the old")
    assert {image_of(p) for p in room.pods("web").values()} == {"busybox:1"}
    room.kubectl("rollout", "resume", "deploy/web")
    room.rolled_out("deploy/web")
    history = room.kubectl("rollout", "history", "deploy/web").stdout.splitlines()
    assert [line.split(maxsplit=1) for line in history[2:] if line] == [["1", "the first"], ["2", "the second"]]
    room.image("deploy/web", "busybox:3")
    room.rolled_out("deploy/web")

    def revisions():
        return [s["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for s in room.get("rs")["items"]]

    room.wait(lambda: sorted(revisions()) == ["2", "3"], "the limit holds")
    gone = room.kubectl("rollout", "undo", "deploy/web", "--to-revision=1", check=False)
    assert "unable to find specified revision 1 in history" in gone.stderr
    room.kubectl("rollout", "undo", "deploy/web", "--to-revision=2")
    room.rolled_out("deploy/web")
    room.wait(lambda: {image_of(p) for p in room.pods("web").values()} == {"busybox:2"}, "the second again")
    assert sorted(revisions()) == ["3", "4"]


def test_a_replica_set_that_is_refused_says_so(room):
    room.kubectl("create", "quota", "none", "--hard=count/replicasets.apps=0")
    room.wait(lambda: room.get("quota", "none").get("status", {}).get("hard"), "the quota is counted")
    room.apply(workload("Deployment", "web", replicas=1))
    found = room.wait(
        lambda: (c := room.condition("deploy", "web", "Progressing")).get("status") == "False" and c, "the refusal"
    )
    assert found["reason"] == "ReplicaSetCreateError"
    assert found["message"].startswith('Failed to create new replica set "web-')
    assert "exceeded quota: none" in found["message"]


# -- ReplicaSet, ReplicationController


@pytest.mark.parametrize("kind", ["ReplicaSet", "ReplicationController"])
def test_pods_are_adopted_released_and_deleted_in_order(room, kind):
    labels = {"app": "set"}
    body = workload(kind, "set", replicas=2)
    if kind == "ReplicationController":
        body = {**body, "apiVersion": "v1", "spec": {**body["spec"], "selector": labels}}
    bare = {"apiVersion": "v1", "kind": "Pod", **template("set")}
    bare["metadata"] = {"name": "bare", "labels": labels}
    room.apply(bare)
    room.kubectl("wait", "pod/bare", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
    room.apply(body)

    def ready(count):
        found = room.pods("set")
        return len(found) == count and all(map(is_ready, found.values())) and found

    found = room.wait(lambda: ready(2), "one more")
    assert {owner_of(pod) for pod in found.values()} == {"set"}
    room.kubectl("label", "--overwrite", "pod/bare", "app=free")
    found = room.wait(lambda: ready(2), "a replacement")
    room.wait(lambda: owner_of(room.get("pod", "bare")) is None, "the pod is released")
    cheap, dear = sorted(found)
    room.kubectl("annotate", f"pod/{cheap}", "controller.kubernetes.io/pod-deletion-cost=-5")
    room.kubectl("scale", f"{kind}/set", "--replicas=1")
    room.wait(lambda: set(room.pods("set")) == {dear}, "the cheap one goes first")
    room.image(f"{kind}/set", BROKEN)
    room.kubectl("scale", f"{kind}/set", "--replicas=2")
    room.wait(lambda: len(room.pods("set")) == 2, "a pod that does not start")
    room.kubectl("scale", f"{kind}/set", "--replicas=1")
    room.wait(lambda: set(room.pods("set")) == {dear}, "what is not ready goes before what is")
    room.kubectl("delete", kind, "set", "--cascade=orphan")
    room.wait(lambda: owner_of(room.get("pod", dear)) is None, "orphaned")
    room.apply(body | {"spec": {**body["spec"], "replicas": 1}})
    room.wait(lambda: owner_of(room.get("pod", dear)) == "set", "adopted by the next of its name")


# -- StatefulSet


def test_a_stateful_set_keeps_names_and_data_and_lets_claims_go_as_it_was_told(room):
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    pod = template("db", container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]})
    service = {"clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80}]}
    room.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"}, "spec": service},
        workload(
            "StatefulSet",
            "db",
            pod=pod,
            replicas=2,
            serviceName="db",
            minReadySeconds=1,
            persistentVolumeClaimRetentionPolicy={"whenScaled": "Delete", "whenDeleted": "Delete"},
            volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": claim}],
        ),
    )
    room.rolled_out("sts/db")
    pods = room.pods("db")
    since = next(c["lastTransitionTime"] for c in pods["db-0"]["status"]["conditions"] if c["type"] == "Ready")
    assert seconds(pods["db-1"]["metadata"]["creationTimestamp"]) - seconds(since) >= 1
    name = f"db-1.db.{room.namespace}.svc.cluster.local"

    def resolves():
        found = room.kubectl("exec", "db-0", "--", "nslookup", name, check=False).stdout
        return room.get("pod", "db-1")["status"].get("podIP", "?") in found

    room.wait(resolves, "a name for each pod")
    room.kubectl("exec", "db-1", "--", "sh", "-c", "echo mine > /data/file")
    room.kubectl("delete", "pod", "db-1")
    fresh = room.wait(lambda: (p := room.pods("db").get("db-1")) and is_ready(p) and p, "db-1 is back")
    assert fresh["metadata"]["uid"] != pods["db-1"]["metadata"]["uid"]
    assert room.kubectl("exec", "db-1", "--", "cat", "/data/file").stdout == "mine\n"
    room.wait(resolves, "the name follows the new address")

    def claims():
        return {c["metadata"]["name"]: c["metadata"]["uid"] for c in room.get("pvc")["items"]}

    before = claims()
    assert set(before) == {"data-db-0", "data-db-1"}
    room.kubectl("scale", "sts/db", "--replicas=1")
    room.wait(lambda: set(claims()) == {"data-db-0"}, "the claim goes with the pod that was scaled away")
    # Down and up at once: the new pod gets a new claim, not the one that is going.
    room.kubectl("scale", "sts/db", "--replicas=2")
    room.wait(lambda: (p := room.pods("db").get("db-1")) and is_ready(p), "db-1 again")
    assert claims()["data-db-1"] != before["data-db-1"]
    assert room.kubectl("exec", "db-1", "--", "ls", "/data").stdout == ""
    room.kubectl("delete", "sts", "db")
    room.wait(lambda: claims() == {}, "the claims go with the set")


def test_broken_updates_of_stateful_sets(room):
    """Ordered, one stays stuck until its pod is deleted, as upstream documents; parallel, it heals; OnDelete waits."""
    room.apply(
        workload("StatefulSet", "ordered", replicas=2, serviceName="x"),
        workload(
            "StatefulSet",
            "parallel",
            replicas=3,
            serviceName="x",
            podManagementPolicy="Parallel",
            updateStrategy={"rollingUpdate": {"maxUnavailable": 2}},
        ),
        workload("StatefulSet", "asked", replicas=2, serviceName="x", updateStrategy={"type": "OnDelete"}),
    )
    for name in ("ordered", "parallel"):
        room.rolled_out(f"sts/{name}")
    # The gate MaxUnavailableStatefulSet is closed in 1.32: the field is not kept, and one pod at a time it is.
    assert room.get("sts", "parallel")["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 0}
    room.wait(lambda: sum(map(is_ready, room.pods("asked").values())) == 2, "asked")
    for name, image in (("ordered", BROKEN), ("parallel", BROKEN), ("asked", "busybox:2")):
        room.image(f"sts/{name}", image)

    def images(app):
        return {name: image_of(pod) for name, pod in room.pods(app).items()}

    stuck = {"ordered-0": "busybox:1", "ordered-1": BROKEN}
    room.wait(lambda: images("ordered") == stuck, "only the highest is touched")
    room.wait(lambda: images("parallel").get("parallel-2") == BROKEN, "so in parallel")
    short = room.kubectl("rollout", "status", "sts/ordered", "--timeout=1s", check=False)
    assert short.returncode == 1
    for name in ("ordered", "parallel"):
        room.kubectl("rollout", "undo", f"sts/{name}")
    room.rolled_out("sts/parallel")
    assert set(images("parallel").values()) == {"busybox:1"}
    assert images("ordered") == stuck
    room.kubectl("delete", "pod", "ordered-1")
    room.rolled_out("sts/ordered")
    assert set(images("ordered").values()) == {"busybox:1"}
    assert set(images("asked").values()) == {"busybox:1"}
    room.kubectl("delete", "pod", "asked-0")
    wanted = {"asked-0": "busybox:2", "asked-1": "busybox:1"}
    room.wait(lambda: images("asked") == wanted, "the one that was deleted is new")
    status = room.get("sts", "asked")["status"]
    assert status["currentRevision"] != status["updateRevision"]
    only = room.kubectl("rollout", "status", "sts/asked", check=False)
    assert "rollout status is only available for RollingUpdate strategy type" in only.stderr


# -- DaemonSet


def test_daemons_follow_nodes_and_tolerations(room):
    room.apply(
        workload("DaemonSet", "some"),
        workload("DaemonSet", "every", pod=template("every", tolerations=[CONTROL_PLANE])),
        workload("DaemonSet", "picky", pod=template("picky", nodeSelector={"disk": "ssd"})),
    )
    for name in ("some", "every"):
        room.rolled_out(f"ds/{name}")

    def nodes(app):
        return sorted(p["spec"].get("nodeName", "") for p in room.pods(app).values())

    workers = ["worker-1", "worker-2"]
    assert nodes("some") == workers
    assert nodes("every") == ["control-plane", *workers]
    assert room.get("ds", "picky")["status"]["desiredNumberScheduled"] == 0
    keys = {(t.get("key"), t.get("effect")) for t in next(iter(room.pods("some").values()))["spec"]["tolerations"]}
    assert {
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    } <= keys
    cluster = room.cluster
    cluster.podnet("node", "add", "worker-9", "-c", cluster.name)
    try:
        room.wait(lambda: nodes("some") == [*workers, "worker-9"], "the new node has its daemon")
        cluster.kubectl("label", "node", "worker-9", "disk=ssd")
        room.wait(lambda: nodes("picky") == ["worker-9"], "a label is enough")
        cluster.kubectl("cordon", "worker-9")
        room.kubectl("delete", "pod", "-l", "app=picky")
        room.wait(lambda: nodes("picky") == ["worker-9"], "a cordoned node keeps its daemons")
        cluster.kubectl("taint", "node", "worker-9", "closed=now:NoSchedule")
        room.wait(lambda: room.get("ds", "picky")["status"]["numberMisscheduled"] == 1, "one that came before stays")
        assert nodes("picky") == ["worker-9"]
    finally:
        cluster.podnet("node", "rm", "worker-9", "-c", cluster.name)
    # Their pods are the collector's, after the time it gives a node to come back.
    room.wait(
        lambda: room.get("ds", "some")["status"]["desiredNumberScheduled"] == 2, "the node is not wanted any more"
    )


def test_daemons_roll_with_unavailable_with_surge_and_on_delete(room):
    surge = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    room.apply(
        workload("DaemonSet", "away", updateStrategy={"rollingUpdate": {"maxUnavailable": "50%"}}),
        workload("DaemonSet", "surge", updateStrategy=surge),
        workload("DaemonSet", "asked", updateStrategy={"type": "OnDelete"}),
    )
    for name in ("away", "surge"):
        room.rolled_out(f"ds/{name}")
    room.wait(lambda: room.get("ds", "asked")["status"].get("numberAvailable") == 2, "asked")
    for name, image in (("away", BROKEN), ("surge", BROKEN), ("asked", "busybox:2")):
        room.image(f"ds/{name}", image)

    def images(app):
        return sorted(map(image_of, room.pods(app).values()))

    room.wait(lambda: images("away") == ["busybox:1", BROKEN], "one of two is given up")
    room.wait(lambda: images("surge") == ["busybox:1", "busybox:1", BROKEN], "both stay, one more tries")
    status = room.get("ds", "surge")["status"]
    assert (status["numberAvailable"], status.get("updatedNumberScheduled", 0)) == (2, 0)
    assert room.kubectl("rollout", "status", "ds/surge", "--timeout=1s", check=False).returncode == 1
    for name in ("away", "surge"):
        room.kubectl("rollout", "undo", f"ds/{name}")
        room.rolled_out(f"ds/{name}")
        room.wait(lambda name=name: images(name) == ["busybox:1", "busybox:1"], f"{name} is healed")
    before = set(room.pods("surge"))
    room.image("ds/surge", "busybox:2")
    assert "successfully rolled out" in room.rolled_out("ds/surge")
    assert not before & set(room.pods("surge")), "rolled out means that no old pod is left"
    assert images("asked") == ["busybox:1", "busybox:1"]
    room.kubectl("delete", "pod", min(room.pods("asked")))
    room.wait(lambda: images("asked") == ["busybox:1", "busybox:2"], "the one that was deleted is new")
