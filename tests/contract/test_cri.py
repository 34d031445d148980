"""The runtime's contract: what the kubelet may rely on, whoever implements `RuntimeService`.

Every runtime runs the same cases. `busybox` with `sh`, `echo`, `sleep`, `cat`, `exit` is all they need. A runtime joins
by an entry in RUNTIMES: an async context manager that is given a scratch directory and yields the runtime.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.kubelet.cri import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    RuntimeService,
    RuntimeServiceError,
    SandboxConfig,
    SandboxState,
)
from podnet.controlplane.kubelet.fake_runtime import FakeRuntime
from podnet.controlplane.kubelet.logs.format import LogEntry, parse_line
from podnet.controlplane.kubelet.runtime.runtime import PodRuntime
from podnet.controlplane.kubelet.runtime.zygote import start_zygote
from podnet.topology.paths import NodePaths

Factory = Callable[[Path], AbstractAsyncContextManager[RuntimeService]]


@asynccontextmanager
async def fake_runtime(_: Path) -> AsyncIterator[RuntimeService]:
    runtime = FakeRuntime()
    try:
        yield runtime
    finally:
        await runtime.close()


@asynccontextmanager
async def pod_runtime(tmp_path: Path) -> AsyncIterator[RuntimeService]:
    """The real one. It makes namespaces, mounts and orphans: only inside a room of its own, which
    tests/kernel/test_runtime_contract.py makes."""
    zygote = start_zygote()
    paths = NodePaths(tmp_path / "state", tmp_path / "run")
    runtime = PodRuntime(paths, zygote, CountingNetwork())
    try:
        yield runtime
        for status in await runtime.list_pod_sandboxes():
            await runtime.remove_pod_sandbox(status.id)
    finally:
        await runtime.close()
        zygote.close()


class CountingNetwork:
    """Stands in for CNI: another address for each sandbox, no interface."""

    def __init__(self) -> None:
        self._given = 1

    async def add(self, *_: Any, **__: Any) -> dict[str, Any]:
        self._given += 1
        return {"ips": [{"address": f"10.244.1.{self._given}/24"}]}

    async def delete(self, *_: Any, **__: Any) -> None:
        return None

    async def status(self) -> None:
        return None


RUNTIMES: list[Any] = [pytest.param(fake_runtime, id="fake")]
if os.environ.get("PODNET_TEST_ROOM"):
    RUNTIMES.append(pytest.param(pod_runtime, id="namespaces", marks=pytest.mark.kernel))


@pytest.fixture(params=RUNTIMES)
async def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RuntimeService]:
    factory: Factory = request.param
    async with factory(tmp_path) as made:
        yield made


def sandbox(tmp_path: Path, name: str = "web", **more: Any) -> SandboxConfig:
    logs = tmp_path / "pod-logs"
    logs.mkdir(exist_ok=True)
    return SandboxConfig(
        pod_name=name,
        pod_namespace="default",
        pod_uid=str(uuid.uuid4()),
        hostname=name,
        log_directory=str(logs),
        labels={"app": name},
        **more,
    )


def container(*command: str, name: str = "app", **more: Any) -> ContainerConfig:
    return ContainerConfig(
        name=name, image="busybox", command=command, log_path=f"{name}/{more.get('attempt', 0)}.log", **more
    )


async def wait_exited(runtime: RuntimeService, container_id: str, timeout_s: float = 10.0) -> ContainerStatus:
    deadline = time.monotonic() + timeout_s
    while True:
        status = await runtime.container_status(container_id)
        if status.state is ContainerState.EXITED:
            return status
        assert time.monotonic() < deadline, f"still {status.state}"
        await runtime.wait_change(0.2)


async def started(runtime: RuntimeService, tmp_path: Path, *command: str, **more: Any) -> str:
    sandbox_id = await runtime.run_pod_sandbox(sandbox(tmp_path))
    container_id = await runtime.create_container(sandbox_id, container(*command, **more))
    await runtime.start_container(container_id)
    return container_id


async def read_all(descriptor: int) -> bytes:
    def read() -> bytes:
        pieces = []
        while True:
            try:
                piece = os.read(descriptor, 4096)
            except OSError:  # EIO is the end of a pty
                break
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces)

    os.set_blocking(descriptor, True)
    return await asyncio.wait_for(asyncio.to_thread(read), 10)


def close(*descriptors: int) -> None:
    for descriptor in set(descriptors) - {-1}:
        with contextlib.suppress(OSError):
            os.close(descriptor)


async def test_version_names_podnet(runtime: RuntimeService) -> None:
    name, version = await runtime.version()
    assert name == "podnet"
    assert version.count(".") == 2


async def test_a_sandbox_stands_with_its_configuration_and_address(runtime: RuntimeService, tmp_path: Path) -> None:
    config = sandbox(tmp_path)
    sandbox_id = await runtime.run_pod_sandbox(config)
    [status] = await runtime.list_pod_sandboxes()
    assert (status.id, status.state, status.config) == (sandbox_id, SandboxState.READY, config)
    assert status.ips
    assert abs(status.created_at_ns - time.time_ns()) < 60 * 10**9


async def test_a_host_network_sandbox_has_no_address_of_its_own(runtime: RuntimeService, tmp_path: Path) -> None:
    await runtime.run_pod_sandbox(sandbox(tmp_path, host_network=True))
    [status] = await runtime.list_pod_sandboxes()
    assert status.ips == ()


async def test_stopping_and_removing_a_sandbox_is_idempotent(runtime: RuntimeService, tmp_path: Path) -> None:
    sandbox_id = await runtime.run_pod_sandbox(sandbox(tmp_path))
    await runtime.stop_pod_sandbox(sandbox_id)
    await runtime.stop_pod_sandbox(sandbox_id)
    [status] = await runtime.list_pod_sandboxes()
    assert status.state is SandboxState.NOTREADY
    await runtime.remove_pod_sandbox(sandbox_id)
    await runtime.remove_pod_sandbox(sandbox_id)
    await runtime.stop_pod_sandbox(sandbox_id)
    assert await runtime.list_pod_sandboxes() == []


async def test_an_unknown_image_is_err_image_pull(runtime: RuntimeService) -> None:
    with pytest.raises(RuntimeServiceError) as refused:
        await runtime.pull_image("registry.example/no/such-program:v1")
    assert refused.value.reason == "ErrImagePull"


async def test_a_known_image_has_a_reference_with_any_registry_and_tag(runtime: RuntimeService) -> None:
    plain = await runtime.pull_image("busybox")
    assert plain
    assert await runtime.pull_image("docker.io/library/busybox:1.36") == plain
    assert any("busybox" in image for image in await runtime.list_images())


async def test_a_container_is_created_runs_and_exits(runtime: RuntimeService, tmp_path: Path) -> None:
    sandbox_id = await runtime.run_pod_sandbox(sandbox(tmp_path))
    config = container("sh", "-c", "sleep 0.2; exit 7", labels={"hash": "x"}, attempt=3)
    container_id = await runtime.create_container(sandbox_id, config)
    created = await runtime.container_status(container_id)
    assert (created.state, created.started_at_ns, created.config) == (ContainerState.CREATED, 0, config)
    await runtime.start_container(container_id)
    running = await runtime.container_status(container_id)
    assert running.state is ContainerState.RUNNING
    assert running.started_at_ns >= created.created_at_ns
    assert running.sandbox_id == sandbox_id
    assert running.image_ref
    ended = await wait_exited(runtime, container_id)
    assert (ended.exit_code, ended.signal, ended.reason) == (7, 0, "Error")
    assert ended.finished_at_ns >= ended.started_at_ns
    assert [status.id for status in await runtime.list_containers()] == [container_id]


async def test_exit_zero_is_completed(runtime: RuntimeService, tmp_path: Path) -> None:
    ended = await wait_exited(runtime, await started(runtime, tmp_path, "true"))
    assert (ended.exit_code, ended.reason) == (0, "Completed")


async def test_a_program_that_is_not_there_does_not_start(runtime: RuntimeService, tmp_path: Path) -> None:
    sandbox_id = await runtime.run_pod_sandbox(sandbox(tmp_path))
    container_id = await runtime.create_container(sandbox_id, container("no-such-program"))
    with pytest.raises(RuntimeServiceError) as refused:
        await runtime.start_container(container_id)
    assert refused.value.reason == "RunContainerError"
    assert "no-such-program" in refused.value.message
    status = await runtime.container_status(container_id)
    assert status.state is ContainerState.EXITED
    assert status.exit_code in {127, 128}
    assert status.reason == "StartError"


async def test_a_container_needs_a_ready_sandbox(runtime: RuntimeService, tmp_path: Path) -> None:
    sandbox_id = await runtime.run_pod_sandbox(sandbox(tmp_path))
    await runtime.stop_pod_sandbox(sandbox_id)
    with pytest.raises(RuntimeServiceError):
        await runtime.create_container(sandbox_id, container("true"))
    with pytest.raises(RuntimeServiceError):
        await runtime.create_container("no-such-sandbox", container("true"))


async def test_stop_asks_politely_first(runtime: RuntimeService, tmp_path: Path) -> None:
    # A program that handles SIGTERM: the kernel hides the signal from a PID 1 that does not, `sleep` for one.
    sandbox_id = await runtime.run_pod_sandbox(sandbox(tmp_path))
    container_id = await runtime.create_container(sandbox_id, ContainerConfig(name="app", image="pause"))
    await runtime.start_container(container_id)
    begun = time.monotonic()
    await runtime.stop_container(container_id, 20)
    assert time.monotonic() - begun < 10
    status = await runtime.container_status(container_id)
    assert status.state is ContainerState.EXITED
    assert status.exit_code in {0, 137, 143}
    await runtime.stop_container(container_id, 20)


async def test_stop_reaches_a_program_that_is_still_starting(runtime: RuntimeService, tmp_path: Path) -> None:
    # PID 1 has no handler yet when it is asked to stop; what the kernel drops until then must not be lost.
    # Short sleeps: a shell runs its trap only when the command in front has ended, however late the signal came.
    script = "sleep 1; trap 'exit 7' TERM; while :; do sleep 0.1; done"
    container_id = await started(runtime, tmp_path, "sh", "-c", script)
    await runtime.stop_container(container_id, 20)
    status = await runtime.container_status(container_id)
    assert (status.state, status.exit_code) in {(ContainerState.EXITED, 7), (ContainerState.EXITED, 143)}


async def test_stop_kills_what_does_not_listen(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sh", "-c", "trap '' TERM; echo set; sleep 1000")
    log = tmp_path / "pod-logs" / "app" / "0.log"
    async with asyncio.timeout(20):
        while not (log.exists() and log_entries(log)):  # the trap has to be set before the signal comes
            await asyncio.sleep(0.01)
    await runtime.stop_container(container_id, 0.5)
    status = await runtime.container_status(container_id)
    assert (status.state, status.exit_code, status.signal) == (ContainerState.EXITED, 137, 9)


async def test_stop_without_time_kills_at_once(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sleep", "1000")
    await runtime.stop_container(container_id, 0)
    assert (await runtime.container_status(container_id)).exit_code == 137


async def test_stopping_a_sandbox_ends_its_containers(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sleep", "1000")
    status = await runtime.container_status(container_id)
    await runtime.stop_pod_sandbox(status.sandbox_id)
    assert (await wait_exited(runtime, container_id)).exit_code == 137
    await runtime.remove_pod_sandbox(status.sandbox_id)
    with pytest.raises(RuntimeServiceError) as gone:
        await runtime.container_status(container_id)
    assert gone.value.reason == "NotFound"


async def test_remove_container_forgets_it(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "true")
    await wait_exited(runtime, container_id)
    await runtime.remove_container(container_id)
    await runtime.remove_container(container_id)
    assert await runtime.list_containers() == []


def log_entries(path: Path) -> list[LogEntry | None]:
    return [parse_line(line) for line in path.read_bytes().splitlines()]


async def test_output_is_logged_in_the_format_of_the_cri(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sh", "-c", "echo one; echo two >&2; echo three")
    status = await wait_exited(runtime, container_id)
    assert status.log_path == str(tmp_path / "pod-logs" / "app" / "0.log")
    entries = log_entries(Path(status.log_path))
    assert sorted((entry.stream, entry.content, entry.partial) for entry in entries if entry is not None) == [
        ("stderr", b"two", False),
        ("stdout", b"one", False),
        ("stdout", b"three", False),
    ]


async def test_wait_change_tells_of_an_exit(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sleep", "0.3")
    async with asyncio.timeout(5):
        while (await runtime.container_status(container_id)).state is ContainerState.RUNNING:
            await runtime.wait_change(5)


async def test_wait_change_times_out(runtime: RuntimeService) -> None:
    begun = time.monotonic()
    assert await runtime.wait_change(0.1) is False
    assert time.monotonic() - begun < 2


async def test_exec_sync_gives_output_and_code(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sleep", "1000")
    result = await runtime.exec_sync(container_id, ("sh", "-c", "echo out; echo err >&2; exit 3"), 10)
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


async def test_exec_sync_is_killed_at_its_timeout(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sleep", "1000")
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await runtime.exec_sync(container_id, ("sleep", "30"), 0.3)
    assert time.monotonic() - begun < 5


async def test_exec_streams(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sleep", "1000")
    command = ("sh", "-c", "cat; echo done >&2; exit 5")
    process = await runtime.exec(container_id, command, stdin=True, stdout=True, stderr=True, tty=False)
    try:
        os.write(process.stdin, b"hello\n")
        os.close(process.stdin)
        assert await read_all(process.stdout) == b"hello\n"
        assert await read_all(process.stderr) == b"done\n"
        assert await runtime.wait_exec(process) == 5
    finally:
        close(process.stdout, process.stderr)


async def test_exec_without_streams_has_none(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sleep", "1000")
    process = await runtime.exec(container_id, ("true",), stdin=False, stdout=False, stderr=False, tty=False)
    assert (process.stdin, process.stdout, process.stderr) == (-1, -1, -1)
    assert await runtime.wait_exec(process) == 0


async def test_exec_with_a_terminal(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sleep", "1000")
    command = ("sh", "-c", "test -t 0 && test -t 1 && echo terminal")
    process = await runtime.exec(container_id, command, stdin=True, stdout=True, stderr=False, tty=True)
    try:
        assert process.stderr == -1
        assert b"terminal" in await read_all(process.stdout)
        assert await runtime.wait_exec(process) == 0
    finally:
        close(process.stdin, process.stdout)


async def test_exec_of_a_killed_process_is_128_and_the_signal(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "sleep", "1000")
    command = ("sh", "-c", "kill -9 $$")
    process = await runtime.exec(container_id, command, stdin=False, stdout=False, stderr=False, tty=False)
    assert await runtime.wait_exec(process) == 137


async def test_exec_needs_a_running_container(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "true")
    await wait_exited(runtime, container_id)
    with pytest.raises(RuntimeServiceError):
        await runtime.exec_sync(container_id, ("true",), 5)


async def test_attach_sees_output_and_feeds_stdin(runtime: RuntimeService, tmp_path: Path) -> None:
    container_id = await started(runtime, tmp_path, "cat", stdin=True)
    process = await runtime.attach(container_id)
    try:
        os.write(process.stdin, b"ping\n")
        os.set_blocking(process.stdout, True)
        assert await asyncio.wait_for(asyncio.to_thread(os.read, process.stdout, 100), 5) == b"ping\n"
    finally:
        close(process.stdin, process.stdout, process.stderr)


async def test_two_sandboxes_have_two_addresses(runtime: RuntimeService, tmp_path: Path) -> None:
    await runtime.run_pod_sandbox(sandbox(tmp_path, "one"))
    await runtime.run_pod_sandbox(sandbox(tmp_path, "two"))
    ips = [status.ips for status in await runtime.list_pod_sandboxes()]
    assert len(set(ips)) == 2
