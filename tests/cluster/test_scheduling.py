"""The scheduler on a booted cluster: where pods go, and in which words it says that they go nowhere.

Four workers in two zones; nothing here asks for a container to be more than started.
"""

from __future__ import annotations

import json

import pytest
from workload_room import Room

WAIT_S = 60.0
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
WORKERS = {"w1", "w2", "w3", "w4"}
TAINTED = "1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@pytest.fixture(scope="module")
def cluster(boot_cluster):
    workers = [
        {"name": f"w{number}", "labels": {ZONE: "a" if number < 3 else "b", "rank": str(number)}}
        for number in (1, 2, 3, 4)
    ]
    booted = boot_cluster(spec={"nodes": [{"name": "control-plane", "role": "control-plane"}, *workers]})
    yield booted
    booted.down()


class Place(Room):
    """One namespace, and what the scheduler has done with its pods."""

    def create(self, *objects):
        self.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects]}))

    def pods(self):
        items = json.loads(self.kubectl("get", "pods", "-o", "json").stdout)["items"]
        return {item["metadata"]["name"]: item for item in items}

    def nodes(self, *names):
        """Name → node, once these pods have one."""

        def placed():
            found = self.pods()
            where = {name: found[name]["spec"].get("nodeName") for name in names or found}
            return where if all(where.values()) else None

        return self.cluster.wait(placed, f"nodes for {names}", WAIT_S)

    def reasons(self, *names):
        """Name → what its condition says, once these pods have been refused."""

        def refused():
            found = self.pods()
            told = {name: condition(found[name], "PodScheduled") for name in names or found}
            return told if all(entry.get("status") == "False" for entry in told.values()) else None

        return {n: c["message"] for n, c in self.cluster.wait(refused, f"refusals of {names}", WAIT_S).items()}


def condition(pod, kind):
    return next((c for c in pod.get("status", {}).get("conditions", ()) if c["type"] == kind), {})


@pytest.fixture
def place(cluster, namespace):
    return Place(cluster, namespace)


def pod(name, labels=None, requests=None, **spec):
    container = {"name": "c", "image": "pause", "resources": {"requests": requests or {}}, **spec.pop("container", {})}
    body = {"terminationGracePeriodSeconds": 1, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": body}


def on(node, *, operator="In"):
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [expression(HOST, operator, node)]}}}}


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": [*values]} if values else {})}]}


def node_terms(*terms):
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [*terms]}}}}


def term(app, key=HOST, **more):
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}, **more}


def company(kind, app, key=HOST, **more):
    return {"affinity": {kind: {REQUIRED: [term(app, key, **more)]}}}


def wish(kind, app, key=HOST):
    return {"affinity": {kind: {PREFERRED: [{"weight": 100, "podAffinityTerm": term(app, key)}]}}}


def spread(app, key=ZONE, **more):
    selector = {"labelSelector": {"matchLabels": {"app": app}}}
    rule = {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", **selector, **more}
    return {"topologySpreadConstraints": [rule]}


def test_impossible_pods_say_why_in_upstreams_words(place):
    named = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["w1"]}]}
    port = {"container": {"ports": [{"containerPort": 80, "hostPort": 8080}]}}
    place.create(pod("holder", **on("w1"), **port))
    place.nodes("holder")
    no_help = "preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling."
    elsewhere = (
        "3 node(s) didn't match Pod's node affinity/selector. preemption: 0/5 nodes are available: "
        "1 No preemption victims found for incoming pod, 4 Preemption is not helpful for scheduling."
    )
    claim = {"name": "v", "persistentVolumeClaim": {"claimName": "nix"}}
    place.create(priority_class("calm", 0, preemptionPolicy="Never"))
    wanted = {
        "cpu": (pod("cpu", requests={"cpu": "9999"}), f"{TAINTED}, 4 Insufficient cpu. {no_help}"),
        "gpu": (
            pod("gpu", container={"resources": {"limits": {"example.com/gpu": "1"}}}),
            f"{TAINTED}, 4 Insufficient example.com/gpu. {no_help}",
        ),
        "selector": (
            pod("selector", nodeSelector={"disk": "ssd"}),
            f"{TAINTED}, 4 node(s) didn't match Pod's node affinity/selector. {no_help}",
        ),
        "alone": (
            pod("alone", **company("podAffinity", "nobody")),
            f"{TAINTED}, 4 node(s) didn't match pod affinity rules. {no_help}",
        ),
        "rack": (
            pod("rack", {"app": "rack"}, **spread("rack", "rack")),
            f"{TAINTED}, 4 node(s) didn't match pod topology spread constraints (missing required label). {no_help}",
        ),
        "port": (
            pod("port", **on("w1"), **port),
            f"1 node(s) didn't have free ports for the requested pod ports, {TAINTED}, {elsewhere}",
        ),
        "named": (
            pod("named", requests={"cpu": "9999"}, **node_terms(named)),
            f"1 Insufficient cpu, 4 node(s) didn't satisfy plugin(s) [NodeAffinity]. {no_help}",
        ),
        "claim": (pod("claim", volumes=[claim]), f'persistentvolumeclaim "nix" not found. {no_help}'),
        "never": (
            pod("never", requests={"cpu": "9999"}, priorityClassName="calm"),
            f"{TAINTED}, 4 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.",
        ),
    }
    place.create(*(obj for obj, _ in wanted.values()))
    told = place.reasons(*wanted)
    assert told == {name: f"0/5 nodes are available: {text}" for name, (_, text) in wanted.items()}
    events = place.kubectl("get", "events", "--field-selector=reason=FailedScheduling", "-o", "json").stdout
    assert {e["message"] for e in json.loads(events)["items"]} >= set(told.values())
    assert place.kubectl("get", "pod", "cpu", "--no-headers").stdout.split()[2] == "Pending"
    place.kubectl("delete", "priorityclass", "calm")


def test_gates_hold_a_pod_back(place):
    place.create(pod("gated", schedulingGates=[{"name": "example.com/wait"}]))
    assert place.reasons("gated") == {"gated": "Scheduling is blocked due to non-empty scheduling gates"}
    assert place.kubectl("get", "pod", "gated", "--no-headers").stdout.split()[2] == "SchedulingGated"
    patch = '[{"op": "remove", "path": "/spec/schedulingGates"}]'
    place.kubectl("patch", "pod", "gated", "--type=json", "-p", patch)
    assert place.nodes("gated")["gated"] in WORKERS


def test_node_selectors_with_every_operator(place):
    name = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["w4"]}]}
    cases = {
        "in": ([expression("rank", "In", "1", "9")], {"w1"}),
        "not-in": ([expression("rank", "NotIn", "1", "2", "3")], {"w4"}),
        "exists": ([expression("rank", "Exists")], WORKERS),
        "absent": ([expression("rank", "DoesNotExist")], {"control-plane"}),
        "gt": ([expression("rank", "Gt", "3")], {"w4"}),
        "lt": ([expression("rank", "Lt", "2")], {"w1"}),
        "field": ([name], {"w4"}),
        "either": ([expression("rank", "Gt", "9"), expression("rank", "In", "2")], {"w2"}),
    }
    tolerant = {"tolerations": [{"operator": "Exists"}]}
    place.create(*(pod(key, **node_terms(*terms), **tolerant) for key, (terms, _) in cases.items()))
    where = place.nodes()
    assert {key: where[key] in fit for key, (_, fit) in cases.items()} == dict.fromkeys(cases, True), where


def test_preferences_weigh(place, cluster):
    likes = {"affinity": {"nodeAffinity": {PREFERRED: [{"weight": 50, "preference": expression("rank", "In", "3")}]}}}
    place.create(
        pod("liked", **likes),
        pod("anchor", {"app": "anchor"}, **on("w2")),
        # Not the newcomer's wish but that of one who is there: it keeps its distance from what is called noisy.
        pod("quiet", {"app": "quiet"}, **wish("podAntiAffinity", "noisy", ZONE), nodeSelector={HOST: "w1"}),
    )
    assert place.nodes()["liked"] == "w3"
    cluster.kubectl("taint", "node", "w3", "slow=yes:PreferNoSchedule")
    try:
        place.create(
            pod("friend", **wish("podAffinity", "anchor")),
            pod("rival", **wish("podAntiAffinity", "anchor", ZONE)),
            pod("noisy", {"app": "noisy"}),
        )
        where = place.nodes("friend", "rival", "noisy")
    finally:
        cluster.kubectl("taint", "node", "w3", "slow-")
    assert where == {"friend": "w2", "rival": "w4", "noisy": "w4"}


def test_company_that_is_required(place, cluster):
    other = Place(cluster, f"{place.namespace}-other")
    cluster.kubectl("create", "namespace", other.namespace)
    try:
        other.create(pod("anchor", {"app": "anchor"}, **on("w3")))
        other.nodes()
        by_label = {"namespaceSelector": {"matchLabels": {"team": "x"}}}
        place.create(
            pod("host", **company("podAffinity", "anchor", namespaces=[other.namespace])),
            pod("zone", **company("podAffinity", "anchor", ZONE, namespaces=[other.namespace])),
            pod("stranger", **company("podAffinity", "anchor")),
            pod("labelled", **company("podAffinity", "anchor", **by_label)),
            pod("first", {"app": "herd"}, **company("podAffinity", "herd", ZONE)),
        )
        where = place.nodes("host", "zone", "first")
        assert (where["host"], where["zone"] in {"w3", "w4"}) == ("w3", True)
        assert "4 node(s) didn't match pod affinity rules" in place.reasons("stranger", "labelled")["labelled"]
        cluster.kubectl("label", "namespace", other.namespace, "team=x")
        assert place.nodes("labelled") == {"labelled": "w3"}
    finally:
        cluster.kubectl("delete", "namespace", other.namespace, "--wait=false")


def test_pods_that_keep_apart(place):
    apart = company("podAntiAffinity", "single")
    place.create(*(pod(f"single-{n}", {"app": "single"}, **apart) for n in range(4)))
    assert set(place.nodes().values()) == WORKERS
    place.create(pod("fifth", {"app": "single"}, **apart), pod("plain", {"app": "single"}))
    told = place.reasons("fifth", "plain")
    assert "4 node(s) didn't match pod anti-affinity rules" in told["fifth"]
    assert "4 node(s) didn't satisfy existing pods anti-affinity rules" in told["plain"]
    assert told["fifth"].endswith(
        "preemption: 0/5 nodes are available: 1 Preemption is not helpful for scheduling, "
        "4 No preemption victims found for incoming pod."
    )
    place.kubectl("label", "pod", "plain", "app=free", "--overwrite")
    place.nodes("plain")
    # One that only the newcomer minds: it is let in as soon as the other is no longer what it minds.
    place.create(*(pod(f"loud-{n}", {"app": "loud"}, **on(f"w{n}")) for n in range(1, 5)))
    place.nodes(*(f"loud-{n}" for n in range(1, 5)))
    place.create(pod("shy", **company("podAntiAffinity", "loud")))
    place.reasons("shy")
    place.kubectl("label", "pod", "loud-3", "app=calm", "--overwrite")
    assert place.nodes("shy") == {"shy": "w3"}


def test_spreading(place, cluster):
    def zones(prefix):
        where = place.nodes(*(name for name in place.pods() if name.startswith(prefix)))
        return sorted("a" if node in {"w1", "w2"} else "b" for node in where.values())

    place.create(*(pod(f"even-{n}", {"app": "even"}, **spread("even")) for n in range(4)))
    place.create(*(pod(f"soft-{n}", {"app": "soft"}, **spread("soft", HOST, **SOFT)) for n in range(4)))
    assert zones("even") == ["a", "a", "b", "b"]
    assert set(place.nodes(*(f"soft-{n}" for n in range(4))).values()) == WORKERS
    # Two domains where three are wanted: each may have maxSkew pods and no more.
    few = spread("few", minDomains=3)
    place.create(*(pod(f"few-{n}", {"app": "few"}, **few) for n in range(2)))
    assert zones("few") == ["a", "b"]
    place.create(pod("third", {"app": "few"}, **few))
    assert "4 node(s) didn't match pod topology spread constraints." in place.reasons("third")["third"]
    # Two revisions of one application are counted apart.
    keyed = spread("keyed", matchLabelKeys=["rev"])
    place.create(
        *(pod(f"keyed-{rev}{n}", {"app": "keyed", "rev": rev}, **keyed) for rev in ("old", "new") for n in range(2))
    )
    assert zones("keyed-old") == zones("keyed-new") == ["a", "b"]
    # A tainted zone is a domain that stays empty, unless taints are honoured.
    cluster.kubectl("taint", "node", "w3", "w4", "closed=yes:NoSchedule")
    try:
        blind, seeing = spread("blind"), spread("seeing", nodeTaintsPolicy="Honor")
        place.create(
            *(pod(f"{a}-{n}", {"app": a}, **s) for a, s in (("blind", blind), ("seeing", seeing)) for n in "12")
        )
        assert zones("seeing") == ["a", "a"]

        def one_waits():
            found = [p["spec"].get("nodeName") for name, p in place.pods().items() if name.startswith("blind")]
            return sum(map(bool, found)) == 1

        cluster.wait(one_waits, "one of two waits", WAIT_S)
    finally:
        cluster.kubectl("taint", "node", "w3", "w4", "closed-")
    assert zones("blind") == ["a", "b"]


SOFT = {"whenUnsatisfiable": "ScheduleAnyway"}


def test_taints_and_cordons(place, cluster):
    place.create(pod("sits", **on("w1")), pod("stays", **on("w1"), tolerations=[{"key": "gone", "operator": "Exists"}]))
    place.nodes()
    cluster.kubectl("taint", "node", "w1", "gone=now:NoExecute")
    cluster.kubectl("cordon", "w2")
    try:
        cluster.wait(lambda: set(place.pods()) == {"stays"}, "the eviction", WAIT_S)
        place.create(pod("late", nodeSelector={ZONE: "a"}), pod("forced", nodeName="w2"))
        told = place.reasons("late")["late"]
        assert told.startswith(
            f"0/5 nodes are available: 1 node(s) had untolerated taint {{gone: now}}, {TAINTED}, "
            "1 node(s) were unschedulable, "
            "2 node(s) didn't match Pod's node affinity/selector."
        )
        place.kubectl("wait", "pod/forced", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
    finally:
        cluster.kubectl("taint", "node", "w1", "gone-")
        cluster.kubectl("uncordon", "w2")
    assert place.nodes("late")["late"] in {"w1", "w2"}


def test_room_is_made_for_the_more_important(place, cluster):
    cpu = int(cluster.kubectl_json("get", "node", "w1")["status"]["allocatable"]["cpu"]) * 1000
    half = {"cpu": f"{cpu * 45 // 100}m"}
    classes = [priority_class(f"prio-{value}", value) for value in (1, 5, 9)]
    stubborn = {"command": ["sh", "-c", "trap 'sleep 2; exit 0' TERM; sleep 1000 & wait"], "image": "busybox"}
    there = {"nodeSelector": {HOST: "w1"}, "terminationGracePeriodSeconds": 20}
    try:
        place.create(
            *classes,
            pod("low", requests=half, priorityClassName="prio-1", container={**stubborn, **req(half)}, **there),
            pod("mid", requests=half, priorityClassName="prio-5", **there),
        )
        place.kubectl("wait", "pod/low", "pod/mid", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
        place.create(pod("high", requests=half, priorityClassName="prio-9", **there))
        # Its place is reserved while the victim takes the time that its grace period gives it.
        nominated = cluster.wait(
            lambda: place.pods()["high"]["status"].get("nominatedNodeName"), "a nomination", WAIT_S
        )
        assert nominated == "w1"
        victim = cluster.wait(lambda: (p := place.pods().get("low")) and target(p), "the victim", WAIT_S)
        assert victim["reason"] == "PreemptionByScheduler"
        assert victim["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
        place.kubectl("wait", "pod/high", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
        left = place.pods()
        assert set(left) == {"mid", "high"}
        events = place.kubectl("get", "events", "--field-selector=reason=Preempted", "-o", "json").stdout
        uid = left["high"]["metadata"]["uid"]
        assert [e["message"] for e in json.loads(events)["items"]] == [f"Preempted by pod {uid} on node w1"]
        # Nobody goes for an equal.
        place.create(pod("equal", requests=half, priorityClassName="prio-5", **there))
        assert "1 No preemption victims found for incoming pod" in place.reasons("equal")["equal"]
        assert set(place.pods()) == {"mid", "high", "equal"}
    finally:
        cluster.kubectl("delete", "priorityclass", "prio-1", "prio-5", "prio-9", check=False)


def priority_class(name, value, **more):
    metadata = {"name": name}
    return {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": metadata, "value": value, **more}


def req(requests):
    return {"resources": {"requests": requests}}


def target(victim):
    return condition(victim, "DisruptionTarget")


def test_a_drain_refuses_what_it_was_not_told_to_take(place, cluster):
    scratch = {"volumes": [{"name": "v", "emptyDir": {}}]}
    template = {"metadata": {"labels": {"app": "d"}}, "spec": pod("x")["spec"]}
    selector = {"matchLabels": {"app": "d"}}
    daemons = {"kind": "DaemonSet", "metadata": {"name": "d"}, "spec": {"selector": selector, "template": template}}
    place.create(
        {"apiVersion": "apps/v1", **daemons}, pod("bare", nodeName="w4"), pod("scratch", nodeName="w4", **scratch)
    )
    place.kubectl("rollout", "status", "ds/d", f"--timeout={WAIT_S:.0f}s")
    place.kubectl("wait", "pod/bare", "pod/scratch", "--for=condition=Ready", f"--timeout={WAIT_S:.0f}s")
    try:
        refused = cluster.kubectl("drain", "w4", check=False)
        assert refused.returncode != 0
        for text in (
            "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)",
            "cannot delete Pods that declare no controller (use --force to override)",
            "cannot delete Pods with local storage (use --delete-emptydir-data to override)",
        ):
            assert text in refused.stderr
        words = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--timeout={WAIT_S:.0f}s")
        drained = cluster.kubectl("drain", "w4", *words)
        assert "node/w4 drained" in drained.stdout
        left = place.pods()
        assert not {"bare", "scratch"} & set(left)
        assert {p["spec"]["nodeName"] for p in left.values()} == WORKERS
    finally:
        cluster.kubectl("uncordon", "w4")
        place.kubectl("delete", "daemonset", "d", "--wait=false")
