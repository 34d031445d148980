"""What tests of workloads share: one namespace with short ways to use it, and manifests as objects."""

from __future__ import annotations

import json
from datetime import datetime

WAIT_S = 90.0
BROKEN = "registry.invalid/no-such-image:1"
CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}


class Room:
    """One namespace and short ways to use it."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace

    def kubectl(self, *words, **kwargs):
        return self.cluster.kubectl("-n", self.namespace, *words, **kwargs)

    def apply(self, *objects, check=True):
        body = {"apiVersion": "v1", "kind": "List", "items": [*objects]}
        return self.kubectl("apply", "-f", "-", input=json.dumps(body), check=check)

    def get(self, *words):
        return json.loads(self.kubectl("get", *words, "-o", "json").stdout)

    def patch(self, what, name, patch):
        self.kubectl("patch", what, name, "--type=merge", "-p", json.dumps(patch))

    def rolled_out(self, what):
        return self.kubectl("rollout", "status", what, f"--timeout={WAIT_S:.0f}s").stdout

    def pods(self, app):
        """The pods that are not on their way out, by name."""
        found = self.get("pods", "-l", f"app={app}")["items"]
        return {p["metadata"]["name"]: p for p in found if "deletionTimestamp" not in p["metadata"]}

    def wait(self, condition, what, timeout_s=WAIT_S):
        return self.cluster.wait(condition, what, timeout_s)

    def condition(self, what, name, kind):
        rows = self.get(what, name).get("status", {}).get("conditions", ())
        return next((row for row in rows if row["type"] == kind), {})

    def image(self, what, image):
        self.kubectl("set", "image", what, f"c={image}")

    def evict(self, pod):
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.namespace}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        return self.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(body), check=False)


def template(app, image="busybox:1", **spec):
    container = {"name": "c", "image": image, "command": ["sleep", "infinity"], **spec.pop("container", {})}
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container], **spec}
    return {"metadata": {"labels": {"app": app}}, "spec": pod}


def workload(kind, app, *, pod=None, **spec):
    body = {"selector": {"matchLabels": {"app": app}}, "template": pod or template(app), **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": app}, "spec": body}


def budget(name, app, **spec):
    body = {"selector": {"matchLabels": {"app": app}}, **spec}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": body}


def image_of(pod):
    return pod["spec"]["containers"][0]["image"]


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ()))


def owner_of(pod):
    return next((r["name"] for r in pod["metadata"].get("ownerReferences", ()) if r.get("controller")), None)


def seconds(stamp):
    return datetime.fromisoformat(stamp).timestamp()
