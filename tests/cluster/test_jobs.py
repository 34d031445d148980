"""What Jobs, CronJobs, quotas and limits can be told, with the real kubectl. Everything begins at once and is judged in turn."""

from __future__ import annotations

import json

import pytest
from workload_room import WAIT_S, Room

ROOM = "jobs"
CONTROLLER = "example.com/other"


def job(name: str, script: str, restart: str = "Never", pod: dict | None = None, **spec) -> dict:
    container = {"name": "c", "image": "busybox", "command": ["sh", "-c", script]}
    inside = {"restartPolicy": restart, "terminationGracePeriodSeconds": 0, "containers": [container], **(pod or {})}
    body = {"template": {"metadata": {"labels": {"app": name}}, "spec": inside}, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": body}


def cron(name: str, script: str, every: str = "@every 1s", **spec) -> dict:
    body = {"schedule": every, "jobTemplate": {"spec": job(name, script)["spec"]}, **spec}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": body}


def by_index(completions: int, **spec) -> dict:
    return {"completionMode": "Indexed", "completions": completions, "parallelism": completions, **spec}


def on_exit(action: str, code: int) -> dict:
    return {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [code]}}]}


def on_disruption(action: str) -> dict:
    return {"rules": [{"action": action, "onPodConditions": [{"type": "DisruptionTarget"}]}]}


def not_on_exit(action: str, *codes: int) -> dict:
    exits = {"containerName": "c", "operator": "NotIn", "values": [*codes]}
    return {"rules": [{"action": action, "onExitCodes": exits}]}


BY_HAND = job("by-label", "true", manualSelector=True, selector={"matchLabels": {"app": "by-label"}})
LOOK_UP = "until nslookup peers-1.peers.jobs.svc.cluster.local; do sleep 0.2; done"
OBJECTS = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "peers"},
        "spec": {"clusterIP": "None", "selector": {"app": "peers"}},
    },
    job("peers", f"test $JOB_COMPLETION_INDEX = 1 && sleep 1000; {LOOK_UP}", pod={"subdomain": "peers"}, **by_index(2)),
    job("index", "test $JOB_COMPLETION_INDEX != 1", **by_index(3, backoffLimitPerIndex=0)),
    job("most", "exit 1", **by_index(2, backoffLimitPerIndex=0, maxFailedIndexes=1)),
    job("late", "sleep 1000", activeDeadlineSeconds=1),
    job("inside", "exit 3", "OnFailure", backoffLimit=1),
    job("counts", "exit 5", backoffLimit=0, podFailurePolicy=on_exit("Count", 5)),
    job(
        "enough",
        "test $JOB_COMPLETION_INDEX = 0 || sleep 1000",
        **by_index(2, successPolicy={"rules": [{"succeededIndexes": "0"}]}),
    ),
    job("ignored", "exit 5", backoffLimit=0, podFailurePolicy=on_exit("Ignore", 5)),
    job(
        "one-index",
        "exit $JOB_COMPLETION_INDEX",
        **by_index(2, backoffLimitPerIndex=5, podFailurePolicy=on_exit("FailIndex", 1)),
    ),
    job("shrugs", "sleep 1000", backoffLimit=0, podFailurePolicy=on_disruption("Ignore")),
    job("tallies", "sleep 1000", backoffLimit=0, podFailurePolicy=on_disruption("Count")),
    job("quits", "sleep 1000", podFailurePolicy=on_disruption("FailJob")),
    job("others", "exit 3", podFailurePolicy=not_on_exit("FailJob", 1, 2)),
    job("listed", "exit 2", backoffLimit=0, podFailurePolicy=not_on_exit("FailJob", 1, 2)),
    job("naps", "sleep 1000"),
    job("patient", "trap : TERM; sleep 1000 & wait; wait", podReplacementPolicy="Failed"),
    job("elsewhere", "true", managedBy=CONTROLLER),
    BY_HAND,
    cron("allows", "sleep 1000"),
    cron("forbids", "sleep 1000", concurrencyPolicy="Forbid"),
    cron("replaces", "sleep 1000", concurrencyPolicy="Replace"),
    cron("forgets", "true", successfulJobsHistoryLimit=1),
    cron("missed", "true", "@every 3s", suspend=True),
    cron("tokyo", "sleep 1000", "0 3 * * *", timeZone="Asia/Tokyo"),
]


class OwnRoom(Room):
    """The namespace with all of it."""

    def refused(self, *objects):
        result = self.apply(*objects, check=False)
        assert result.returncode != 0, result.stdout
        return result.stderr

    def pods_of(self, name):
        found = self.get("pods", "-l", f"app={name}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def jobs_of(self, name):
        every = self.get("jobs")["items"]
        return [j for j in every if j["metadata"].get("ownerReferences", [{}])[0].get("name") == name]

    def events_of(self, name):
        return {(e["reason"], e["message"]) for e in self.get("events")["items"] if e["involvedObject"]["name"] == name}


@pytest.fixture(scope="module")
def room(cluster):
    cluster.kubectl("create", "namespace", ROOM)
    found = OwnRoom(cluster, ROOM)
    found.apply(*OBJECTS)
    yield found
    cluster.kubectl("delete", "namespace", ROOM, "--wait=false", check=False)


def test_cron_jobs_keep_their_policies(room):
    """First, since what they leave running grows until they are gone."""
    room.wait(
        lambda: len(room.get("cronjob", "allows").get("status", {}).get("active", [])) >= 2, "several run at once"
    )
    room.wait(lambda: "Deleted job replaces-" in str(room.events_of("replaces")), "one took the place of another")
    room.wait(lambda: "JobAlreadyActive" in str(room.events_of("forbids")), "one may not begin")
    assert len(room.jobs_of("forbids")) == 1
    room.wait(lambda: "Deleted job forgets-" in str(room.events_of("forgets")), "history is cut")
    done = [j for j in room.jobs_of("forgets") if j["status"].get("succeeded")]
    assert len(done) <= 2, "one, and one that ended just now"
    room.kubectl("delete", "cronjob", "allows", "forbids", "replaces", "forgets", "--wait=false")
    room.wait(lambda: not room.jobs_of("allows") + room.jobs_of("replaces"), "their jobs went with them")


def test_of_the_starts_that_were_missed_the_last_is_made_up_for(room):
    assert room.jobs_of("missed") == []
    room.kubectl("patch", "cronjob", "missed", "-p", '{"spec":{"suspend":false}}')
    room.wait(lambda: room.jobs_of("missed"), "it starts")
    room.kubectl("patch", "cronjob", "missed", "-p", '{"spec":{"suspend":true}}')
    made = [found["metadata"]["creationTimestamp"] for found in room.jobs_of("missed")]
    assert len(set(made)) == len(made), "never two at once, however many were missed"


def test_a_zone_is_kept_or_refused_and_a_job_made_by_hand_is_nobodys_turn(room):
    assert room.get("cronjob", "tokyo")["spec"]["timeZone"] == "Asia/Tokyo"
    assert "Asia/Tokyo" in room.kubectl("get", "cronjob", "tokyo").stdout
    bad = room.refused(cron("mars", "true", "61 * * * *", timeZone="Mars/Olympus", concurrencyPolicy="Maybe"))
    assert 'spec.schedule: Invalid value: "61 * * * *": end of range (61) above maximum (59): 61' in bad
    assert 'spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus' in bad
    assert 'spec.concurrencyPolicy: Unsupported value: "Maybe"' in bad
    room.kubectl("create", "job", "by-hand", "--from=cronjob/tokyo")
    room.wait(lambda: len(room.pods_of("tokyo")) == 1, "it runs")
    told = ("UnexpectedJob", "Saw a job that the controller did not create or forgot: by-hand")
    room.wait(lambda: told in room.events_of("tokyo"), "the CronJob did not make it")
    assert "active" not in room.get("cronjob", "tokyo").get("status", {})
    room.kubectl("delete", "cronjob", "tokyo")
    room.wait(lambda: "by-hand" not in room.kubectl("get", "jobs").stdout, "it belongs to its CronJob all the same")


@pytest.mark.parametrize(
    ("name", "reason", "status"),
    [
        ("index", "FailedIndexes", {"succeeded": 2, "completedIndexes": "0,2", "failedIndexes": "1"}),
        ("most", "MaxFailedIndexesExceeded", {"failedIndexes": "0,1"}),
        ("one-index", "FailedIndexes", {"completedIndexes": "0", "failedIndexes": "1", "failed": 1}),
        ("late", "DeadlineExceeded", {"failed": 1}),
        ("inside", "BackoffLimitExceeded", {"failed": 1}),
        ("counts", "BackoffLimitExceeded", {"failed": 1}),
        ("others", "PodFailurePolicy", {"failed": 1}),
        ("listed", "BackoffLimitExceeded", {"failed": 1}),
        ("enough", "SuccessPolicy", {"succeeded": 1, "completedIndexes": "0"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_jobs_end_as_they_were_told(room, name, reason, status):
    def ended():
        found = room.get("job", name).get("status", {})
        rows = {row["type"]: row["reason"] for row in found.get("conditions", []) if row["status"] == "True"}
        return (rows.get("Failed") or rows.get("Complete")) and (rows, found)

    rows, found = room.wait(ended, f"{name} has ended")
    target, final = ("SuccessCriteriaMet", "Complete") if name == "enough" else ("FailureTarget", "Failed")
    assert (rows[target], rows[final]) == (reason, reason)
    assert {key: found.get(key) for key in status} == status
    assert (found["uncountedTerminatedPods"], found["ready"], found["terminating"]) == ({}, 0, 0)
    assert [pod for pod in room.pods_of(name) if pod["metadata"].get("finalizers")] == []


def test_an_eviction_counts_as_the_policy_says(room):
    """By the condition DisruptionTarget that an eviction leaves on the pod."""
    names = ("shrugs", "tallies", "quits")
    evicted = {}
    for name in names:
        room.wait(lambda name=name: room.get("job", name).get("status", {}).get("ready") == 1, f"{name} runs")
        (pod,) = room.pods_of(name)
        evicted[name] = pod["metadata"]["name"]
        assert room.evict(evicted[name]).returncode == 0
    for name in names[1:]:
        room.kubectl("wait", "--for=condition=failed", f"job/{name}", f"--timeout={WAIT_S:.0f}s")

    def failure(name):
        return room.condition("job", name, "Failed")

    assert failure("tallies")["reason"] == "BackoffLimitExceeded"
    told = f"Pod {ROOM}/{evicted['quits']} has condition DisruptionTarget matching FailJob rule at index 0"
    assert (failure("quits")["reason"], failure("quits")["message"]) == ("PodFailurePolicy", told)
    assert ("PodFailurePolicy", told) in room.events_of("quits")
    text = " failed with exit code 3 matching FailJob rule at index 0"
    room.kubectl("wait", "--for=condition=failed", "job/others", f"--timeout={WAIT_S:.0f}s")
    assert failure("others")["message"].startswith(f"Container c for pod {ROOM}/others-")
    assert failure("others")["message"].endswith(text)

    def replaced():
        return {pod["metadata"]["name"] for pod in room.pods_of("shrugs")} - {evicted["shrugs"]}

    room.wait(replaced, "who was evicted has a successor")
    found = room.get("job", "shrugs")["status"]
    assert (found.get("failed", 0), found.get("conditions", [])) == (0, [])


def test_a_job_naps_and_goes_on(room):
    room.wait(lambda: room.get("job", "naps")["status"].get("ready") == 1, "it runs")
    (first,) = room.pods_of("naps")
    assert first["metadata"]["finalizers"] == ["batch.kubernetes.io/job-tracking"]
    room.kubectl("patch", "job", "naps", "-p", '{"spec":{"suspend":true}}')
    room.kubectl("wait", "--for=condition=suspended", "job/naps", f"--timeout={WAIT_S:.0f}s")
    room.wait(lambda: not room.pods_of("naps"), "its pod went")
    assert "failed" not in room.get("job", "naps")["status"]
    room.kubectl("patch", "job", "naps", "-p", '{"spec":{"suspend":false}}')
    room.wait(lambda: room.get("job", "naps")["status"].get("ready") == 1, "it runs again")
    told = {reason for reason, _ in room.events_of("naps")}
    assert {"Suspended", "Resumed", "SuccessfulCreate", "SuccessfulDelete"} <= told


def test_an_ignored_failure_is_tried_again_later(room):
    room.wait(lambda: len(room.pods_of("ignored")) >= 2, "a second try, and the limit was none")
    found = room.get("job", "ignored")["status"]
    assert (found.get("failed", 0), found.get("conditions", [])) == (0, [])
    tries = sorted(pod["metadata"]["creationTimestamp"] for pod in room.pods_of("ignored"))
    assert tries[0] != tries[1], "not at once"


def test_indexed_pods_find_each_other_by_name(room):
    room.wait(lambda: room.get("job", "peers")["status"].get("completedIndexes") == "0", "0 has found 1")
    room.kubectl("patch", "job", "peers", "-p", '{"spec":{"completions":3,"parallelism":3}}')
    room.wait(
        lambda: room.get("job", "peers")["status"].get("completedIndexes") == "0,2", "it grew, and 2 found 1, too"
    )
    names = {pod["spec"]["hostname"] for pod in room.pods_of("peers")}
    assert names == {"peers-0", "peers-1", "peers-2"}


def test_who_replaces_and_who_counts(room):
    room.wait(lambda: room.get("job", "patient")["status"].get("ready") == 1, "it runs")
    (first,) = room.pods_of("patient")
    room.kubectl("delete", "pod", first["metadata"]["name"], "--grace-period=2", "--wait=false")
    room.wait(lambda: room.get("job", "patient")["status"].get("terminating") == 1, "it is seen to go")
    assert room.pods_of("patient") == [], "and is not replaced before it has gone"
    room.wait(lambda: room.get("job", "patient")["status"].get("failed") == 1, "now it counts")
    assert "status" not in room.get("job", "elsewhere") or not room.get("job", "elsewhere")["status"]
    assert room.pods_of("elsewhere") == []
    room.kubectl("wait", "--for=condition=complete", "job/by-label", f"--timeout={WAIT_S:.0f}s")
    (pod,) = room.pods_of("by-label")
    assert "batch.kubernetes.io/controller-uid" not in room.get("job", "by-label")["spec"]["selector"]["matchLabels"]
    assert pod["metadata"]["labels"]["app"] == "by-label"


def test_bad_jobs_are_refused_in_upstreams_words(room):
    policy = on_exit("Perhaps", 0)
    bad = room.refused(
        job("bad", "true", "Always", backoffLimitPerIndex=1, maxFailedIndexes=-1, podFailurePolicy=policy)
    )
    for text in (
        "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
        "spec.maxFailedIndexes: Invalid value: -1: must be greater than or equal to 0",
        'spec.podFailurePolicy.rules[0].action: Unsupported value: "Perhaps"',
        "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
    ):
        assert text in bad
    changed = job("naps", "echo another")
    assert "spec.template: Invalid value" in room.refused(changed)
    copied = room.get("job", "naps")
    copied["metadata"] = {"name": "copied"}
    bad = room.refused(copied)
    assert "spec.template.metadata.labels[batch.kubernetes.io/controller-uid]: Invalid value" in bad
    assert "`selector` not auto-generated" in bad


def limits(name: str, *items: dict) -> dict:
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": name}, "spec": {"limits": list(items)}}


def claim(name: str, size: str) -> dict:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def with_resources(name: str, **more) -> dict:
    resources = {field: more.pop(field) for field in ("requests", "limits") if field in more}
    container = {"name": "c", "image": "busybox", "command": ["sleep", "1000"], "resources": resources}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_quotas_of_amounts_scopes_and_claims_that_grow(cluster, namespace):
    room = OwnRoom(cluster, ROOM)
    room.kubectl = lambda *words, **kwargs: cluster.kubectl("-n", namespace, *words, **kwargs)
    words = ("--hard=requests.cpu=1,limits.memory=1Gi,services.nodeports=1,requests.storage=3Mi,configmaps=3",)
    room.kubectl("create", "quota", "all", *words)
    room.kubectl("create", "quota", "short", "--hard=pods=0", "--scopes=Terminating")
    amounts = {"requests": {"cpu": "600m"}, "limits": {"memory": "64Mi", "cpu": "700m"}}
    assert "must specify limits.memory for: c; requests.cpu for: c" in room.refused(with_resources("silent"))
    room.apply(with_resources("first", **amounts))
    over = room.refused(with_resources("second", **amounts))
    assert "exceeded quota: all, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1" in over
    brief = room.refused(
        with_resources("brief", requests={"cpu": "1m"}, limits=amounts["limits"], activeDeadlineSeconds=9)
    )
    assert "exceeded quota: short, requested: pods=1, used: pods=0, limited: pods=0" in brief
    room.apply(
        claim("data", "2Mi"),
        with_resources(
            "user",
            requests={"cpu": "1m"},
            limits=amounts["limits"],
            volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
        ),
    )
    room.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/data", f"--timeout={WAIT_S:.0f}s")
    patch = json.dumps({"spec": {"resources": {"requests": {"storage": "4Mi"}}}})
    grown = room.kubectl("patch", "pvc", "data", "-p", patch, check=False).stderr
    assert (
        "exceeded quota: all, requested: requests.storage=2Mi, used: requests.storage=2Mi, limited: requests.storage=3Mi"
        in grown
    )
    room.kubectl("create", "service", "clusterip", "web", "--tcp=80")
    room.kubectl("create", "service", "nodeport", "door", "--tcp=80")
    opened = room.kubectl("patch", "svc", "web", "-p", '{"spec":{"type":"NodePort"}}', check=False).stderr
    assert "exceeded quota: all, requested: services.nodeports=1, used: services.nodeports=1" in opened
    used = room.wait(
        lambda: (u := room.get("quota", "all")["status"]["used"])["requests.storage"] == "2Mi" and u, "all is counted"
    )
    assert used == {
        "requests.cpu": "601m",
        "limits.memory": "128Mi",
        "services.nodeports": "1",
        "requests.storage": "2Mi",
        "configmaps": "1",
    }
    conflicting = room.kubectl(
        "create", "quota", "x", "--hard=pods=1", "--scopes=BestEffort,NotBestEffort", check=False
    )
    assert "conflicting scopes" in conflicting.stderr


def test_limits_of_claims_pods_and_ratios(cluster, namespace):
    room = OwnRoom(cluster, ROOM)
    room.kubectl = lambda *words, **kwargs: cluster.kubectl("-n", namespace, *words, **kwargs)
    room.apply(
        limits(
            "l",
            {
                "type": "Container",
                "min": {"cpu": "10m"},
                "default": {"cpu": "100m"},
                "maxLimitRequestRatio": {"cpu": "4"},
            },
            {"type": "Pod", "max": {"memory": "64Mi"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "2Mi"}},
        )
    )
    memory = {"memory": "32Mi"}
    room.apply(with_resources("fits", requests={"cpu": "50m"}, limits=memory))
    fits = room.get("pod", "fits")
    assert fits["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "100m", "memory": "32Mi"}
    told = fits["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    assert told == "LimitRanger plugin set: cpu limit for container c"
    low = room.refused(with_resources("low", requests={"cpu": "5m"}, limits={"memory": "128Mi"}))
    assert "minimum cpu usage per Container is 10m, but request is 5m" in low
    assert "cpu max limit to request ratio per Container is 4, but provided ratio is 20.000000" in low
    assert "maximum memory usage per Pod is 64Mi, but limit is 128Mi" in low
    wide = room.refused(claim("wide", "3Mi"))
    assert "maximum storage usage per PersistentVolumeClaim is 2Mi, but request is 3Mi" in wide
    bad = room.refused(limits("bad", {"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}))
    assert "spec.limits[0].min[cpu]: Invalid value" in bad


def test_priority_classes_one_default_and_two_that_stay(cluster, namespace):
    def kubectl(*words):
        return cluster.kubectl("-n", namespace, *words, check=False)

    created = kubectl("create", "priorityclass", "usual", "--value=7", "--global-default", "--preemption-policy=Never")
    assert created.returncode == 0, created.stderr
    try:
        second = kubectl("create", "priorityclass", "other", "--value=8", "--global-default=true").stderr
        assert "PriorityClass usual is already marked as default. Only one default can exist" in second
        kubectl("run", "one", "--image=busybox", "--", "sleep", "1000")
        spec = cluster.kubectl_json("-n", namespace, "get", "pod", "one")["spec"]
        assert (spec["priorityClassName"], spec["priority"], spec["preemptionPolicy"]) == ("usual", 7, "Never")
        changed = kubectl("patch", "priorityclass", "usual", "-p", '{"value":8}').stderr
        assert "value: Forbidden: may not be changed in an update." in changed
    finally:
        kubectl("delete", "priorityclass", "usual")
    kept = kubectl("delete", "priorityclass", "system-node-critical").stderr
    assert "this is a system priority class and cannot be deleted" in kept
