"""What a disk, a crash or a curious hand made of a cluster's own files: said in a line, or mended; believed never."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace

import pytest

from podnet import boot, launch
from podnet.boot import BootCheck, not_ready_reasons, ready_nodes
from podnet.cluster import Cluster, _reason
from podnet.components import ComponentSpec
from podnet.supervisor import Component, component_key


@pytest.mark.parametrize(
    ("content", "port"),
    [
        (b"    server: https://127.0.0.1:40123\n", 40123),
        (b"\xff\x00 {]", 0),
        (b"", 0),
        (b"https://127.0.0.1:99999\n", 0),
        (b"https://127.0.0.1:999999999999\n", 0),
        (b"https://127.0.0.1:0\n", 0),
        (b"https://10.0.0.1:6443\n", 0),
        (None, 0),
    ],
    ids=["good", "no text", "empty", "too great", "far too great", "any", "another machine", "a directory"],
)
def test_the_port_of_last_time(tmp_path, content, port):
    file = tmp_path / "kubeconfig"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    assert launch._last_port(file) == port


SINCE = "2026-11-21T12:00:00Z"


def node(name, status="True", at="2026-11-21T12:00:01Z", message=""):
    ready = {"type": "Ready", "status": status, "lastHeartbeatTime": at, "message": message}
    return {
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "DiskPressure", "status": "False"}, {k: v for k, v in ready.items() if v}]},
    }


def test_ready_of_the_last_life_is_not_ready():
    nodes = [
        node("a"),
        node("b", at="2026-11-21T11:59:59Z"),
        node("c", at=""),
        node("d", "False", message="no network"),
    ]
    assert ready_nodes(nodes) == {"a", "b", "c"}
    assert ready_nodes(nodes, SINCE) == {"a"}
    assert ready_nodes([node("a", at=SINCE)], SINCE) == {"a"}, "heartbeats are cut to the second, as SINCE is"
    silent = "its node agent has not reported since the cluster was started"
    said = not_ready_reasons(nodes, ("a", "b", "c", "d", "e"), SINCE)
    assert said == f"b: {silent}; c: {silent}; d: no network; e: has not registered"


async def test_the_boot_waits_until_every_node_has_reported_anew(monkeypatch):
    monkeypatch.setattr(boot, "POLL_S", 0)
    stale = "2026-11-21T11:00:00Z"
    rounds = iter(
        [[], [node("a", at=stale), node("b", at=stale)], [node("a"), node("b", at=stale)], [node("a"), node("b")]]
    )

    class Client:
        asked = 0

        async def list(self, _resource):
            self.asked += 1
            return SimpleNamespace(items=next(rounds))

    client = Client()
    check = BootCheck(None, ("a", "b"), SINCE)
    async with asyncio.timeout(30):
        await boot._wait_nodes(client, check, deadline=float("inf"))
    assert client.asked == 4


def test_a_failed_rename_names_the_file_that_was_meant(tmp_path):
    (tmp_path / "kubeconfig").mkdir()
    (tmp_path / ".kubeconfig.1").write_text("")
    with pytest.raises(OSError, match="irectory") as failed:
        os.replace(tmp_path / ".kubeconfig.1", tmp_path / "kubeconfig")
    assert _reason(failed.value) == f"{tmp_path / 'kubeconfig'}: Is a directory"


def test_the_first_line_of_a_boot_that_failed_says_what_keeps_dying_and_why(tmp_path):
    def component(name, restarts, words):
        log = tmp_path / name
        log.write_text(words)
        spec = ComponentSpec(name, lambda: None, node="n", node_pid=lambda: 0, log=log)
        return component_key(spec), Component(spec, restarts=restarts, last_exit="exit 1")

    parts = [component("a", 2, "no API server\n"), component("b", 6, "store x is corrupt\n"), component("c", 0, "")]
    said = Cluster._who_keeps_dying(SimpleNamespace(supervisor=SimpleNamespace(components=dict(parts))))
    assert said == [
        "b/n keeps dying (exit 1, 6 times): store x is corrupt",
        "a/n keeps dying (exit 1, 2 times): no API server",
    ]
