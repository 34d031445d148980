"""ConfigMaps, Secrets, the downward API and tokens, as a program in a pod meets them; with the real kubectl."""

from __future__ import annotations

import base64
import json

import pytest
from workload_room import WAIT_S, Room

ROOM = "configuration"
REPORT = 'env | sort; echo "args=$*"; sleep 100000'


def named(kind: str, name: str, **fields) -> dict:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config_key(name: str, key: str, **more) -> dict:
    return {"valueFrom": {"configMapKeyRef": {"name": name, "key": key, **more}}}


ENV = [
    {"name": "FROM_MAP", **config_key("settings", "colour")},
    {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}},
    {"name": "ABSENT", **config_key("settings", "nothing", optional=True)},
    {"name": "colour", "value": "overridden"},
    {"name": "TOLD", "value": "$(FROM_MAP) and $(FROM_SECRET), not $$(FROM_MAP) nor $(NOBODY)"},
    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
]
SOURCES = [
    {"configMapRef": {"name": "settings"}},
    {"secretRef": {"name": "keys"}, "prefix": "SECRET_"},
    {"configMapRef": {"name": "never-made", "optional": True}},
    {"configMapRef": {"name": "odd-names"}},
]
MOUNTS = [
    {"name": "all", "mountPath": "/all"},
    {"name": "moving", "mountPath": "/moving"},
    {"name": "moving", "mountPath": "/one/colour", "subPath": "colour"},
    {"name": "turning", "mountPath": "/turning"},
    {"name": "some", "mountPath": "/some"},
    {"name": "secret", "mountPath": "/secret"},
    {"name": "later", "mountPath": "/later"},
    {"name": "about", "mountPath": "/about"},
    {"name": "together", "mountPath": "/together"},
]
FIELD = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
LIMIT = {"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}}
VOLUMES = [
    {"name": "all", "configMap": {"name": "settings"}},
    {"name": "lost", "configMap": {"name": "moving", "items": [{"key": "shape", "path": "shape"}]}},
    {"name": "moving", "configMap": {"name": "moving"}},
    {"name": "turning", "secret": {"secretName": "turning"}},
    {
        "name": "some",
        "configMap": {
            "name": "settings",
            "defaultMode": 0o440,
            "items": [{"key": "colour", "path": "deep/down/c", "mode": 0o400}, {"key": "shape", "path": "s"}],
        },
    },
    {"name": "secret", "secret": {"secretName": "keys", "defaultMode": 0o400}},
    {"name": "later", "configMap": {"name": "later", "optional": True}},
    {"name": "about", "downwardAPI": {"items": [FIELD, LIMIT]}},
    {
        "name": "together",
        "projected": {
            "sources": [
                {"configMap": {"name": "settings", "items": [{"key": "colour", "path": "map/colour"}]}},
                {"secret": {"name": "keys"}},
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}},
            ]
        },
    },
]
READER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "reader", "labels": {"tier": "front"}},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "volumes": VOLUMES,
        "containers": [
            {
                "name": "c",
                "image": "busybox",
                "command": ["sh", "-c", REPORT, "$(FROM_MAP)"],
                "args": ["$(TOLD)", "$$(TOLD)", "$(NOBODY)"],
                "env": ENV,
                "envFrom": SOURCES,
                "volumeMounts": MOUNTS,
                "resources": {"requests": {"cpu": "25m"}, "limits": {"memory": "48Mi"}},
            }
        ],
    },
}
WAITER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "waiter"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "c",
                "image": "busybox",
                "command": ["sleep", "100000"],
                "env": [{"name": "X", **config_key("awaited", "x")}],
            }
        ],
    },
}
OBJECTS = [
    named("ConfigMap", "settings", data={"colour": "green", "shape": "round"}),
    named("ConfigMap", "moving", data={"colour": "green", "shape": "round"}),
    named("ConfigMap", "odd-names", data={"9lives": "cat", "fine": "yes"}),
    named("ConfigMap", "frozen", data={"a": "1"}, immutable=True),
    named("Secret", "keys", data={"password": encoded("s3cret")}),
    named("Secret", "turning", data={"password": encoded("s3cret")}),
    named("Secret", "sealed", data={"a": encoded("1")}, immutable=True),
    READER,
    WAITER,
]


class OwnRoom(Room):
    """The namespace with all of it, and a shell in the pod that reads."""

    def sh(self, script):
        return self.kubectl("exec", "reader", "--", "sh", "-c", script).stdout.strip()


@pytest.fixture(scope="module")
def room(cluster):
    cluster.kubectl("create", "namespace", ROOM)
    found = OwnRoom(cluster, ROOM)
    found.apply(*OBJECTS)
    found.kubectl("wait", "--for=condition=ready", "pod/reader", f"--timeout={WAIT_S:.0f}s")
    yield found
    cluster.kubectl("delete", "namespace", ROOM, "--wait=false", check=False)


def test_the_environment_and_the_arguments(room):
    room.wait(lambda: "args=" in room.kubectl("logs", "reader").stdout, "it has told")
    lines = room.kubectl("logs", "reader").stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines)
    told = "green and s3cret, not $(FROM_MAP) nor $(NOBODY)"
    expected = {
        "FROM_MAP": "green",
        "FROM_SECRET": "s3cret",
        "colour": "overridden",
        "shape": "round",
        "SECRET_password": "s3cret",
        "TOLD": told,
        "fine": "yes",
        "CPU": "25",
        "args": f"{told} $(TOLD) $(NOBODY)",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["NODE"].startswith("worker-")
    assert not {"ABSENT", "9lives"} & set(found)
    text = "Keys [9lives] from the EnvFrom configMap configuration/odd-names were skipped"
    assert text in room.kubectl("get", "events", "--field-selector=involvedObject.name=reader").stdout


def test_files_their_modes_and_the_volumes_of_one_pod(room):
    assert room.sh("cd /all; ls; cat colour shape").split() == ["colour", "shape", "greenround"]
    assert room.sh("stat -L -c %a /some/deep/down/c /some/s /secret/password").split() == ["400", "440", "400"]
    assert room.sh("cat /secret/password") == "s3cret"
    assert room.sh("cat /about/labels; echo; cat /about/memory").split() in (
        ['tier="front"', "48"],
        ['tier="back"', "48"],
    )
    assert room.sh("cd /together; cat map/colour password name") == "greens3cretreader"
    assert room.sh("touch /all/x 2>&1 || true").endswith("Read-only file system")


def test_a_token_is_for_one_audience_and_one_pod(room):
    payload = room.sh("cat /together/token").split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (claims["aud"], claims["exp"] - claims["iat"]) == (["vault"], 600)
    assert claims["sub"] == "system:serviceaccount:configuration:default"
    assert claims["kubernetes.io"]["pod"]["name"] == "reader"
    usual = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert room.sh(f"ls {usual}; cat {usual}/namespace").split() == ["ca.crt", "namespace", "token", "configuration"]
    short = room.kubectl("create", "token", "default", "--duration=1m", check=False)
    assert "may not specify a duration less than 10 minutes" in short.stderr


def test_changes_arrive_whole_and_not_behind_a_sub_path(room):
    """Though another volume of the pod cannot follow: what it wants of the same object is gone."""
    before = room.sh("readlink /moving/..data")
    data = {"data": {"colour": "blue", "shape": None, "size": "big"}}
    room.kubectl("patch", "configmap", "moving", "-p", json.dumps(data))
    room.kubectl("patch", "secret", "turning", "-p", json.dumps({"data": {"password": encoded("changed")}}))
    room.wait(lambda: room.sh("cat /moving/colour") == "blue", "the file follows")
    assert room.sh("cd /moving; ls; cat size").split() == ["colour", "size", "big"], "all of it at once"
    assert room.sh("readlink /moving/..data") != before
    assert room.sh("cat /one/colour") == "green", "a subPath stays as it was mounted"
    room.wait(lambda: room.sh("cat /turning/password") == "changed", "so do secrets")
    room.kubectl("label", "pod", "reader", "tier=back", "--overwrite")
    room.wait(lambda: room.sh("cat /about/labels") == 'tier="back"', "so does the downward API")
    assert room.sh("echo $FROM_MAP") == "green"
    room.apply(named("ConfigMap", "later", data={"here": "now"}))
    room.wait(lambda: room.sh("cat /later/here 2>/dev/null || true") == "now", "what was optional has come")


def test_what_is_immutable_stays_and_bad_keys_are_refused(room):
    for kind, name, body in (
        ("configmap", "frozen", {"data": {"a": "2"}}),
        ("secret", "sealed", {"data": {"a": encoded("2")}}),
        ("configmap", "frozen", {"immutable": False}),
    ):
        refused = room.kubectl("patch", kind, name, "-p", json.dumps(body), check=False)
        assert "Forbidden: field is immutable when `immutable` is set" in refused.stderr
    room.kubectl("annotate", "configmap", "frozen", "note=may-change", "--overwrite")
    bad = room.apply(named("ConfigMap", "bad", data={"a/b": "1"}), check=False)
    assert 'data[a/b]: Invalid value: "a/b": a valid config key must consist of' in bad.stderr
    bad = room.apply(named("Secret", "bad-tls", type="kubernetes.io/tls", data={}), check=False)
    assert "data[tls.crt]: Required value" in bad.stderr
    changed = room.kubectl("patch", "secret", "keys", "-p", '{"type":"x"}', check=False)
    assert 'type: Invalid value: "x": field is immutable' in changed.stderr


def test_a_pod_waits_for_what_it_needs(room):
    def waiting():
        found = json.loads(room.kubectl("get", "pod", "waiter", "-o", "json").stdout)
        rows = found["status"].get("containerStatuses") or [{}]
        return rows[0].get("state", {}).get("waiting", {})

    room.wait(lambda: waiting().get("reason") == "CreateContainerConfigError", "it says so")
    assert 'configmap "awaited" not found' in waiting()["message"]
    room.apply(named("ConfigMap", "awaited", data={"y": "1"}))
    room.wait(
        lambda: "couldn't find key x in ConfigMap configuration/awaited" in waiting().get("message", ""), "and so"
    )
    room.apply(named("ConfigMap", "awaited", data={"x": "1"}))
    room.kubectl("wait", "--for=condition=ready", "pod/waiter", f"--timeout={WAIT_S:.0f}s")
