"""Workloads on a booted cluster, with the real kubectl: rollouts, order, completions, schedules, budgets, quotas."""

from __future__ import annotations

import json
import re

TEMPLATE = """
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: c, image: "{image}", command: [sleep, infinity]}}]
"""


def manifest(kind: str, name: str, image: str = "busybox:1", **spec) -> str:
    head = f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:"
    fields = "".join(f"\n  {field}: {json.dumps(value)}" for field, value in spec.items())
    return head + fields + TEMPLATE.format(name=name, image=image)


def job(name: str, script: str, **spec) -> str:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox", "command": ["sh", "-c", script]}]}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}}
    return json.dumps({**body, "spec": {"template": {"spec": pod}, **spec}})


def in_namespace(cluster, namespace):
    """Short ways to use one namespace."""

    def kubectl(*words, **kwargs):
        return cluster.kubectl("-n", namespace, *words, **kwargs)

    def apply(text, **kwargs):
        return kubectl("apply", "-f", "-", input=text, **kwargs)

    def get(*words):
        return json.loads(kubectl("get", *words, "-o", "json").stdout)

    return kubectl, apply, get


def images(get, app):
    return {p["spec"]["containers"][0]["image"] for p in get("pods", "-l", f"app={app}")["items"]}


def test_daemon_set_rollout_history_and_undo(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    apply(manifest("DaemonSet", "agent"))
    assert "successfully rolled out" in kubectl("rollout", "status", "ds/agent", "--timeout=30s").stdout
    pods = get("pods", "-l", "app=agent")["items"]
    nodes = [pod["spec"]["nodeName"] for pod in pods]
    assert sorted(nodes) == ["worker-1", "worker-2"]
    tolerated = {toleration.get("key") for toleration in pods[0]["spec"]["tolerations"]}
    assert {"node.kubernetes.io/unschedulable", "node.kubernetes.io/disk-pressure"} <= tolerated
    apply(manifest("DaemonSet", "agent", "busybox:2"))
    kubectl("rollout", "status", "ds/agent", "--timeout=30s")
    assert images(get, "agent") == {"busybox:2"}
    history = kubectl("rollout", "history", "ds/agent").stdout
    assert [line.split()[0] for line in history.splitlines()[2:] if line] == ["1", "2"]
    assert "busybox:1" in kubectl("rollout", "history", "ds/agent", "--revision=1").stdout
    assert "rolled back" in kubectl("rollout", "undo", "ds/agent").stdout
    kubectl("rollout", "status", "ds/agent", "--timeout=30s")
    assert images(get, "agent") == {"busybox:1"}
    skipped = kubectl("rollout", "undo", "ds/agent", "--to-revision=3").stdout
    assert "skipped rollback" in skipped


def test_daemon_set_leaves_a_tainted_node_and_returns(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    apply(manifest("DaemonSet", "agent"))
    kubectl("rollout", "status", "ds/agent", "--timeout=30s")

    def nodes():
        return sorted(pod["spec"].get("nodeName", "") for pod in get("pods", "-l", "app=agent")["items"])

    cluster.kubectl("taint", "node", "worker-2", "test=away:NoExecute")
    try:
        cluster.wait(lambda: nodes() == ["worker-1"], "the daemon left the tainted node")
        assert get("ds", "agent")["status"]["desiredNumberScheduled"] == 1
    finally:
        cluster.kubectl("taint", "node", "worker-2", "test-")
    cluster.wait(lambda: nodes() == ["worker-1", "worker-2"], "the daemon came back")


def test_stateful_set_names_order_partition_and_undo(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    kubectl("create", "service", "clusterip", "db", "--clusterip=None", "--tcp=80")
    apply(manifest("StatefulSet", "db", replicas=3, serviceName="db"))
    assert re.search(r"\b3 (new )?pods", kubectl("rollout", "status", "sts/db", "--timeout=60s").stdout)
    pods = {pod["metadata"]["name"]: pod for pod in get("pods", "-l", "app=db")["items"]}
    assert sorted(pods) == ["db-0", "db-1", "db-2"]
    started = [pods[name]["status"]["startTime"] for name in sorted(pods)]
    assert started == sorted(started)
    assert kubectl("exec", "db-1", "--", "hostname").stdout.strip() == "db-1"
    kubectl("patch", "sts", "db", "-p", '{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}}}}')
    kubectl("set", "image", "sts/db", "c=busybox:2")
    assert "partitioned roll out complete" in kubectl("rollout", "status", "sts/db", "--timeout=60s").stdout
    assert images(get, "db") == {"busybox:1", "busybox:2"}
    kubectl("patch", "sts", "db", "-p", '{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}')
    kubectl("rollout", "status", "sts/db", "--timeout=60s")
    assert images(get, "db") == {"busybox:2"}
    kubectl("rollout", "undo", "sts/db")
    kubectl("rollout", "status", "sts/db", "--timeout=60s")
    assert images(get, "db") == {"busybox:1"}
    status = get("sts", "db")["status"]
    assert status["currentRevision"] == status["updateRevision"]
    kubectl("scale", "sts/db", "--replicas=1")
    cluster.wait(lambda: len(get("pods", "-l", "app=db")["items"]) == 1, "scaled down to db-0")
    assert get("pods", "-l", "app=db")["items"][0]["metadata"]["name"] == "db-0"


def test_indexed_job_completes(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    apply(job("idx", "echo I am $JOB_COMPLETION_INDEX", completions=3, parallelism=3, completionMode="Indexed"))
    kubectl("wait", "--for=condition=complete", "job/idx", "--timeout=60s")
    status = get("job", "idx")["status"]
    assert (status["succeeded"], status["completedIndexes"]) == (3, "0-2")
    words = ("logs", "-l", "batch.kubernetes.io/job-name=idx")

    def said():
        return sorted(kubectl(*words, check=False).stdout.split()) == sorted(
            ["I", "am", "0", "I", "am", "1", "I", "am", "2"]
        )

    cluster.wait(said, "every index knew its number")
    assert "3/3" in kubectl("get", "job", "idx").stdout


def test_failing_job_reaches_its_limit_and_its_policy(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    apply(job("bad", "exit 1", backoffLimit=0))
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    apply(job("picky", "exit 42", podFailurePolicy={"rules": rules}))
    for name, reason in (("bad", "BackoffLimitExceeded"), ("picky", "PodFailurePolicy")):
        kubectl("wait", "--for=condition=failed", f"job/{name}", "--timeout=60s")
        conditions = {c["type"]: c for c in get("job", name)["status"]["conditions"]}
        assert conditions["Failed"]["reason"] == reason
    kubectl("delete", "job", "bad", "picky", "--timeout=30s")
    cluster.wait(lambda: not get("pods")["items"], "the pods of deleted jobs are gone")


def test_suspended_job_and_time_to_live(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    apply(job("nap", "true", suspend=True, ttlSecondsAfterFinished=1))
    kubectl("wait", "--for=condition=suspended", "job/nap", "--timeout=30s")
    assert get("pods")["items"] == []
    kubectl("patch", "job", "nap", "-p", '{"spec":{"suspend":false}}')
    cluster.wait(lambda: not get("jobs")["items"] and not get("pods")["items"], "the job ran and is forgotten", 60)


def test_cron_job_runs_on_time_and_by_hand(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    spec = json.loads(job("x", "date"))["spec"]
    body = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "tick"},
        "spec": {"schedule": "@every 2s", "jobTemplate": {"spec": spec}, "successfulJobsHistoryLimit": 5},
    }
    apply(json.dumps(body))

    def finished():
        cron_job = get("cronjob", "tick")
        return "lastSuccessfulTime" in cron_job.get("status", {}) and cron_job

    cluster.wait(finished, "a scheduled job succeeded", 60)
    kubectl("patch", "cronjob", "tick", "-p", '{"spec":{"suspend":true}}')
    kubectl("create", "job", "by-hand", "--from=cronjob/tick")
    kubectl("wait", "--for=condition=complete", "job/by-hand", "--timeout=60s")
    assert "tick" in kubectl("get", "cronjob").stdout


def test_budget_blocks_a_drain_until_there_are_enough(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    apply(manifest("Deployment", "web", replicas=2))
    kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    kubectl("create", "pdb", "web", "--selector=app=web", "--min-available=2")
    cluster.wait(lambda: get("pdb", "web").get("status", {}).get("currentHealthy") == 2, "the budget counts two")
    node = get("pods", "-l", "app=web")["items"][0]["spec"]["nodeName"]
    words = ("drain", node, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--pod-selector=app=web")
    try:
        refused = cluster.kubectl(*words, "--timeout=3s", check=False)
        assert refused.returncode != 0
        assert "Cannot evict pod as it would violate the pod's disruption budget." in refused.stdout + refused.stderr
        kubectl("delete", "pdb", "web")
        kubectl("create", "pdb", "web", "--selector=app=web", "--max-unavailable=1")
        cluster.wait(lambda: get("pdb", "web").get("status", {}).get("disruptionsAllowed") == 1, "one may go")
        assert "drained" in cluster.kubectl(*words, "--timeout=60s").stdout
    finally:
        cluster.kubectl("uncordon", node)


def test_quota_refuses_what_is_too_much_and_counts_what_is_there(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    kubectl("create", "quota", "q", "--hard=pods=1,count/deployments.apps=1")
    kubectl("run", "one", "--image=busybox", "--", "sleep", "infinity")
    cluster.wait(lambda: get("quota", "q").get("status", {}).get("used", {}).get("pods") == "1", "one pod is counted")
    refused = kubectl("run", "two", "--image=busybox", check=False)
    text = 'pods "two" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    assert refused.returncode == 1
    assert text in refused.stderr
    apply(manifest("Deployment", "web", replicas=1))

    def told():
        conditions = get("deploy", "web").get("status", {}).get("conditions", [])
        return any(c["type"] == "ReplicaFailure" and "exceeded quota: q" in c["message"] for c in conditions)

    cluster.wait(told, "the deployment says why it has no pods")
    kubectl("delete", "pod", "one", "--grace-period=1")
    kubectl("rollout", "status", "deploy/web", "--timeout=60s")
    assert get("quota", "q")["status"]["used"]["count/deployments.apps"] == "1"


def test_limit_range_fills_in_and_refuses(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    limit = {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [limit]}}
    apply(json.dumps(body))
    kubectl("run", "small", "--image=busybox", "--", "sleep", "infinity")
    resources = get("pod", "small")["spec"]["containers"][0]["resources"]
    assert resources == {"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}}
    big = {"spec": {"containers": [{"name": "big", "image": "busybox", "resources": {"limits": {"cpu": "2"}}}]}}
    refused = kubectl("run", "big", "--image=busybox", f"--overrides={json.dumps(big)}", check=False)
    assert "maximum cpu usage per Container is 1, but limit is 2" in refused.stderr


def test_replication_controller_scales(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    template = {
        "metadata": {"labels": {"app": "old"}},
        "spec": {"containers": [{"name": "c", "image": "busybox", "command": ["sleep", "infinity"]}]},
    }
    spec = {"replicas": 1, "template": template}
    apply(json.dumps({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "old"}, "spec": spec}))
    kubectl("scale", "rc/old", "--replicas=2")
    cluster.wait(lambda: get("rc", "old")["status"].get("readyReplicas") == 2, "two are ready", 60)


def test_a_job_counts_every_pod_though_its_controller_is_shot(cluster, namespace):
    kubectl, apply, get = in_namespace(cluster, namespace)
    apply(job("many", "sleep 0.3", completions=12, parallelism=4))
    component = "kube-controller-manager/control-plane"

    def shoot_after(wanted):
        cluster.wait(lambda: get("job", "many").get("status", {}).get("succeeded", 0) >= wanted, f"{wanted} done", 60)
        old = cluster.component(component)["pid"]
        cluster.exec("switch/s1", "kill", "-9", str(old))
        cluster.wait(lambda: cluster.component(component)["pid"] not in {None, old}, "it is started again")

    shoot_after(2)
    shoot_after(6)
    kubectl("wait", "--for=condition=complete", "job/many", "--timeout=60s")
    status = get("job", "many")["status"]
    assert (status["succeeded"], status.get("failed", 0)) == (12, 0)
    assert status["uncountedTerminatedPods"] == {}
    tracked = [p for p in get("pods")["items"] if p["metadata"].get("finalizers")]
    assert tracked == []
