"""How containers start, end, log, run commands and outlive their agent. Run by tests/kernel/test_runtime.py in a room
of their own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from podnet.controlplane.kubelet.cri import (
    ContainerState,
    RuntimeServiceError,
    SandboxState,
)

sys.path.insert(0, str(Path(__file__).parent))
import runtime_node
from runtime_node import AS_ROOT, Node, settled, sleepers

pytestmark = pytest.mark.kernel
node = runtime_node.node


# --- starting, ending, logs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-program",), 'exec: "no-such-program": executable file not found in $PATH'),
        (("/no/such",), 'exec: "/no/such": stat /no/such: no such file or directory'),
        (("/etc/passwd",), 'exec: "/etc/passwd": permission denied'),
        (("/etc",), 'exec: "/etc": is a directory'),
    ],
)
async def test_a_program_that_cannot_start(node: Node, command: tuple[str, ...], words: str) -> None:
    container_id = await node.container(await node.sandbox(), *command)
    with pytest.raises(RuntimeServiceError) as refused:
        await node.runtime.start_container(container_id)
    assert refused.value.reason == "RunContainerError"
    assert refused.value.message.startswith("failed to create containerd task: ")
    assert words in refused.value.message
    status = await node.runtime.container_status(container_id)
    assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 128, "StartError")
    assert status.message == refused.value.message


@pytest.mark.parametrize(
    ("script", "code", "number", "reason"),
    [
        ("exit 0", 0, 0, "Completed"),
        ("exit 42", 42, 0, "Error"),
        ("sh -c 'kill -9 $$'; exit $?", 137, 0, "Error"),
    ],
)
async def test_exit_codes(node: Node, script: str, code: int, number: int, reason: str) -> None:
    status, _ = await node.ran("sh", "-c", script)
    assert (status.exit_code, status.signal, status.reason) == (code, number, reason)
    assert 0 < status.created_at_ns <= status.started_at_ns <= status.finished_at_ns


async def test_the_termination_message(node: Node) -> None:
    status, _ = await node.ran("sh", "-c", "echo because > /dev/termination-log; exit 1")
    assert status.message == "because\n"
    script = "head -c 9000 /dev/zero | tr '\\0' x > /tmp/why; exit 1"
    status, _ = await node.ran("sh", "-c", script, termination_message_path="/tmp/why")
    assert status.message == "x" * 4096
    # Of one that is too long the end stays.
    script = "{ head -c 5000 /dev/zero | tr '\\0' a; printf end; } > /dev/termination-log; exit 1"
    status, _ = await node.ran("sh", "-c", script)
    assert status.message == "a" * 4093 + "end"


async def test_log_lines_long_partial_and_unfinished(node: Node) -> None:
    script = "head -c 40000 /dev/zero | tr '\\0' a; echo; echo err >&2; printf tail"
    status, _ = await node.ran("sh", "-c", script)
    entries = [line.split(" ", 3) for line in Path(status.log_path).read_text().splitlines()]
    assert all(len(entry[0]) == len("2026-01-02T03:04:05.123456789Z") for entry in entries)
    out = [(tag, len(text)) for _, stream, tag, text in entries if stream == "stdout"]
    assert out == [("P", 16384), ("P", 16384), ("F", 7232), ("F", 4)]
    assert [text for _, stream, _, text in entries if stream == "stderr"] == ["err"]


async def test_logs_are_rotated(node: Node) -> None:
    status, _ = await node.ran("sh", "-c", "yes 0123456789abcdef0123456789abcdef | head -n 400000")
    directory = Path(status.log_path).parent
    sizes = [path.stat().st_size for path in directory.iterdir()]
    assert len(sizes) > 1
    assert max(sizes) < 11 * 1024 * 1024


async def test_stdin_once_ends_with_its_client(node: Node) -> None:
    container_id = await node.started("sh", "-c", "cat; echo end", stdin=True, stdin_once=True)
    process = await node.runtime.attach(container_id)
    os.write(process.stdin, b"line\n")
    for descriptor in (process.stdin, process.stdout, process.stderr):
        os.close(descriptor)
    status = await node.ended(container_id)
    assert [line.split()[-1] for line in Path(status.log_path).read_text().splitlines()] == ["line", "end"]


async def test_a_terminal_of_its_own(node: Node) -> None:
    container_id = await node.started("sh", "-c", "tty; stty size; read x; echo got $x", tty=True, stdin=True)
    process = await node.runtime.attach(container_id)
    assert process.stderr == -1
    fcntl.ioctl(process.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    os.write(process.stdin, b"it\n")
    status = await node.ended(container_id)
    text = Path(status.log_path).read_text()
    assert "/dev/pts/0" in text
    assert "got it" in text
    os.close(process.stdin)
    os.close(process.stdout)


async def test_a_terminal_is_its_users_own(node: Node) -> None:
    script = "test -O $(tty) && echo again > $(tty)"
    user = {"run_as_user": 1000} if AS_ROOT else {}
    container_id = await node.started("sh", "-c", script, tty=True, **user)
    status = await node.ended(container_id)
    assert status.exit_code == 0
    assert Path(status.log_path).read_text().split()[3:] == ["again"]


# --- exec --------------------------------------------------------------------------------------------------------


async def test_exec_is_in_the_containers_namespaces(node: Node) -> None:
    container_id = await node.started(
        "sh", "-c", "echo mark > /tmp/mark; exec sleep 1000", env=(("X", "y"),), working_dir="/tmp"
    )
    assert await settled(lambda: True)
    assert (
        await node.shell(container_id, "cat mark; hostname; echo $X; cat /proc/1/comm; pwd")
        == "mark\nweb\ny\nsleep\n/tmp\n"
    )


async def test_exec_terminal_and_its_size(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    script = "tty; trap 'stty size; exit 6' WINCH; echo ready; while :; do sleep 0.05; done"
    process = await node.runtime.exec(
        container_id, ("sh", "-c", script), stdin=True, stdout=True, stderr=True, tty=True
    )
    assert process.stdin == process.stdout
    text = b""
    os.set_blocking(process.stdout, True)
    while b"ready" not in text:
        text += await asyncio.wait_for(asyncio.to_thread(os.read, process.stdout, 100), 5)
    assert text.startswith(b"/dev/pts/")
    fcntl.ioctl(process.stdout, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    assert await asyncio.wait_for(node.runtime.wait_exec(process), 5) == 6
    assert b"33 77" in os.read(process.stdout, 1000)
    os.close(process.stdout)


async def test_exec_at_its_limit_dies_with_its_children(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    with pytest.raises(TimeoutError):
        await node.runtime.exec_sync(container_id, ("sh", "-c", "sleep 4323; true"), 0.3)
    assert await settled(lambda: not sleepers("4323"))


async def test_exec_with_much_output_and_a_background_child(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    result = await node.runtime.exec_sync(
        container_id, ("sh", "-c", "head -c 3000000 /dev/zero; sleep 60 & exit 2"), 20
    )
    assert (result.exit_code, len(result.stdout)) == (2, 3000000)


async def test_exec_refusals(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    with pytest.raises(RuntimeServiceError) as refused:
        await node.runtime.exec_sync(container_id, ("nope",), 5)
    assert 'exec: "nope": executable file not found in $PATH' in refused.value.message
    with pytest.raises(RuntimeServiceError):
        await node.runtime.exec_sync(container_id, ("x" * 300000,), 5)
    assert (await node.runtime.exec_sync(container_id, ("true",), 5)).exit_code == 0


async def test_no_descriptor_leaks_into_a_container(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    assert (await node.shell(container_id, "ls /proc/1/fd; echo; ls /proc/self/fd")).split() == [
        "0",
        "1",
        "2",
        "0",
        "1",
        "2",
        "3",
    ]


async def test_no_descriptor_is_left_open_here(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    await node.shell(container_id, "true")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        await node.shell(container_id, "echo x")
        with pytest.raises(RuntimeServiceError):
            await node.runtime.exec_sync(container_id, ("nope",), 5)
    assert len(os.listdir("/proc/self/fd")) == before


# --- what survives, what does not --------------------------------------------------------------------------------


async def test_a_new_runtime_finds_everything(node: Node) -> None:
    sandbox_id = await node.sandbox()
    running = await node.started("sleep", "1000", sandbox_id=sandbox_id, name="a")
    short = await node.started("sh", "-c", "sleep 0.3; exit 9", sandbox_id=sandbox_id, name="b")
    created = await node.container(sandbox_id, "true", name="c")
    before = (await node.runtime.list_pod_sandboxes())[0]
    await node.runtime.close()
    status_file = node.paths.sandboxes_dir / sandbox_id / "containers" / short / "status.json"
    assert await settled(lambda: json.loads(status_file.read_text())["state"] == "CONTAINER_EXITED")
    node.reopen()
    assert await node.runtime.list_pod_sandboxes() == [before]
    states = {status.id: (status.state, status.exit_code) for status in await node.runtime.list_containers()}
    assert states == {
        running: (ContainerState.RUNNING, 0),
        short: (ContainerState.EXITED, 9),
        created: (ContainerState.CREATED, 0),
    }
    assert await node.shell(running, "hostname") == "web\n"
    await node.runtime.start_container(created)
    assert (await node.ended(created)).exit_code == 0
    await node.runtime.stop_container(running, 0)
    assert (await node.ended(running)).exit_code == 137


_AGENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import runtime_node
async def main():
    node = runtime_node.Node(Path({directory!r}))
    container_id = await node.started("sh", "-c", "while :; do date; sleep 0.05; done")
    print(container_id, node.zygote.pid, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


async def test_pods_survive_kill_9_of_the_agent(node: Node, tmp_path: Path) -> None:
    code = _AGENT.format(here=str(Path(__file__).parent), directory=str(tmp_path))
    agent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - it is killed
    try:
        assert agent.stdout is not None
        container_id, zygote = (await asyncio.to_thread(agent.stdout.readline)).split()
    finally:
        agent.kill()
        agent.wait()
    assert await settled(lambda: not Path(f"/proc/{zygote}").exists() or _is_zombie(zygote))
    node.reopen()
    status = await node.runtime.container_status(container_id)
    assert status.state is ContainerState.RUNNING
    size = Path(status.log_path).stat().st_size
    assert await settled(lambda: Path(status.log_path).stat().st_size > size)
    assert await node.shell(container_id, "hostname") == "web\n"


def _is_zombie(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


async def test_a_killed_zygote_is_replaced(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    os.kill(node.zygote.pid, signal.SIGKILL)
    second = await node.sandbox("two")
    assert (await node.runtime.container_status(container_id)).state is ContainerState.RUNNING
    assert {status.state for status in await node.runtime.list_pod_sandboxes()} == {SandboxState.READY}
    assert await node.started("sleep", "1000", sandbox_id=second)


async def test_a_killed_pause_takes_the_pod_with_it(node: Node) -> None:
    sandbox_id = await node.sandbox()
    container_id = await node.started("sh", "-c", "sleep 4324 & sleep 4324", sandbox_id=sandbox_id)
    assert await settled(lambda: len(sleepers("4324")) == 2)
    record = json.loads((node.paths.sandboxes_dir / sandbox_id / "sandbox.json").read_text())
    await node.runtime.wait_change(0)
    os.kill(record["pause_pid"], signal.SIGKILL)
    assert await node.runtime.wait_change(5)
    status = await node.ended(container_id)
    assert (status.exit_code, status.reason) == (137, "Error")
    assert (await node.runtime.list_pod_sandboxes())[0].state is SandboxState.NOTREADY
    assert await settled(lambda: not sleepers("4324"))
    with pytest.raises(RuntimeServiceError):
        await node.container(sandbox_id, "true")
    node.reopen()
    assert (await node.runtime.list_pod_sandboxes())[0].state is SandboxState.NOTREADY
    assert (await node.runtime.container_status(container_id)).exit_code == 137
    await node.runtime.stop_pod_sandbox(sandbox_id)
    assert [found for found, _ in node.network.deleted] == [sandbox_id]


async def test_a_refused_network_leaves_nothing(node: Node) -> None:
    node.network.refusal = 'plugin type="podnet" failed (add): no address left'
    with pytest.raises(RuntimeServiceError) as refused:
        await node.sandbox()
    assert refused.value.reason == "FailedCreatePodSandBox"
    assert "failed to setup network for sandbox" in refused.value.message
    assert "no address left" in refused.value.message
    assert await node.runtime.list_pod_sandboxes() == []
    assert "no address left" in await node.runtime.status()
    node.network.refusal = ""
    assert await node.runtime.status() == ""


async def test_twenty_pods_at_once(node: Node) -> None:
    async def pod(number: int) -> str:
        sandbox_id = await node.sandbox(f"p{number}")
        return await node.started("sleep", "1000", sandbox_id=sandbox_id)

    containers = await asyncio.gather(*(pod(number) for number in range(20)))
    assert len(set(containers)) == 20
    names = await asyncio.gather(*(node.shell(container_id, "hostname") for container_id in containers))
    assert sorted(names) == sorted(f"p{number}\n" for number in range(20))
    await asyncio.gather(*(node.runtime.remove_pod_sandbox(s.id) for s in await node.runtime.list_pod_sandboxes()))
    assert await node.runtime.list_pod_sandboxes() == []
