"""A rolling update under load loses no request, seen from a pod and from outside the cluster."""

from __future__ import annotations

import json

import pytest

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: web
        image: agnhost
        args: [netexec, --http-port=8080]
        env: [{name: VERSION, value: "1"}]
        readinessProbe: {httpGet: {path: /hostname, port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 2}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"""

# A new connection for each request; ends when its standard input does, and then says how it went.
CLIENT = """
import http.client, json, select, sys
good, bad = {}, []
while not select.select([sys.stdin], [], [], 0.005)[0]:
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
    try:
        connection.request("GET", "/hostname")
        answer = connection.getresponse()
        name = answer.read().decode()
        if answer.status != 200:
            raise OSError(answer.status)
        good[name] = good.get(name, 0) + 1
        if sum(good.values()) == 1:
            print("begun", flush=True)
    except (OSError, http.client.HTTPException) as error:
        bad.append(repr(error))
    finally:
        connection.close()
print(json.dumps({"good": good, "bad": bad}))
"""


@pytest.fixture
def web(cluster, namespace):
    cluster.kubectl("apply", "-n", namespace, "-f", "-", input=MANIFEST)
    cluster.kubectl("run", "-n", namespace, "client", "--image=python", "--command", "--", "sleep", "3600")
    cluster.kubectl("rollout", "status", "-n", namespace, "deploy/web", "--timeout=90s")
    cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/client", "--timeout=60s")
    return cluster.kubectl_json("get", "service", "web", "-n", namespace)["spec"]


@pytest.mark.parametrize("where", ["pod", "outside"])
def test_a_rolling_update_under_load_loses_no_request(cluster, namespace, web, where, start_in_room):
    if where == "pod":
        target, address, port = f"pod/{namespace}/client", web["clusterIP"], 80
    else:
        target, address, port = "host/client", "192.168.100.11", web["ports"][0]["nodePort"]
    client = start_in_room(cluster, target, "python3", "-c", CLIENT, address, str(port))
    assert client.stdout.readline() == "begun\n", "the load is there before anything changes"
    before = pods(cluster, namespace)
    cluster.kubectl("set", "env", "-n", namespace, "deploy/web", "VERSION=2")
    cluster.kubectl("rollout", "status", "-n", namespace, "deploy/web", "--timeout=120s")
    cluster.wait(lambda: not before & pods(cluster, namespace), "the old pods are gone", 60)
    said, errors = client.communicate("enough\n", timeout=30)
    result = json.loads(said or "null")
    assert result is not None, errors
    assert result["bad"] == []
    answered = set(result["good"])
    assert answered & before, "the old version answered first"
    assert answered >= pods(cluster, namespace), "every pod of the new one at the end"
    assert sum(result["good"].values()) > 200


def pods(cluster, namespace):
    found = cluster.kubectl_json("get", "pods", "-n", namespace, "-l", "app=web")["items"]
    return {pod["metadata"]["name"] for pod in found}
