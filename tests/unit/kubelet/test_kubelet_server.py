"""The kubelet's HTTPS endpoint over a real socket: who may call, logs, exec and attach over WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from podnet.controlplane.api.resources import PODS
from podnet.controlplane.kubelet.server.channels import V4, V5
from podnet.controlplane.kubelet.server.server import is_apiserver


@pytest.fixture
async def http(node: Any) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=node.client_tls())
    async with aiohttp.ClientSession(connector=connector) as session:
        await until_listening(node)
        yield session


async def until_listening(node: Any) -> None:
    async def connects() -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(node.config.node_ip, node.config.port)
            writer.close()
            return True
        return False

    await node.until(connects)


def is_alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def logging_pod(script: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "app", "image": "busybox", "command": ["sh", "-c", script], **more}]


def exec_url(node: Any, *command: str, **streams: str) -> str:
    pairs = [("command", word) for word in command] + [*streams.items()]
    return node.url(f"/exec/default/web/app?{urlencode(pairs)}")


async def converse(socket: aiohttp.ClientWebSocketResponse) -> tuple[dict[int, bytes], dict[str, Any]]:
    """Everything the server says, by channel, and the final Status."""
    channels: dict[int, bytes] = {}
    async for message in socket:
        assert message.type is aiohttp.WSMsgType.BINARY
        channels[message.data[0]] = channels.get(message.data[0], b"") + message.data[1:]
    return channels, json.loads(channels.pop(3))


async def test_health_needs_no_more_than_the_certificate(node: Any, http: aiohttp.ClientSession) -> None:
    async with http.get(node.url("/healthz")) as answer:
        assert (answer.status, await answer.text()) == (200, "ok")


async def test_a_caller_without_certificate_does_not_get_in(node: Any, http: aiohttp.ClientSession) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=node.client_tls(""))) as stranger:
        with pytest.raises(aiohttp.ClientError):
            await stranger.get(node.url("/pods"))


async def test_another_component_is_forbidden(node: Any, http: aiohttp.ClientSession) -> None:
    connector = aiohttp.TCPConnector(ssl=node.client_tls("kube-scheduler"))
    async with aiohttp.ClientSession(connector=connector) as other, other.get(node.url("/pods")) as answer:
        assert answer.status == 403
        assert (await answer.json())["reason"] == "Forbidden"


@pytest.mark.parametrize(
    ("subject", "allowed"),
    [
        pytest.param({"commonName": "kube-apiserver-kubelet-client"}, True, id="by-name"),
        pytest.param({"commonName": "x", "organizationName": "system:masters"}, True, id="by-group"),
        pytest.param({"commonName": "system:node:a", "organizationName": "system:nodes"}, False, id="a-node"),
        pytest.param({}, False, id="nobody"),
    ],
)
def test_who_is_the_apiserver(subject: dict[str, str], allowed: bool) -> None:
    certificate = {"subject": tuple(((key, value),) for key, value in subject.items())}
    assert is_apiserver(certificate) is allowed
    assert is_apiserver(None) is False


async def test_pods_are_listed(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod()
    await node.until_ready()
    async with http.get(node.url("/pods")) as answer:
        items = (await answer.json())["items"]
    assert [item["metadata"]["name"] for item in items] == ["web"]
    assert items[0]["status"]["phase"] == "Running"


async def test_metrics_say_what_runs(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod()
    await node.until_ready()
    async with http.get(node.url("/metrics")) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = (await answer.text()).splitlines()
    assert f'kubelet_node_name{{node="{node.config.node_name}"}} 1' in lines
    assert "kubelet_running_pods 1" in lines
    assert 'kubelet_running_containers{container_state="running"} 1' in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


async def test_logs_of_a_running_container(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod(containers=logging_pod("echo one; echo two; sleep infinity"))
    await node.until_ready()
    async with http.get(node.url("/containerLogs/default/web/app")) as answer:
        assert answer.content_type == "text/plain"
        assert await answer.text() == "one\ntwo\n"
    async with http.get(node.url("/containerLogs/default/web/app?tailLines=1")) as answer:
        assert await answer.text() == "two\n"
    async with http.get(node.url("/containerLogs/default/web/app?timestamps=true&limitBytes=4")) as answer:
        assert len(await answer.read()) == 4


async def test_followed_logs_end_with_the_container(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod(containers=logging_pod("echo one; sleep 0.4; echo two; exit 0"), restartPolicy="Never")
    await node.until_phase("Running")
    async with asyncio.timeout(5), http.get(node.url("/containerLogs/default/web/app?follow=true")) as answer:
        assert await answer.text() == "one\ntwo\n"


async def test_previous_logs(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod(containers=logging_pod("echo life; sleep infinity"))
    await node.until_ready()
    async with http.get(node.url("/containerLogs/default/web/app?previous=true")) as answer:
        assert answer.status == 400
        assert (await answer.json())["message"] == 'previous terminated container "app" in pod "web" not found'
    node.runtime.exit_container("app", 1)
    await node.until_pod(lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1)
    async with http.get(node.url("/containerLogs/default/web/app?previous=true")) as answer:
        assert await answer.text() == "life\n"


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        pytest.param("/containerLogs/default/nope/app", 404, 'pods "nope" not found', id="no-pod"),
        pytest.param("/containerLogs/default/web/no", 400, "container no is not valid for pod web", id="no-container"),
        pytest.param("/containerLogs/default/web/app?tailLines=x", 400, "must be a number", id="bad-tail"),
        pytest.param("/containerLogs/default/web/app?tailLines=-1", 400, "greater than or equal to 0", id="negative"),
        pytest.param("/containerLogs/default/web/app?limitBytes=0", 400, "greater than 0", id="no-bytes"),
        pytest.param("/containerLogs/default/web/app?sinceTime=yesterday", 400, "RFC 3339", id="bad-time"),
        pytest.param("/exec/default/web/app", 400, "at least one command", id="no-command"),
    ],
)
async def test_what_is_refused(node: Any, http: aiohttp.ClientSession, path: str, code: int, message: str) -> None:
    await node.create_pod()
    await node.until_ready()
    async with http.get(node.url(path)) as answer:
        assert answer.status == code
        status = await answer.json()
    assert message in status["message"]
    assert status["kind"] == "Status"


async def test_logs_of_a_container_that_cannot_start(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod(containers=[{"name": "app", "image": "no-such-image"}])
    await node.until_pod(
        lambda pod: "waiting" in (pod["status"].get("containerStatuses") or [{"state": {}}])[0]["state"]
    )
    await node.until_event("Failed", "Failed to pull image")
    async with http.get(node.url("/containerLogs/default/web/app")) as answer:
        assert answer.status == 400
        message = (await answer.json())["message"]
    assert message == 'container "app" in pod "web" is waiting to start: trying and failing to pull image'


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_exec_gives_both_streams_and_the_exit_code(node: Any, http: aiohttp.ClientSession, protocol: str) -> None:
    await node.create_pod()
    await node.until_ready()
    url = exec_url(node, "sh", "-c", "echo out; echo err >&2; exit 7", output="1", error="1")
    async with http.ws_connect(url, protocols=[protocol]) as socket:
        assert socket.protocol == protocol
        channels, status = await converse(socket)
        assert socket.close_code == 1000
    assert (channels[1], channels[2]) == (b"out\n", b"err\n")
    assert status["status"] == "Failure"
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


async def test_exec_prefers_v5_and_closes_stdin_with_ff_00(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod()
    await node.until_ready()
    async with http.ws_connect(exec_url(node, "cat", input="1", output="1"), protocols=[V5, V4]) as socket:
        assert socket.protocol == V5
        await socket.send_bytes(b"\x00hello ")
        await socket.send_bytes(b"\x00world")
        await socket.send_bytes(b"\xff\x00")
        channels, status = await converse(socket)
    assert channels[1] == b"hello world"
    assert status["status"] == "Success"


async def test_exec_of_what_is_not_there_is_an_internal_error(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod()
    await node.until_ready()
    async with http.ws_connect(exec_url(node, "no-such-program", output="1"), protocols=[V5]) as socket:
        _, status = await converse(socket)
    assert status["reason"] == "InternalError"
    assert "no-such-program" in status["message"]


async def test_exec_with_a_terminal_resizes(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod()
    await node.until_ready()
    url = exec_url(node, "sh", "-c", "read line; stty size", input="1", output="1", tty="1")
    async with http.ws_connect(url, protocols=[V5]) as socket:
        await socket.send_bytes(b'\x04{"Width":91,"Height":37}')
        await socket.send_bytes(b"\x00go\n")
        channels, status = await converse(socket)
    assert b"37 91" in channels[1]
    assert 2 not in channels
    assert status["status"] == "Success"


async def test_much_output_arrives_whole_at_a_slow_client(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod()
    await node.until_ready()
    url = exec_url(node, "sh", "-c", "head -c 8000000 /dev/zero", output="1")
    async with http.ws_connect(url, protocols=[V5], max_msg_size=0) as socket:
        await asyncio.sleep(0.3)
        channels, status = await converse(socket)
    assert len(channels[1]) == 8_000_000
    assert status["status"] == "Success"


async def test_much_input_arrives_whole(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod()
    await node.until_ready()
    async with http.ws_connect(exec_url(node, "wc", "-c", input="1", output="1"), protocols=[V5]) as socket:
        for _ in range(40):
            await socket.send_bytes(b"\x00" + b"x" * 50_000)
        await socket.send_bytes(b"\xff\x00")
        channels, _ = await converse(socket)
    assert channels[1].strip() == b"2000000"


async def test_a_background_child_does_not_hold_the_session(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod()
    await node.until_ready()
    url = exec_url(node, "sh", "-c", "sleep 30 & echo started", output="1")
    async with asyncio.timeout(5), http.ws_connect(url, protocols=[V5]) as socket:
        channels, status = await converse(socket)
    assert channels[1] == b"started\n"
    assert status["status"] == "Success"


async def test_the_process_is_killed_when_the_client_leaves(
    node: Any, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    await node.create_pod()
    await node.until_ready()
    marker = tmp_path / "pid"
    url = exec_url(node, "sh", "-c", f"echo $$ > {marker}; exec sleep 1000", output="1")
    async with http.ws_connect(url, protocols=[V5]):

        async def written() -> str:
            return marker.read_text().strip() if marker.exists() else ""

        pid = int(await node.until(written))
        assert is_alive(pid)

    async def gone() -> bool:
        return not is_alive(pid)

    await node.until(gone)


async def test_attach_shows_what_a_container_says(node: Any, http: aiohttp.ClientSession) -> None:
    containers = [{"name": "app", "image": "busybox", "command": ["cat"], "stdin": True}]
    await node.create_pod(containers=containers, restartPolicy="Never")
    await node.until_ready()
    async with http.ws_connect(node.url("/attach/default/web/app?input=1&output=1"), protocols=[V5]) as socket:
        await socket.send_bytes(b"\x00ping\n")
        first = [await socket.receive_bytes(), await socket.receive_bytes()]
        assert b"\x01ping\n" in first
        node.runtime.exit_container("app", 0)
        _, status = await converse(socket)
    assert status["status"] == "Success"


async def test_attach_leaves_the_container_running(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod()
    await node.until_ready()
    async with http.ws_connect(node.url("/attach/default/web/app?output=1"), protocols=[V5]) as socket:
        await socket.receive_bytes()
    pod = await node.pod()
    assert "running" in pod["status"]["containerStatuses"][0]["state"]


async def test_run_answers_with_the_output(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod()
    await node.until_ready()
    async with http.post(node.url("/run/default/web/app?cmd=echo+hi")) as answer:
        assert await answer.text() == "hi\n"


async def test_exec_needs_a_running_container(node: Any, http: aiohttp.ClientSession) -> None:
    await node.create_pod(containers=logging_pod("exit 0"), restartPolicy="Never")
    await node.until_phase("Succeeded")
    async with http.get(exec_url(node, "true")) as answer:
        assert answer.status == 404
    await node.client.delete(PODS, "web", "default")
    await node.until_gone()


def test_tls_demands_a_certificate(node_config: Any) -> None:
    from podnet.controlplane.kubelet.server.server import server_context

    context = server_context(node_config)
    assert context.verify_mode is ssl.CERT_REQUIRED
