"""Storage on a booted cluster, with the real kubectl: claims, volumes, classes, and data that stays."""

from __future__ import annotations

import json

import pytest

WORKERS = ("worker-1", "worker-2")


@pytest.fixture(scope="module")
def cluster(boot_cluster):
    """A cluster of this file's own: it is stopped and started again at the end."""
    return boot_cluster()


def claim(name, storage_class=None, size="1Gi", modes="ReadWriteOnce", **spec):
    body = {"accessModes": modes.split(), "resources": {"requests": {"storage": size}}, **spec}
    if storage_class is not None:
        body["storageClassName"] = storage_class
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": body}


def pod(name, volumes, command="sleep 100000", mounts=None, **spec):
    """A pod with each volume under /NAME."""
    mounts = mounts or [{"name": volume["name"], "mountPath": "/" + volume["name"]} for volume in volumes]
    container = {"name": "c", "image": "busybox", "command": ["sh", "-c", command], "volumeMounts": mounts}
    body = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def of_claim(name, claim_name, **more):
    return {"name": name, "persistentVolumeClaim": {"claimName": claim_name, **more}}


def storage_class(name, **fields):
    metadata = {"name": name}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": metadata,
        "provisioner": "podnet.dev/local-path",
        **fields,
    }


def create(cluster, namespace, *objects):
    items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    cluster.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(items))


def refused(cluster, namespace, obj):
    result = cluster.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(obj), check=False)
    assert result.returncode != 0
    return result.stderr


def wait_ready(cluster, namespace, *pods):
    cluster.kubectl(
        "wait", "-n", namespace, "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in pods)
    )


def wait_phase(cluster, namespace, target, phase):
    def reached():
        return (
            cluster.kubectl("get", "-n", namespace, target, "-o", "jsonpath={.status.phase}", check=False).stdout
            == phase
        )

    cluster.wait(reached, f"{target} {phase}", 60)


def wait_event(cluster, namespace, reason, text, name):
    def told():
        events = cluster.kubectl_json(
            "get", "events", "-n", namespace, "--field-selector", f"involvedObject.name={name}"
        )
        return [e for e in events["items"] if e["reason"] == reason and text in e["message"]]

    return cluster.wait(told, f"event {reason} of {name}: {text}", 60)[0]


def wait_gone(cluster, namespace, target):
    cluster.wait(lambda: cluster.kubectl("get", "-n", namespace, target, check=False).returncode, f"{target} gone", 60)


def sh(cluster, namespace, name, command):
    return cluster.kubectl("exec", "-n", namespace, name, "--", "sh", "-c", command).stdout


def test_the_cluster_is_born_with_a_default_class(cluster):
    rows = cluster.kubectl("get", "storageclass", "--no-headers").stdout.split()
    assert rows[:6] == ["standard", "(default)", "podnet.dev/local-path", "Delete", "WaitForFirstConsumer", "true"]


def test_a_claim_waits_for_its_pod_and_its_data_goes_with_it(cluster, namespace):
    create(cluster, namespace, claim("data"))
    wait_event(
        cluster, namespace, "WaitForFirstConsumer", "waiting for first consumer to be created before binding", "data"
    )
    assert cluster.kubectl_json("get", "pvc", "data", "-n", namespace)["spec"]["storageClassName"] == "standard"
    create(
        cluster,
        namespace,
        pod("p", [of_claim("v", "data"), of_claim("ro", "data", readOnly=True)], "echo kept > /v/file; sleep 100000"),
    )
    wait_ready(cluster, namespace, "p")
    bound = cluster.kubectl_json("get", "pvc", "data", "-n", namespace)
    assert (bound["status"]["phase"], bound["status"]["capacity"]) == ("Bound", {"storage": "1Gi"})
    name, uid = bound["spec"]["volumeName"], bound["metadata"]["uid"]
    assert name == f"pvc-{uid}"
    node = cluster.kubectl_json("get", "pod", "p", "-n", namespace)["spec"]["nodeName"]
    assert bound["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == node
    volume = cluster.kubectl_json("get", "pv", name)
    assert volume["spec"]["claimRef"]["uid"] == uid
    directory = cluster.state / "nodes" / node / "volumes" / name
    cluster.wait((directory / "file").exists, "the pod has written")
    assert (
        "Read-only file system"
        in cluster.kubectl("exec", "-n", namespace, "p", "--", "touch", "/ro/x", check=False).stderr
    )
    wait_event(cluster, namespace, "ProvisioningSucceeded", name, "data")
    # Protection: it goes when its pod has gone, and then its volume and its directory do.
    cluster.kubectl("delete", "pvc", "data", "-n", namespace, "--wait=false")
    assert cluster.kubectl("get", "pvc", "data", "-n", namespace, "--no-headers").stdout.split()[1] == "Terminating"
    cluster.kubectl("delete", "pod", "p", "-n", namespace)
    wait_gone(cluster, namespace, "pvc/data")
    wait_gone(cluster, namespace, f"pv/{name}")
    assert not directory.exists()


def test_why_a_pod_does_not_get_a_node(cluster, namespace):
    create(
        cluster,
        namespace,
        claim("unbound", ""),
        pod("unbound", [of_claim("v", "unbound")]),
        pod("missing", [of_claim("v", "nix")]),
    )
    for name, why in (
        ("unbound", "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption:"),
        ("missing", '0/3 nodes are available: persistentvolumeclaim "nix" not found. preemption:'),
    ):
        wait_event(cluster, namespace, "FailedScheduling", why, name)
    wait_event(
        cluster,
        namespace,
        "FailedBinding",
        "no persistent volumes available for this claim and no storage class",
        "unbound",
    )


def test_an_administrators_volumes(cluster, namespace):
    """Selector, node affinity, Retain, and a volume that is given on by hand."""
    path = cluster.home / "given"
    metadata = {"name": namespace, "labels": {"for": namespace}}
    required = {
        "nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["worker-2"]}]}
        ]
    }
    spec = {
        "capacity": {"storage": "5Gi"},
        "accessModes": ["ReadWriteMany"],
        "hostPath": {"path": str(path), "type": "DirectoryOrCreate"},
    }
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": metadata,
        "spec": spec | {"nodeAffinity": {"required": required}},
    }
    selector = {"matchLabels": {"for": namespace}}
    create(cluster, namespace, volume, claim("own", "", "2Gi", "ReadWriteMany", selector=selector))
    wait_phase(cluster, namespace, "pvc/own", "Bound")
    mounts = [{"name": "v", "mountPath": "/v", "subPath": "part"}]
    create(cluster, namespace, pod("p", [of_claim("v", "own")], "echo here > /v/file; sleep 100000", mounts))
    create(
        cluster, namespace, pod("other", [of_claim("v", "own")], nodeSelector={"kubernetes.io/hostname": "worker-1"})
    )
    wait_ready(cluster, namespace, "p")
    assert cluster.kubectl_json("get", "pod", "p", "-n", namespace)["spec"]["nodeName"] == "worker-2"
    wait_event(cluster, namespace, "FailedScheduling", "1 node(s) had volume node affinity conflict", "other")
    cluster.kubectl("delete", "pod", "p", "other", "-n", namespace)
    cluster.kubectl("delete", "pvc", "own", "-n", namespace)
    wait_phase(cluster, namespace, f"pv/{namespace}", "Released")
    cluster.kubectl("patch", "pv", namespace, "--type=merge", "-p", '{"spec":{"claimRef":null}}')
    wait_phase(cluster, namespace, f"pv/{namespace}", "Available")
    assert (path / "part" / "file").read_text() == "here\n"
    cluster.kubectl("delete", "pv", namespace)


def test_claims_grow_and_never_shrink(cluster, namespace):
    create(
        cluster,
        namespace,
        storage_class(namespace, allowVolumeExpansion=True, volumeBindingMode="Immediate"),
        claim("data", namespace),
    )
    wait_phase(cluster, namespace, "pvc/data", "Bound")

    def resize(size):
        patch = json.dumps({"spec": {"resources": {"requests": {"storage": size}}}})
        return cluster.kubectl("patch", "pvc", "data", "-n", namespace, "-p", patch, check=False).stderr

    assert resize("3Gi") == ""
    capacity = "jsonpath={.status.capacity.storage}"
    cluster.wait(
        lambda: cluster.kubectl("get", "pvc", "data", "-n", namespace, "-o", capacity).stdout == "3Gi", "it grows"
    )
    wait_event(cluster, namespace, "VolumeResizeSuccessful", "Resize volume succeeded", "data")
    assert "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity" in resize("1Gi")
    cluster.kubectl("patch", "storageclass", namespace, "-p", '{"allowVolumeExpansion":false}')
    assert "the storageclass that provisions the pvc must support resize" in resize("9Gi")
    patch = '{"spec":{"accessModes":["ReadWriteMany"]}}'
    assert (
        "spec: Forbidden: spec is immutable after creation"
        in cluster.kubectl("patch", "pvc", "data", "-n", namespace, "-p", patch, check=False).stderr
    )
    cluster.kubectl("delete", "storageclass", namespace)


def test_one_pod_only(cluster, namespace):
    create(cluster, namespace, claim("single", modes="ReadWriteOncePod"), pod("first", [of_claim("v", "single")]))
    wait_ready(cluster, namespace, "first")
    create(cluster, namespace, pod("second", [of_claim("v", "single")]))
    wait_event(
        cluster,
        namespace,
        "FailedScheduling",
        "2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod",
        "second",
    )
    cluster.kubectl("delete", "pod", "first", "-n", namespace)
    wait_ready(cluster, namespace, "second")


def test_a_provisioner_that_fails_leaves_nothing_half_made(cluster, namespace):
    roots = [cluster.state / "nodes" / node / "volumes" for node in WORKERS]
    for root in roots:
        if root.exists():
            root.rename(root.with_name("volumes-aside"))
        root.write_text("in the way")
    create(cluster, namespace, claim("data"), pod("p", [of_claim("v", "data")]))
    wait_event(
        cluster, namespace, "ProvisioningFailed", 'failed to provision volume with StorageClass "standard"', "data"
    )
    wait_phase(cluster, namespace, "pvc/data", "Pending")
    assert not [
        v for v in cluster.kubectl_json("get", "pv")["items"] if v["spec"]["claimRef"]["namespace"] == namespace
    ]
    for root in roots:
        root.unlink()
        root.mkdir(exist_ok=True)  # the provisioner may try again at any time
        aside = root.with_name("volumes-aside")
        for entry in aside.iterdir() if aside.exists() else ():
            entry.rename(root / entry.name)
    wait_ready(cluster, namespace, "p")


def test_a_full_disk_keeps_the_claim_waiting_until_there_is_room(cluster, namespace):
    """The disk of the node's volumes is a small one, for once, and something has filled it."""
    root = cluster.state / "nodes" / "worker-1" / "volumes"
    fill = f"mkdir -p {root} && mount -t tmpfs -o size=2m tmpfs {root} && head -c 4m /dev/zero > {root}/filler"
    cluster.exec("node/worker-1", "sh", "-c", fill, check=False)
    here = {"nodeSelector": {"kubernetes.io/hostname": "worker-1"}}
    try:
        create(cluster, namespace, claim("data"), pod("p", [of_claim("v", "data")], **here))
        told = wait_event(cluster, namespace, "ProvisioningFailed", "no space left on device", "data")
        assert told["message"].startswith(f'failed to provision volume with StorageClass "standard": {root}/pvc-')
        wait_phase(cluster, namespace, "pvc/data", "Pending")
        assert "ProvisioningFailed" in cluster.kubectl("describe", "pvc", "data", "-n", namespace).stdout
        assert cluster.kubectl("get", "pod", "p", "-n", namespace, "--no-headers").stdout.split()[2] == "Pending"
        bound_to = [v["spec"]["claimRef"] for v in cluster.kubectl_json("get", "pv")["items"]]
        assert namespace not in {reference["namespace"] for reference in bound_to}
        assert cluster.exec("node/worker-1", "ls", "-A", str(root)).stdout.split() == ["filler"]
        cluster.exec("node/worker-1", "rm", f"{root}/filler")
        wait_ready(cluster, namespace, "p")
        wait_phase(cluster, namespace, "pvc/data", "Bound")
        cluster.kubectl("delete", "pod,pvc", "--all", "-n", namespace)
        cluster.wait(lambda: not cluster.exec("node/worker-1", "ls", "-A", str(root)).stdout, "nothing is left", 60)
    finally:
        cluster.exec("node/worker-1", "umount", "-l", str(root), check=False)


def test_binding_survives_whoever_is_killed(cluster, namespace):
    """Scheduler, binder and provisioners die while eight claims are being bound; all come to rest, each with its own."""
    names = [f"p{number}" for number in range(8)]
    for name in names:
        create(
            cluster, namespace, claim(name), pod(name, [of_claim("v", name)], f"echo {name} > /v/name; sleep 100000")
        )
        if name in {"p2", "p5"}:
            running = [c["pid"] for c in cluster.status()["components"] if c["name"] != "kube-apiserver" and c["pid"]]
            cluster.exec("node/control-plane", "kill", "-9", *map(str, running), check=False)
    wait_ready(cluster, namespace, *names)
    bound = cluster.kubectl_json("get", "pvc", "-n", namespace)["items"]
    uids = {item["metadata"]["uid"] for item in bound}
    assert {item["spec"]["volumeName"] for item in bound} == {f"pvc-{uid}" for uid in uids}
    made = [
        item
        for item in cluster.kubectl_json("get", "pv")["items"]
        if item["spec"]["claimRef"]["namespace"] == namespace
    ]
    assert {item["spec"]["claimRef"]["uid"] for item in made} == uids
    assert [sh(cluster, namespace, name, "cat /v/name").strip() for name in names] == names
    cluster.kubectl("delete", "pod,pvc", "--all", "-n", namespace)
    paths = [cluster.state / "nodes" / node / "volumes" / f"pvc-{uid}" for node in WORKERS for uid in uids]
    cluster.wait(lambda: not any(path.exists() for path in paths), "no directory is left", 60)


def test_what_no_directory_can_be(cluster, namespace):
    create(cluster, namespace, storage_class(namespace, volumeBindingMode="Immediate"))
    create(
        cluster,
        namespace,
        claim("block", namespace, volumeMode="Block"),
        claim("shared", namespace, modes="ReadWriteMany"),
    )
    wait_event(cluster, namespace, "ProvisioningFailed", "does not support block volume provisioning", "block")
    wait_event(
        cluster, namespace, "ProvisioningFailed", "only ReadWriteOnce and ReadWriteOncePod access modes", "shared"
    )
    create(cluster, namespace, claim("nix", "nowhere"))
    wait_event(cluster, namespace, "ProvisioningFailed", 'storageclass.storage.k8s.io "nowhere" not found', "nix")
    assert "spec.accessModes: Required value: at least 1 access mode is required" in refused(
        cluster, namespace, claim("bad", modes="")
    )
    assert "spec.resources[storage]: Invalid value" in refused(cluster, namespace, claim("bad", size="0"))
    cluster.kubectl("delete", "storageclass", namespace)


def test_an_ephemeral_volume_is_its_pods_own(cluster, namespace):
    spec = claim("x")["spec"]
    template = {"metadata": {"labels": {"kind": "scratch"}}, "spec": spec}
    create(
        cluster,
        namespace,
        pod("p", [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}], "touch /v/x; sleep 100000"),
    )
    wait_ready(cluster, namespace, "p")
    made = cluster.kubectl_json("get", "pvc", "p-v", "-n", namespace)
    assert made["metadata"]["labels"] == {"kind": "scratch"}
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Pod"
    cluster.kubectl("delete", "pod", "p", "-n", namespace)
    wait_gone(cluster, namespace, "pvc/p-v")
    wait_gone(cluster, namespace, f"pv/{made['spec']['volumeName']}")


def test_scratch_space_and_places_of_the_machine(cluster, namespace):
    missing = str(cluster.home / "missing")
    memory = {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    made = {"name": "made", "hostPath": {"path": str(cluster.home / "made"), "type": "DirectoryOrCreate"}}
    create(cluster, namespace, pod("p", [memory, made], "echo x > /made/x; sleep 100000"))
    create(cluster, namespace, pod("bad", [{"name": "f", "hostPath": {"path": missing, "type": "File"}}]))
    wait_ready(cluster, namespace, "p")
    assert "tmpfs" in sh(cluster, namespace, "p", "grep ' /mem ' /proc/mounts")
    full = cluster.kubectl(
        "exec", "-n", namespace, "p", "--", "sh", "-c", "head -c 2000000 /dev/zero > /mem/big", check=False
    )
    assert "No space left on device" in full.stderr
    cluster.wait((cluster.home / "made" / "x").exists, "the hostPath is the machine's")
    wait_event(cluster, namespace, "FailedMount", f"hostPath type check failed: {missing} is not a file", "bad")


def test_configuration_volumes(cluster, namespace):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": "1", "b": "2"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec"}, "stringData": {"key": "s3cret"}}
    fixed = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "fixed"},
        "data": {"a": "1"},
        "immutable": True,
    }
    create(cluster, namespace, config, secret, fixed)
    items = [{"key": "a", "path": "deep/first", "mode": 0o440}]
    labels = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    sources = [
        {"configMap": {"name": "conf", "items": items}},
        {"secret": {"name": "sec"}},
        {"downwardAPI": {"items": labels}},
        {"serviceAccountToken": {"path": "token", "audience": "me"}},
    ]
    volumes = [
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "sec", "secret": {"secretName": "sec", "defaultMode": 0o400}},
        {"name": "all", "projected": {"sources": sources}},
        {"name": "none", "configMap": {"name": "nix", "optional": True}},
    ]
    mounts = [{"name": volume["name"], "mountPath": "/" + volume["name"]} for volume in volumes]
    mounts.append({"name": "conf", "mountPath": "/one/file", "subPath": "a"})
    create(
        cluster, namespace, pod("p", volumes, mounts=mounts) | {"metadata": {"name": "p", "labels": {"colour": "red"}}}
    )
    wait_ready(cluster, namespace, "p")
    seen = "cat /conf/a /conf/b /one/file /sec/key /all/deep/first; ls /none; stat -L -c %a /all/deep/first /sec/key; cat /all/labels; wc -c < /all/token; touch /conf/x 2>&1 || true"
    text = sh(cluster, namespace, "p", seen)
    assert text.startswith("121s3cret1440\n400\n")
    assert 'colour="red"' in text
    assert "Read-only file system" in text
    cluster.kubectl("patch", "configmap", "conf", "-n", namespace, "-p", '{"data":{"a":"9","c":"3","b":null}}')
    cluster.kubectl("label", "pod", "p", "-n", namespace, "colour=blue", "--overwrite")
    # All of the new files at once, none of the old; a subPath keeps what it was mounted with.
    cluster.wait(
        lambda: sh(cluster, namespace, "p", "cat /conf/a; ls /conf; cat /one/file") == "9a\nc\n1", "the update arrives"
    )
    cluster.wait(lambda: "blue" in sh(cluster, namespace, "p", "cat /all/labels"), "the label arrives")
    changed = cluster.kubectl("patch", "configmap", "fixed", "-n", namespace, "-p", '{"data":{"a":"2"}}', check=False)
    assert "field is immutable when `immutable` is set" in changed.stderr


def test_storage_quota(cluster, namespace):
    hard = "requests.storage=2Gi,standard.storageclass.storage.k8s.io/persistentvolumeclaims=1"
    cluster.kubectl("create", "quota", "q", "-n", namespace, f"--hard={hard}")
    assert "exceeded quota: q, requested: requests.storage=3Gi" in refused(cluster, namespace, claim("big", size="3Gi"))
    create(cluster, namespace, claim("one"))
    assert "standard.storageclass.storage.k8s.io/persistentvolumeclaims=1" in refused(cluster, namespace, claim("two"))


STATEFUL = """
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  persistentVolumeClaimRetentionPolicy: {whenScaled: Delete, whenDeleted: Retain}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: busybox
        command: [sh, -c, "echo $(hostname) >> /data/log; sleep 100000"]
        volumeMounts: [{name: data, mountPath: /data}, {name: tmp, mountPath: /mem}]
      volumes: [{name: tmp, emptyDir: {medium: Memory}}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""


def test_a_stateful_sets_data_outlives_pods_and_the_cluster(cluster):
    """The last test: it stops the cluster and starts it again."""
    cluster.apply(STATEFUL)

    def rolled_out():
        cluster.kubectl("rollout", "status", "statefulset/db", "--timeout=90s")

    def log(name):
        return sh(cluster, "default", name, "cat /data/log").split()

    def place(name):
        return cluster.kubectl_json("get", "pod", name)["spec"]["nodeName"]

    rolled_out()
    homes = {name: place(name) for name in ("db-0", "db-1")}
    assert set(homes.values()) == set(WORKERS)
    # The node of its volume is cordoned: the pod waits for it and goes nowhere else.
    cluster.kubectl("cordon", homes["db-1"])
    cluster.kubectl("delete", "pod", "db-1")
    wait_event(cluster, "default", "FailedScheduling", "1 node(s) had volume node affinity conflict", "db-1")
    cluster.kubectl("uncordon", homes["db-1"])
    rolled_out()
    assert place("db-1") == homes["db-1"]
    assert log("db-1") == ["db-1", "db-1"]
    sh(cluster, "default", "db-0", "touch /mem/x")
    uid = cluster.kubectl_json("get", "pvc", "data-db-0")["metadata"]["uid"]
    cluster.podnet("down", "-c", cluster.name)
    cluster.up()
    rolled_out()
    cluster.wait(lambda: log("db-0") == ["db-0", "db-0"], "db-0 runs again on its data", 60)
    assert cluster.kubectl_json("get", "pvc", "data-db-0")["metadata"]["uid"] == uid
    assert sh(cluster, "default", "db-0", "ls /mem") == ""
    cluster.kubectl("scale", "statefulset/db", "--replicas=1")
    wait_gone(cluster, "default", "pvc/data-db-1")
    cluster.kubectl("delete", "statefulset", "db")
    wait_gone(cluster, "default", "pod/db-0")
    assert cluster.kubectl_json("get", "pvc", "data-db-0")["status"]["phase"] == "Bound"
