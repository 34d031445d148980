"""The real kubectl against a real process: create, apply, change, delete and wait. No command here needs a kubelet."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from live_server import LiveServer, manifest

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")


# -- create


@pytest.mark.parametrize(
    "arguments",
    [
        "deployment x --image=nginx --replicas=2 --port=80",
        "service clusterip x --tcp=80:8080",
        "service nodeport x --tcp=80",
        "service loadbalancer x --tcp=80",
        "service externalname x --external-name=a.b",
        "configmap x --from-literal=a=b",
        "secret generic x --from-literal=a=b",
        "secret docker-registry x --docker-username=u --docker-password=p",
        "serviceaccount x",
        "job x --image=busybox -- true",
        "cronjob x --image=busybox --schedule=@hourly -- true",
        "ingress x --rule=a.b/c=d:80",
        "role x --verb=get --resource=pods",
        "rolebinding x --role=x --serviceaccount=a:b",
        "quota x --hard=configmaps=9",
        "pdb x --selector=a=b --min-available=1",
    ],
)
def test_create(server: LiveServer, ns: str, arguments: str) -> None:
    assert " created" in server.kubectl("-n", ns, "create", *arguments.split())
    kind = arguments.split(maxsplit=1)[0]
    assert "/x" in server.kubectl("-n", ns, "get", "secret" if kind == "secret" else kind, "x", "-o", "name")


@pytest.mark.parametrize(
    "arguments",
    [
        "clusterrole x1 --verb=get --resource=pods",
        "clusterrolebinding x1 --clusterrole=x --group=g",
        "priorityclass x1 --value=5",
        "namespace x1",
    ],
)
def test_create_for_the_cluster(server: LiveServer, arguments: str) -> None:
    assert " created" in server.kubectl("create", *arguments.split())


@pytest.mark.parametrize("mode", ["server", "client"])
def test_create_dry_run(server: LiveServer, ns: str, mode: str) -> None:
    text = server.kubectl("-n", ns, "create", "deployment", "x", "--image=i", f"--dry-run={mode}", "-o", "yaml")
    assert yaml.safe_load(text)["spec"]["replicas"] == 1
    assert "NotFound" in server.kubectl("-n", ns, "get", "deployment", "x", check=False)


def test_create_file_and_twice(server: LiveServer, ns: str) -> None:
    assert server.kubectl("-n", ns, "create", "-f", "-", stdin=manifest()).count("created") == 3
    again = server.kubectl("-n", ns, "create", "-f", "-", stdin=manifest(), check=False)
    assert 'deployments.apps "web" already exists' in again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("replicas: 2", "replicas: 2\n  bogus: 1"), 'strict decoding error: unknown field "spec.bogus"'),
        (
            ("replicas: 2", "replicas: two"),
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (("name: c,", "nam: c,"), 'unknown field "spec.template.spec.containers[0].nam"'),
        (("replicas: 2", "replicas: -1"), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (("containerPort: 80", "containerPort: 99999"), "must be between 1 and 65535"),
        (("labels: {app: web}}", "labels: {app: other}}"), "`selector` does not match template `labels`"),
        (("name: web,", "name: Web_1,"), "RFC 1123 subdomain"),
    ],
)
def test_bad_manifests_change_nothing(server: LiveServer, ns: str, change: tuple[str, str], message: str) -> None:
    only = manifest().split("---")[0]
    for verb in ("create", "apply"):
        answer = server.kubectl("-n", ns, verb, "-f", "-", stdin=only.replace(*change), check=False)
        assert message in answer
    assert "No resources found" in server.kubectl("-n", ns, "get", "deployments")


def test_create_a_list(server: LiveServer, ns: str) -> None:
    items = [{"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}} for kind in ("ConfigMap", "Secret")]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    assert server.kubectl("-n", ns, "create", "-f", "-", stdin=text).count("created") == 2
    items[0]["bogus"] = "1"
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    assert 'unknown field "bogus"' in server.kubectl("-n", ns, "apply", "-f", "-", stdin=text, check=False)


# -- apply, diff, edit, replace


def test_apply_is_idempotent(server: LiveServer, ns: str) -> None:
    assert server.kubectl("-n", ns, "apply", "-f", "-", stdin=manifest()).count("created") == 3
    assert server.kubectl("-n", ns, "apply", "-f", "-", stdin=manifest()).count("unchanged") == 3
    changed = server.kubectl("-n", ns, "apply", "-f", "-", stdin=manifest(replicas=5))
    assert "deployment.apps/web configured" in changed
    assert changed.count("unchanged") == 2
    assert (
        server.kubectl("-n", ns, "get", "deploy", "web", "-o", "jsonpath={.spec.replicas} {.metadata.generation}")
        == "5 2"
    )


def test_apply_removes_what_was_applied(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "apply", "-f", "-", stdin=manifest())
    server.kubectl("-n", ns, "apply", "-f", "-", stdin=manifest().replace(", env: [{name: A, value: b}]", ""))
    container = json.loads(server.kubectl("-n", ns, "get", "deploy", "web", "-o", "json"))["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert "env" not in container
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]


def test_diff(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "apply", "-f", "-", stdin=manifest())
    version = server.kubectl("-n", ns, "get", "deploy", "web", "-o", "jsonpath={.metadata.resourceVersion}")
    assert server.kubectl("-n", ns, "diff", "-f", "-", stdin=manifest()) == ""
    difference = server.kubectl("-n", ns, "diff", "-f", "-", stdin=manifest(replicas=7), check=False)
    assert "-  replicas: 2" in difference
    assert "+  replicas: 7" in difference
    assert server.kubectl("-n", ns, "get", "deploy", "web", "-o", "jsonpath={.metadata.resourceVersion}") == version


def test_edit(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "apply", "-f", "-", stdin=manifest())
    editor = server.directory / "editor.sh"
    editor.write_text("#!/bin/sh\nsed -i 's/replicas: 2/replicas: 4/' \"$1\"\n")
    editor.chmod(0o755)
    assert "deployment.apps/web edited" in server.kubectl("-n", ns, "edit", "deploy", "web", EDITOR=str(editor))
    assert server.kubectl("-n", ns, "get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "4"
    assert "Edit cancelled" in server.kubectl("-n", ns, "edit", "deploy", "web", EDITOR="true")


def test_replace(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "create", "-f", "-", stdin=manifest())
    assert server.kubectl("-n", ns, "replace", "-f", "-", stdin=manifest(replicas=3)).count("replaced") == 3
    live = server.kubectl("-n", ns, "get", "cm", "web", "-o", "yaml")
    server.kubectl("-n", ns, "label", "cm", "web", "x=y")
    stale = server.kubectl("-n", ns, "replace", "-f", "-", stdin=live, check=False)
    assert "the object has been modified; please apply your changes to the latest version and try again" in stale
    assert "replaced" in server.kubectl("-n", ns, "replace", "--force", "-f", "-", stdin=manifest().split("---")[2])


def test_server_side_apply_says_it_is_missing(server: LiveServer, ns: str) -> None:
    answer = server.kubectl("-n", ns, "apply", "--server-side", "-f", "-", stdin=manifest(), check=False)
    assert "serverside-applied" in answer or "not available on the server" in answer


# -- change


def test_labels_and_annotations(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "create", "configmap", "x")
    assert "labeled" in server.kubectl("-n", ns, "label", "cm", "x", "a=b")
    assert "already has a value" in server.kubectl("-n", ns, "label", "cm", "x", "a=c", check=False)
    server.kubectl("-n", ns, "label", "cm", "x", "a=c", "--overwrite")
    server.kubectl("-n", ns, "annotate", "cm", "x", "n=1", "m=2")
    server.kubectl("-n", ns, "annotate", "cm", "x", "m-")
    answer = server.kubectl("-n", ns, "get", "cm", "x", "-o", "jsonpath={.metadata.labels} {.metadata.annotations}")
    assert answer == '{"a":"c"} {"n":"1"}'
    conflict = server.kubectl("-n", ns, "label", "cm", "x", "z=1", "--resource-version=1", check=False)
    assert "the object has been modified" in conflict


@pytest.mark.parametrize(
    ("kind", "patch", "ports"),
    [
        ("strategic", '{"spec":{"ports":[{"port":81,"name":"b"}]}}', "81 80"),
        ("merge", '{"spec":{"ports":[{"port":81,"name":"b"}]}}', "81"),
        ("json", '[{"op":"add","path":"/spec/ports/-","value":{"port":81,"name":"b"}}]', "80 81"),
    ],
)
def test_patch(server: LiveServer, ns: str, kind: str, patch: str, ports: str) -> None:
    server.kubectl("-n", ns, "create", "service", "clusterip", "x", "--tcp=80")
    assert "patched" in server.kubectl("-n", ns, "patch", "svc", "x", "--type", kind, "-p", patch)
    seen = server.kubectl("-n", ns, "get", "svc", "x", "-o", "jsonpath={.spec.ports[*].port}")
    assert sorted(seen.split()) == sorted(ports.split())
    assert "(no change)" in server.kubectl("-n", ns, "patch", "svc", "x", "--type=merge", "-p", "{}")


def test_patch_status(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "create", "-f", "-", stdin=manifest())
    patch = (
        '{"status":{"replicas":2,"readyReplicas":2,"updatedReplicas":2,"availableReplicas":2,"observedGeneration":1}}'
    )
    server.kubectl("-n", ns, "patch", "deploy", "web", "--subresource=status", "--type=merge", "-p", patch)
    assert re.search(r"web +2/2 +2 +2 ", server.kubectl("-n", ns, "get", "deploy", "web"))
    assert "successfully rolled out" in server.kubectl("-n", ns, "rollout", "status", "deploy/web", "--timeout=5s")


def test_scale(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "create", "-f", "-", stdin=manifest())
    assert "scaled" in server.kubectl("-n", ns, "scale", "deploy/web", "--replicas=6")
    assert "scaled" in server.kubectl("-n", ns, "scale", "deploy/web", "--current-replicas=6", "--replicas=1")
    assert "Expected replicas to be 9, was 1" in server.kubectl(
        "-n", ns, "scale", "deploy/web", "--current-replicas=9", "--replicas=2", check=False
    )
    scale = json.loads(server.kubectl("-n", ns, "get", "deploy", "web", "--subresource=scale", "-o", "json"))
    assert (scale["kind"], scale["spec"]["replicas"], scale["status"]["selector"]) == ("Scale", 1, "app=web")
    assert "autoscaled" in server.kubectl("-n", ns, "autoscale", "deploy", "web", "--max=4")


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        ("set image deploy/web c=nginx:2", "{.spec.template.spec.containers[0].image}", "nginx:2"),
        ("set env deploy/web X=y", "{.spec.template.spec.containers[0].env[1].value}", "y"),
        (
            "set resources deploy web --limits=cpu=200m",
            "{.spec.template.spec.containers[0].resources.limits.cpu}",
            "200m",
        ),
        ("set serviceaccount deploy web sa1", "{.spec.template.spec.serviceAccountName}", "sa1"),
        ("rollout pause deploy/web", "{.spec.paused}", "true"),
    ],
)
def test_set_and_pause(server: LiveServer, ns: str, arguments: str, path: str, value: str) -> None:
    server.kubectl("-n", ns, "create", "-f", "-", stdin=manifest())
    server.kubectl("-n", ns, *arguments.split())
    assert server.kubectl("-n", ns, "get", "deploy", "web", "-o", f"jsonpath={path}") == value
    assert server.kubectl("-n", ns, "get", "deploy", "web", "-o", "jsonpath={.metadata.generation}") == "2"


def test_rollout_restart(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "create", "-f", "-", stdin=manifest())
    assert "restarted" in server.kubectl("-n", ns, "rollout", "restart", "deploy/web")
    assert "restartedAt" in server.kubectl("-n", ns, "get", "deploy", "web", "-o", "yaml")
    assert "No rollout history found" in server.kubectl("-n", ns, "rollout", "history", "deploy/web")


def test_rollout_history_and_undo(server: LiveServer, ns: str) -> None:
    """With two ReplicaSets as the deployment controller leaves them."""
    server.kubectl("-n", ns, "create", "-f", "-", stdin=manifest())
    deployment = json.loads(server.kubectl("-n", ns, "get", "deploy", "web", "-o", "json"))
    for revision, image in (("1", "nginx:0"), ("2", "nginx:1")):
        template = json.loads(json.dumps(deployment["spec"]["template"]))
        template["spec"]["containers"][0]["image"] = image
        template["metadata"]["labels"]["pod-template-hash"] = f"h{revision}"
        owner = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "web",
            "uid": deployment["metadata"]["uid"],
            "controller": True,
        }
        replica_set = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"web-{revision}",
                "labels": {"app": "web", "pod-template-hash": f"h{revision}"},
                "annotations": {"deployment.kubernetes.io/revision": revision},
                "ownerReferences": [owner],
            },
            "spec": {
                "selector": {"matchLabels": {"app": "web", "pod-template-hash": f"h{revision}"}},
                "template": template,
            },
        }
        server.kubectl("-n", ns, "create", "-f", "-", stdin=json.dumps(replica_set))
    server.kubectl("-n", ns, "annotate", "deploy", "web", "deployment.kubernetes.io/revision=2")
    assert re.search(r"1 .*\n2 ", server.kubectl("-n", ns, "rollout", "history", "deploy/web"))
    assert "nginx:0" in server.kubectl("-n", ns, "rollout", "history", "deploy/web", "--revision=1")
    assert "rolled back" in server.kubectl("-n", ns, "rollout", "undo", "deploy/web")
    image = server.kubectl("-n", ns, "get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    assert image == "nginx:0"


def test_expose(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "create", "deployment", "x", "--image=i", "--port=8080")
    assert "exposed" in server.kubectl(
        "-n", ns, "expose", "deploy", "x", "--port=80", "--target-port=8080", "--type=NodePort"
    )
    service = json.loads(server.kubectl("-n", ns, "get", "svc", "x", "-o", "json"))["spec"]
    assert service["clusterIP"].startswith("10.96.")
    assert 30000 <= service["ports"][0]["nodePort"] <= 32767
    assert service["selector"] == {"app": "x"}


def test_node_ports_are_not_given_twice(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "create", "service", "nodeport", "a", "--tcp=80", "--node-port=31999")
    answer = server.kubectl(
        "-n", ns, "create", "service", "nodeport", "b", "--tcp=80", "--node-port=31999", check=False
    )
    assert "spec.ports[0].nodePort: Invalid value: 31999: provided port is already allocated" in answer


def test_nodes_taint_cordon(server: LiveServer) -> None:
    server.kubectl("create", "-f", "-", stdin="apiVersion: v1\nkind: Node\nmetadata: {name: n1}")
    assert "tainted" in server.kubectl("taint", "node", "n1", "a=b:NoSchedule")
    assert "cordoned" in server.kubectl("cordon", "n1")
    assert "SchedulingDisabled" in server.kubectl("get", "nodes")
    assert "drained" in server.kubectl("drain", "n1")
    assert "Taints: " in server.kubectl("describe", "node", "n1")
    server.kubectl("delete", "node", "n1")


# -- delete and wait


def test_delete_and_wait(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "create", "-f", "-", stdin=manifest())
    assert server.kubectl("-n", ns, "delete", "-f", "-", stdin=manifest()).count("deleted") == 3
    server.kubectl("-n", ns, "wait", "--for=delete", "deploy/web", "--timeout=5s")
    for name in "ab":
        server.kubectl("-n", ns, "create", "cm", name)
        server.kubectl("-n", ns, "label", "cm", name, "x=y")
    assert server.kubectl("-n", ns, "delete", "cm", "-l", "x=y").count("deleted") == 2
    assert "NotFound" in server.kubectl("-n", ns, "delete", "cm", "a", check=False)
    assert server.kubectl("-n", ns, "delete", "cm", "a", "--ignore-not-found") == ""


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_cascade_leaves_the_right_finalizer(server: LiveServer, ns: str, cascade: str) -> None:
    server.kubectl("-n", ns, "create", "deployment", "x", "--image=i")
    server.kubectl("-n", ns, "delete", "deploy", "x", f"--cascade={cascade}", "--wait=false")
    found = server.kubectl(
        "-n", ns, "get", "deploy", "x", "-o", "jsonpath={.metadata.finalizers}", "--ignore-not-found"
    )
    assert found == {"background": "", "foreground": '["foregroundDeletion"]', "orphan": '["orphan"]'}[cascade]


def test_force(server: LiveServer, ns: str) -> None:
    server.kubectl(
        "-n",
        ns,
        "create",
        "-f",
        "-",
        stdin="apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: n1, containers: [{name: c, image: i}]}",
    )
    server.kubectl("-n", ns, "delete", "pod", "p", "--wait=false")
    assert "Terminating" in server.kubectl("-n", ns, "get", "pod", "p")
    server.kubectl("-n", ns, "delete", "pod", "p", "--force", "--grace-period=0")
    assert "NotFound" in server.kubectl("-n", ns, "get", "pod", "p", check=False)


def test_wait_for_a_condition(server: LiveServer, ns: str) -> None:
    server.kubectl("-n", ns, "run", "p", "--image=i")
    assert "timed out" in server.kubectl(
        "-n", ns, "wait", "--for=condition=Ready", "pod/p", "--timeout=1s", check=False
    )
    server.kubectl(
        "-n",
        ns,
        "patch",
        "pod",
        "p",
        "--subresource=status",
        "--type=merge",
        "-p",
        '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}',
    )
    assert "condition met" in server.kubectl("-n", ns, "wait", "--for=condition=Ready", "pod/p", "--timeout=5s")
    assert "condition met" in server.kubectl(
        "-n", ns, "wait", "--for=jsonpath={.status.phase}=Pending", "pod/p", "--timeout=5s"
    )
    assert "condition met" in server.kubectl("-n", ns, "wait", "--for=create", "pod/p", "--timeout=5s")


def test_kustomize(server: LiveServer, ns: str) -> None:
    folder = server.directory / "kustomize"
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text("resources: [d.yaml]\nnamePrefix: k-\n")
    (folder / "d.yaml").write_text(manifest())
    assert "deployment.apps/k-web created" in server.kubectl("-n", ns, "apply", "-k", str(folder))
