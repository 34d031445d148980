"""Client libraries against a booted cluster: what programs do, with pods that really run behind it.

Each runs in a process of its own, as a program would: it reads the kubeconfig once and keeps it.
"""

from __future__ import annotations

import pytest

POD = """
apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {name: main, image: busybox, command: [sh, -c, "echo one; echo two; exec sleep infinity"]}
    - {name: other, image: busybox, command: [sleep, infinity]}
"""

KUBERNETES = """
import os, sys
from kubernetes import client, config, watch
from kubernetes.stream import stream
namespace = sys.argv[1]
config.load_kube_config(os.environ["KUBECONFIG"])
core, apps = client.CoreV1Api(), client.AppsV1Api()

assert all(c.status == "True" for node in core.list_node().items for c in node.status.conditions if c.type == "Ready")

template = {"metadata": {"labels": {"app": "d"}}, "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "pause"}]}}
body = {"metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "d"}}, "template": template}}
apps.create_namespaced_deployment(namespace, body, field_manager="program")
seen = watch.Watch()
for event in seen.stream(apps.list_namespaced_deployment, namespace, timeout_seconds=60):
    if (event["object"].status.available_replicas or 0) == 1:
        seen.stop()
assert apps.patch_namespaced_deployment_scale("d", namespace, {"spec": {"replicas": 2}}).spec.replicas == 2
for event in seen.stream(core.list_namespaced_pod, namespace, label_selector="app=d", timeout_seconds=60):
    pods = core.list_namespaced_pod(namespace, label_selector="app=d").items
    if len(pods) == 2 and all(c.ready for pod in pods for c in pod.status.container_statuses or ()):
        seen.stop()
assert apps.read_namespaced_deployment_scale("d", namespace).status.selector == "app=d"

def run(*command, **more):
    return stream(core.connect_get_namespaced_pod_exec, "box", namespace, command=list(command), container="main",
                  stdout=True, stderr=True, stdin=False, tty=False, **more)
assert run("sh", "-c", "echo out; echo err >&2") in ("out\\nerr\\n", "err\\nout\\n")
talk = stream(core.connect_get_namespaced_pod_exec, "box", namespace, command=["sh"], container="main", stdin=True,
              stdout=True, stderr=True, tty=False, _preload_content=False)
talk.write_stdin("echo $((6 * 7))\\n")
assert talk.readline_stdout(timeout=20) == "42"
talk.write_stdin("exit 3\\n")
talk.run_forever(timeout=20)
assert talk.returncode == 3, talk.returncode

assert core.read_namespaced_pod_log("box", namespace, container="main") == "one\\ntwo\\n"
follow = watch.Watch()
lines = []
for line in follow.stream(core.read_namespaced_pod_log, "box", namespace, container="main"):
    lines.append(line)
    if len(lines) == 2:
        follow.stop()
        break
assert lines == ["one", "two"], lines
apps.delete_namespaced_deployment("d", namespace, propagation_policy="Foreground")
for event in seen.stream(apps.list_namespaced_deployment, namespace, timeout_seconds=60):
    if event["type"] == "DELETED":
        seen.stop()
assert not core.list_namespaced_pod(namespace, label_selector="app=d").items
assert 'kubelet_node_name{node="worker-1"} 1' in core.connect_get_node_proxy_with_path("worker-1", "metrics")
print("ok")
"""

LIGHTKUBE = """
import faulthandler, os, sys
faulthandler.dump_traceback_later(90, exit=True)  # where it hangs, if it does
from lightkube import ApiError, Client, KubeConfig
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Node, Pod
namespace = sys.argv[1]
client = Client(config=KubeConfig.from_file(os.environ["KUBECONFIG"]), namespace=namespace, field_manager="light")

for node in client.list(Node):
    client.wait(Node, node.metadata.name, for_conditions=["Ready"])
labels = {"app": "l"}
spec = DeploymentSpec(replicas=1, selector=LabelSelector(matchLabels=labels), template=PodTemplateSpec(
    metadata=ObjectMeta(labels=labels),
    spec=PodSpec(containers=[Container(name="c", image="pause")], terminationGracePeriodSeconds=0)))
deployment = Deployment(metadata=ObjectMeta(name="l", namespace=namespace), spec=spec)
made = client.apply(deployment)
assert made.metadata.managedFields[0].manager == "light", made.metadata.managedFields
client.wait(Deployment, "l", for_conditions=["Available"])
scale = Deployment.Scale
changed = client.patch(scale, "l", {"spec": {"replicas": 0}})
assert not changed.spec.replicas  # a zero is not written
# From the change on: without a version the watch begins with what is there, and the pod may be gone by then.
for operation, pod in client.watch(Pod, labels=labels, server_timeout=60, resource_version=changed.metadata.resourceVersion):
    if operation == "DELETED":
        break

assert list(client.log("box", container="main", newlines=False)) == ["one", "two"]
following = client.log("box", container="main", follow=True)
assert next(following) == "one\\n"
following.close()

client.create(ConfigMap(metadata=ObjectMeta(name="m", namespace=namespace), data={"a": "b"}), dry_run=True)
try:
    client.get(ConfigMap, "m")
except ApiError as error:
    assert (error.status.code, error.status.reason) == (404, "NotFound")
client.deletecollection(ConfigMap)
client.delete(Deployment, "l")

print("ok", flush=True)
"""


# No exec in lightkube's: its WebSocket over TLS, with one thread that reads and another that writes, broke in four of some
# twenty runs. Exec is asked of the `kubernetes` client above, and of kubectl in test_streams.py.


@pytest.fixture(scope="module")
def box(cluster):
    """A namespace with a running pod `box` of two containers."""
    cluster.kubectl("create", "namespace", "clients")
    cluster.kubectl("-n", "clients", "apply", "-f", "-", input=POD)
    cluster.kubectl("-n", "clients", "wait", "--for=condition=Ready", "pod/box", "--timeout=60s")
    yield "clients"
    cluster.kubectl("delete", "namespace", "clients", "--wait=false", check=False)


@pytest.mark.parametrize("program", [KUBERNETES, LIGHTKUBE], ids=["kubernetes", "lightkube"])
def test_a_program(cluster, box, program):
    result = cluster.python(program, box)
    assert result.stdout == "ok\n", result.stderr
