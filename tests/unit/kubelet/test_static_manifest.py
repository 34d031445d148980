"""Static pods on paper."""

from __future__ import annotations

import json

import pytest
import yaml

from podnet.controlplane.kubelet.static_manifest import (
    HASH,
    MIRROR,
    ManifestError,
    is_mirror,
    is_static,
    mirror_pod,
    mirrors,
    static_pod,
)

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
SEEN = "2026-01-01T00:00:00Z"


def made(document=POD, file="a.yaml", node="n1"):
    return static_pod(yaml.safe_dump(document), file, node, SEEN)


def test_a_pod_is_named_after_its_node_and_tolerates_its_end():
    pod = made()
    assert pod["metadata"]["name"] == "a-n1"
    assert pod["metadata"]["namespace"] == "default"
    assert pod["spec"]["nodeName"] == "n1"
    assert pod["spec"]["restartPolicy"] == "Always"
    assert {"operator": "Exists", "effect": "NoExecute"} in pod["spec"]["tolerations"]
    assert is_static(pod)
    assert not is_mirror(pod)


def test_the_uid_changes_with_text_file_and_node_only():
    uid = made()["metadata"]["uid"]
    assert made()["metadata"]["uid"] == uid
    others = [made(file="b.yaml"), made(node="n2"), made({**POD, "metadata": {"name": "a", "labels": {"x": "y"}}})]
    assert len({uid, *(other["metadata"]["uid"] for other in others)}) == 4


def test_json_is_read_too():
    assert static_pod(json.dumps(POD), "a.json", "n1", SEEN)["metadata"]["name"] == "a-n1"


def test_a_mirror_shows_its_pod_until_somebody_deletes_it():
    pod = made()
    mirror = mirror_pod(pod, {"metadata": {"name": "n1", "uid": "u"}})
    assert mirror["metadata"]["annotations"][MIRROR] == pod["metadata"]["annotations"][HASH]
    assert "uid" not in mirror["metadata"]
    assert mirror["metadata"]["ownerReferences"][0]["kind"] == "Node"
    assert is_mirror(mirror)
    assert not is_static(mirror)
    assert mirrors(mirror, pod)
    assert not mirrors(mirror, made(file="b.yaml"))
    mirror["metadata"]["deletionTimestamp"] = SEEN
    assert not mirrors(mirror, pod)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "cannot be read"),
        ("", "kind: Pod"),
        ("kind: Service\napiVersion: v1", "kind: Pod"),
        ("kind: Pod\napiVersion: v1", "must be set"),
        (yaml.safe_dump({**POD, "spec": {"containers": []}}), "spec.containers"),
        (yaml.safe_dump({**POD, "spec": {**POD["spec"], "serviceAccountName": "x"}}), "service account"),
        (
            yaml.safe_dump({**POD, "spec": {**POD["spec"], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}}),
            "volume 'v'",
        ),
    ],
)
def test_what_is_no_static_pod_says_why(text, message):
    with pytest.raises(ManifestError, match=message):
        static_pod(text, "a.yaml", "n1", SEEN)
