"""ResourceQuota on a booted cluster, with the real kubectl: whom each scope counts, and how many of what there may be.

The pods are held back by a gate: they count as soon as they are there, and nobody has to run them.
"""

from __future__ import annotations

import json

import pytest
from workload_room import Room, workload

FAR = {"topologyKey": "kubernetes.io/hostname", "namespaces": ["elsewhere"], "labelSelector": {}}
NEAR = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}
COUNTS = {
    "count/deployments.apps": "1",
    "count/jobs.batch": "0",
    "count/services": "2",
    "services.nodeports": "1",
    "services.loadbalancers": "0",
    "count/configmaps": "2",
    "secrets": "0",
    "persistentvolumeclaims": "2",
    "requests.storage": "2Gi",
    "gold.storageclass.storage.k8s.io/requests.storage": "1Gi",
    "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
}


class Office(Room):
    """One namespace, what is refused in it, and what its quotas say."""

    def refused(self, *objects):
        result = self.apply(*objects, check=False)
        assert result.returncode != 0, result.stdout
        return result.stderr.strip()

    def until_used(self, expected):
        """Wait until each of these quotas says that so much is used."""

        def used():
            found = {q["metadata"]["name"]: q.get("status", {}).get("used") for q in self.get("quota")["items"]}
            return {name: found.get(name) for name in expected} == expected

        self.wait(used, f"used: {expected}")

    def described(self, name):
        """(first lines, {resource: (used, hard)}) of `kubectl describe quota`."""
        lines = self.kubectl("describe", "quota", name).stdout.splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("---"))
        rows = [line.split() for line in lines[start + 1 :] if line.strip()]
        return lines[: start - 1], {row[0]: (row[1], row[2]) for row in rows}


@pytest.fixture
def office(cluster, namespace):
    return Office(cluster, namespace)


def quota(name, hard, *scopes, selector=()):
    spec = {"hard": hard, "scopes": [*scopes]} if scopes else {"hard": hard}
    if selector:
        spec["scopeSelector"] = {"matchExpressions": [*selector]}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec}


def by_class(operator, *values):
    return {"scopeName": "PriorityClass", "operator": operator, **({"values": [*values]} if values else {})}


def gated(name, cpu="", **spec):
    container = {"name": "c", "image": "pause", "resources": {"requests": {"cpu": cpu} if cpu else {}}}
    body = {"schedulingGates": [{"name": "example.com/held"}], "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def company(term):
    return {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def claim(name, storage_class, size):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    body = {**spec, "storageClassName": storage_class}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": body}


def over(kind, name, quota_name, requested, used, limited):
    """The refusal, word by word."""
    amounts = f"requested: {requested}, used: {used}, limited: {limited}"
    return f'{kind} "{name}" is forbidden: exceeded quota: {quota_name}, {amounts}'


def test_each_scope_counts_its_own_pods(office):
    important = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "board"}}
    try:
        office.apply(
            important | {"value": 10},
            quota("brief", {"pods": "1"}, "Terminating"),
            quota("lasting", {"pods": "9"}, "NotTerminating"),
            quota("effortless", {"pods": "1"}, "BestEffort"),
            quota("effort", {"pods": "9", "requests.cpu": "500m"}, "NotBestEffort"),
            quota("both", {"pods": "9"}, "NotTerminating", "NotBestEffort"),
            quota("board", {"pods": "1"}, selector=[by_class("In", "board")]),
            quota("others", {"pods": "9"}, selector=[by_class("NotIn", "board")]),
            quota("ranked", {"pods": "9"}, selector=[by_class("Exists")]),
            quota("far", {"pods": "0"}, selector=[{"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"}]),
        )
        brief, first = {"activeDeadlineSeconds": 900}, {"priorityClassName": "board"}
        office.apply(
            gated("plain"),
            gated("brief", "100m", **brief),
            gated("first", "100m", **first),
            gated("near", "100m", **company(NEAR)),
        )
        one = ("pods=1", "pods=1", "pods=1")
        assert over("pods", "x", "effortless", *one) in office.refused(gated("x"))
        assert over("pods", "x", "brief", *one) in office.refused(gated("x", "100m", **brief))
        assert over("pods", "x", "board", *one) in office.refused(gated("x", "100m", **first))
        away = office.refused(gated("x", "100m", **company(FAR)))
        assert over("pods", "x", "far", "pods=1", "pods=0", "pods=0") in away
        cpu = ("requests.cpu=300m", "requests.cpu=300m", "requests.cpu=500m")
        assert over("pods", "x", "effort", *cpu) in office.refused(gated("x", "300m"))
        # Only memory is asked for: that is some effort, and whoever counts CPU wants to know how much of it.
        silent = gated("x")
        silent["spec"]["containers"][0]["resources"]["requests"]["memory"] = "1Mi"
        assert "failed quota: effort: must specify requests.cpu for: c" in office.refused(silent)
        expected = {
            "brief": 1,
            "lasting": 3,
            "effortless": 1,
            "both": 2,
            "board": 1,
            "others": 3,
            "ranked": 1,
            "far": 0,
        }
        effort = {"effort": {"pods": "3", "requests.cpu": "300m"}}
        office.until_used({name: {"pods": str(count)} for name, count in expected.items()} | effort)
        head, rows = office.described("effort")
        assert head[2] == "Scopes:     NotBestEffort"
        assert "at least one resource requirement set" in head[3]
        assert rows == {"pods": ("3", "9"), "requests.cpu": ("300m", "500m")}
        shown = office.kubectl("get", "quota", "brief", "--no-headers").stdout.split()
        assert shown[-2:] == ["pods:", "1/1"]
        office.kubectl("delete", "pod", "brief", "first", "--now")
        left = {"brief": {"pods": "0"}, "board": {"pods": "0"}, "effort": {"pods": "1", "requests.cpu": "100m"}}
        office.until_used(left)
    finally:
        office.cluster.kubectl("delete", "priorityclass", "board", check=False)


def test_so_many_of_each_kind_and_so_much_of_each_class(office):
    gold = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "gold"}}
    door = {"type": "NodePort", "ports": [{"port": 80}]}

    def service(name, **spec):
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"ports": [{"port": 80}]} | spec,
        }

    try:
        office.apply(
            gold | {"provisioner": "podnet.dev/local-path", "volumeBindingMode": "WaitForFirstConsumer"},
            quota("counts", COUNTS),
            workload("Deployment", "one", replicas=0),
            service("door", **door),
            service("inside"),
            claim("ingot", "gold", "700Mi"),
        )
        for body, refusal in (
            (workload("Deployment", "x", replicas=0), ("deployments.apps", "count/deployments.apps", "1", "1", "1")),
            (service("x"), ("services", "count/services", "1", "2", "2")),
            (claim("x", "gold", "1Mi"), ("persistentvolumeclaims", next(reversed(COUNTS)), "1", "1", "1")),
            (claim("x", "", "1500Mi"), ("persistentvolumeclaims", "requests.storage", "1500Mi", "700Mi", "2Gi")),
        ):
            kind, resource, *amounts = refusal
            assert over(kind, "x", "counts", *(f"{resource}={n}" for n in amounts)) in office.refused(body)
        opened = office.kubectl("patch", "svc", "inside", "-p", json.dumps({"spec": door}), check=False).stderr
        ports = (f"services.nodeports={n}" for n in (1, 1, 1))
        assert over("services", "inside", "counts", *ports) in opened
        for words, text in (
            (
                ("job", "x", "--image=busybox"),
                over("jobs.batch", "x", "counts", *(f"count/jobs.batch={n}" for n in (1, 0, 0))),
            ),
            (("secret", "generic", "x"), over("secrets", "x", "counts", *(f"secrets={n}" for n in (1, 0, 0)))),
        ):
            assert text in office.kubectl("create", *words, check=False).stderr
        used = ("1", "0", "2", "1", "0", "1", "0", "1", "700Mi", "700Mi", "1")
        office.until_used({"counts": dict(zip(COUNTS, used, strict=True))})
        _, rows = office.described("counts")
        assert rows == {name: (mine, COUNTS[name]) for name, mine in zip(COUNTS, used, strict=True)}
        office.kubectl("delete", "svc/door", "deploy/one", "pvc/ingot")
        office.apply(service("again", **door), claim("again", "gold", "1Gi"), workload("Deployment", "x", replicas=0))
    finally:
        office.cluster.kubectl("delete", "storageclass", "gold", check=False)
