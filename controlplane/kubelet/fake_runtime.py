"""A RuntimeService in memory, with the real one's semantics, for tests of the kubelet.

Containers run `fake_program`s; execs are real child processes, because their streams are the point. It is trusted only
because it passes tests/contract/test_cri.py together with the runtime that has namespaces. Tests may script it: images
that are missing, sandboxes that fail or die, containers that exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from podnet.controlplane.kubelet.cri import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    ExecProcess,
    ExecResult,
    RuntimeServiceError,
    SandboxConfig,
    SandboxState,
    SandboxStatus,
)
from podnet.controlplane.kubelet.fake_program import KNOWN, FakeProgram
from podnet.controlplane.kubelet.timestamps import rfc3339_nano

IMAGES = frozenset({"busybox", "pause", "alpine", "debian", "nginx", "agnhost"})


@dataclass(slots=True)
class _Container:
    status: ContainerStatus
    sandbox: SandboxStatus
    program: FakeProgram | None = None
    task: asyncio.Task[None] | None = None
    signal: int = 0
    listeners: list[tuple[int, int]] = field(default_factory=list)


def image_name(image: str) -> str:
    """`registry/x/busybox:1.36` -> `busybox`."""
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0]


class FakeRuntime:
    """See the module. `problem` is what status() answers; `calls` is every mutating call, for tests to look at."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self.problem = ""
        self.sandbox_errors: list[RuntimeServiceError] = []
        self.calls: list[tuple[str, str]] = []
        self.images = set(IMAGES)
        self._clock = clock
        self._sandboxes: dict[str, SandboxStatus] = {}
        self._containers: dict[str, _Container] = {}
        self._execs: dict[str, asyncio.subprocess.Process] = {}
        self._changed = asyncio.Event()
        self._addresses = 1

    # What tests may do to it.

    def exit_container(self, name: str, code: int) -> None:
        """Let the running container of that name exit."""
        for container in self._containers.values():
            if container.status.config.name == name and container.status.state is ContainerState.RUNNING:
                self._exited(container, code)

    def kill_sandbox(self, sandbox_id: str) -> None:
        """The sandbox dies, and all that runs in it."""
        self._kill_all(sandbox_id)
        self._sandboxes[sandbox_id] = replace(self._sandboxes[sandbox_id], state=SandboxState.NOTREADY)
        self._changed.set()

    # RuntimeService.

    async def version(self) -> tuple[str, str]:
        return "podnet", "0.1.0"

    async def status(self) -> str:
        return self.problem

    async def run_pod_sandbox(self, config: SandboxConfig) -> str:
        self.calls.append(("run_pod_sandbox", config.pod_name))
        if self.sandbox_errors:
            raise self.sandbox_errors.pop(0)
        sandbox_id = uuid.uuid4().hex
        ips: tuple[str, ...] = ()
        if not config.host_network:
            self._addresses += 1
            ips = (f"10.244.1.{self._addresses % 250}",)
        self._sandboxes[sandbox_id] = SandboxStatus(
            sandbox_id, config, SandboxState.READY, self._clock(), ips, f"/run/netns/{sandbox_id[:12]}"
        )
        return sandbox_id

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            return
        self.calls.append(("stop_pod_sandbox", sandbox.config.pod_name))
        self._kill_all(sandbox_id)
        self._sandboxes[sandbox_id] = replace(sandbox, state=SandboxState.NOTREADY, ips=())

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await self.stop_pod_sandbox(sandbox_id)
        self._sandboxes.pop(sandbox_id, None)
        for container_id in [i for i, c in self._containers.items() if c.status.sandbox_id == sandbox_id]:
            del self._containers[container_id]

    async def list_pod_sandboxes(self) -> list[SandboxStatus]:
        return [*self._sandboxes.values()]

    async def pull_image(self, image: str) -> str:
        if image_name(image) not in self.images:
            raise RuntimeServiceError("ErrImagePull", f'image "{image}" is not in the catalogue')
        return f"podnet.dev/{image_name(image)}"

    async def list_images(self) -> list[str]:
        return sorted(self.images)

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.state is not SandboxState.READY:
            raise RuntimeServiceError("CreateContainerError", f"sandbox {sandbox_id} is not ready")
        image_ref = await self.pull_image(config.image)
        container_id = uuid.uuid4().hex
        directory = sandbox.config.log_directory
        log_path = str(Path(directory, config.log_path)) if directory and config.log_path else ""
        status = ContainerStatus(
            container_id, sandbox_id, config, ContainerState.CREATED, image_ref, self._clock(), log_path=log_path
        )
        self._containers[container_id] = _Container(status, sandbox)
        return container_id

    async def start_container(self, container_id: str) -> None:
        container = self._get(container_id)
        if container.status.state is not ContainerState.CREATED:
            raise RuntimeServiceError("RunContainerError", f"container {container_id} is not in created state")
        config = container.status.config
        argv = [*config.command, *config.args] or ["pause"]
        now = self._clock()
        if argv[0] not in KNOWN:
            message = f'exec: "{argv[0]}": executable file not found in $PATH'
            container.status = replace(
                container.status,
                state=ContainerState.EXITED,
                started_at_ns=now,
                finished_at_ns=now,
                exit_code=128,
                reason="StartError",
                message=message,
            )
            raise RuntimeServiceError("RunContainerError", message)
        container.program = FakeProgram(argv, lambda stream, data: self._output(container, stream, data))
        container.status = replace(container.status, state=ContainerState.RUNNING, started_at_ns=now, pid=os.getpid())
        container.task = asyncio.create_task(self._run(container), name=f"fake container {config.name}")

    async def stop_container(self, container_id: str, timeout_s: float) -> None:
        container = self._get(container_id)
        if container.status.state is not ContainerState.RUNNING or container.task is None:
            return
        self.calls.append(("stop_container", container.status.config.name))
        ignores = container.program is not None and container.program.ignores_term
        if ignores and timeout_s > 0:
            await asyncio.wait([container.task], timeout=timeout_s)
        container.signal = int(signal.SIGKILL if ignores or timeout_s <= 0 else signal.SIGTERM)
        self._exited(container, 128 + container.signal)

    async def remove_container(self, container_id: str) -> None:
        container = self._containers.get(container_id)
        if container is not None:
            if container.status.state is ContainerState.RUNNING:
                raise RuntimeServiceError("RemoveContainerError", f"container {container_id} is running")
            del self._containers[container_id]

    async def list_containers(self) -> list[ContainerStatus]:
        return [container.status for container in self._containers.values()]

    async def container_status(self, container_id: str) -> ContainerStatus:
        return self._get(container_id).status

    async def exec_sync(self, container_id: str, command: tuple[str, ...], timeout_s: float) -> ExecResult:
        self._running(container_id)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, start_new_session=True)
        try:
            async with asyncio.timeout(timeout_s or None):
                stdout, stderr = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return ExecResult(_exit_code(process.returncode), stdout, stderr)

    async def exec(
        self, container_id: str, command: tuple[str, ...], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> ExecProcess:
        self._running(container_id)
        if tty:
            return await self._exec_tty(command)
        in_child, in_near = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), -1)
        out_near, out_child = os.pipe() if stdout else (-1, os.open(os.devnull, os.O_WRONLY))
        err_near, err_child = os.pipe() if stderr else (-1, os.open(os.devnull, os.O_WRONLY))
        try:
            return await self._spawn(command, (in_child, out_child, err_child), (in_near, out_near, err_near))
        finally:
            for descriptor in (in_child, out_child, err_child):
                os.close(descriptor)

    async def wait_exec(self, process: ExecProcess) -> int:
        return _exit_code(await self._execs[process.id].wait())

    async def attach(self, container_id: str) -> ExecProcess:
        container = self._running(container_id)
        near_out, far_out = os.pipe()
        near_err, far_err = os.pipe()
        container.listeners.append((far_out, far_err))
        near_in = -1
        if container.status.config.stdin and container.program is not None:
            far_in, near_in = os.pipe()
            self._feed(container.program, far_in)
        return ExecProcess(uuid.uuid4().hex, container.status.pid, near_in, near_out, near_err)

    async def wait_change(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def close(self) -> None:
        """End the tasks: unlike real sandboxes these cannot outlive the runtime."""
        tasks = [container.task for container in self._containers.values() if container.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Inside.

    def _get(self, container_id: str) -> _Container:
        container = self._containers.get(container_id)
        if container is None:
            raise RuntimeServiceError("NotFound", f"container {container_id} not found")
        return container

    def _running(self, container_id: str) -> _Container:
        container = self._get(container_id)
        if container.status.state is not ContainerState.RUNNING:
            raise RuntimeServiceError("ExecError", f"container {container_id} is not running")
        return container

    async def _run(self, container: _Container) -> None:
        if container.program is not None:
            self._exited(container, await container.program.run())

    def _exited(self, container: _Container, code: int) -> None:
        if container.status.state is not ContainerState.RUNNING:
            return
        container.status = replace(
            container.status,
            state=ContainerState.EXITED,
            finished_at_ns=self._clock(),
            exit_code=code,
            signal=container.signal,
            reason="Completed" if code == 0 else "Error",
            pid=0,
        )
        for descriptors in container.listeners:
            for descriptor in descriptors:
                os.close(descriptor)
        container.listeners.clear()
        if container.task is not None and container.task is not asyncio.current_task():
            container.task.cancel()
        self._changed.set()

    def _kill_all(self, sandbox_id: str) -> None:
        for container in self._containers.values():
            if container.status.sandbox_id == sandbox_id:
                container.signal = int(signal.SIGKILL)
                self._exited(container, 137)

    def _output(self, container: _Container, stream: str, data: bytes) -> None:
        for out, err in container.listeners:
            os.write(out if stream == "stdout" else err, data)
        if not container.status.log_path:
            return
        path = Path(container.status.log_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            for line in data.splitlines():
                log.write(f"{rfc3339_nano(self._clock())} {stream} F ".encode() + line + b"\n")

    @staticmethod
    def _feed(program: FakeProgram, descriptor: int) -> None:
        loop = asyncio.get_running_loop()

        def readable() -> None:
            data = os.read(descriptor, 4096)
            if not data:
                loop.remove_reader(descriptor)
                os.close(descriptor)
            program.stdin.put_nowait(data)

        loop.add_reader(descriptor, readable)

    async def _exec_tty(self, command: tuple[str, ...]) -> ExecProcess:
        master, slave = pty.openpty()
        try:
            return await self._spawn(command, (slave, slave, slave), (master, master, -1))
        finally:
            os.close(slave)

    async def _spawn(
        self, command: tuple[str, ...], child: tuple[int, int, int], near: tuple[int, int, int]
    ) -> ExecProcess:
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=child[0], stdout=child[1], stderr=child[2], start_new_session=True
            )
        except FileNotFoundError as error:
            for descriptor in set(near) - {-1}:
                os.close(descriptor)
            raise RuntimeServiceError(
                "ExecError", f'exec: "{command[0]}": executable file not found in $PATH'
            ) from error
        exec_id = uuid.uuid4().hex
        self._execs[exec_id] = process
        return ExecProcess(exec_id, process.pid, *near)


def _exit_code(returncode: int | None) -> int:
    code = -signal.SIGKILL if returncode is None else returncode
    return 128 - code if code < 0 else code
