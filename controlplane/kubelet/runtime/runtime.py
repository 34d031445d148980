"""The container runtime: the kubelet's RuntimeService over shims, CNI and a catalogue of programs.

What it knows is on disk and in shims; `PodRuntime` over the same directories finds every sandbox and container again.
Shims tell it what ended; it never polls. Nothing here forks or enters a namespace: the zygote does the one, the shims
the other, so it can live in a process with threads and an event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from podnet.controlplane.kubelet.cni_config import CNIRuntimeError, PodInfo, result_ips
from podnet.controlplane.kubelet.cri import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    ExecProcess,
    ExecResult,
    PortMapping,
    RuntimeServiceError,
    SandboxConfig,
    SandboxState,
    SandboxStatus,
)
from podnet.controlplane.kubelet.images import catalogue, layers
from podnet.controlplane.kubelet.runtime import protocol, shimclient
from podnet.controlplane.kubelet.runtime.bundle import build_spec, check_config
from podnet.controlplane.kubelet.runtime.credentials import refused_user
from podnet.controlplane.kubelet.runtime.execs import collect_exec, open_exec_streams
from podnet.controlplane.kubelet.runtime.inventory import KnownContainer, KnownSandbox
from podnet.controlplane.kubelet.runtime.layout import SandboxFiles, encode, write_json
from podnet.controlplane.kubelet.runtime.processes import drops_signal
from podnet.controlplane.kubelet.runtime.sandboxes import Sandboxes
from podnet.controlplane.kubelet.runtime.shimclient import ShimError, ShimGoneError
from podnet.controlplane.kubelet.runtime.spec import sandbox_hostname
from podnet.controlplane.kubelet.runtime.stopping import wait_receptive
from podnet.controlplane.kubelet.runtime.zygote import Zygote
from podnet.topology.cgroups import CgroupDirectory, sweep
from podnet.topology.linux import syscalls
from podnet.topology.paths import NodePaths

VERSION = ("podnet", "0.1.0")
STOP_TIMEOUT_S = 30.0
_RUNC = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: error during container init: "
)
_RUNC_EXEC = "OCI runtime exec failed: exec failed: unable to start container process: "


class NetworkRuntime(Protocol):
    """The part of CNI's runtime (`libcni.CNIRuntime`) that a sandbox needs."""

    async def add(
        self,
        container_id: str,
        netns: str,
        ifname: str = "eth0",
        pod: PodInfo = ...,
        port_mappings: Sequence[PortMapping] = (),
    ) -> dict[str, Any]:
        """CNI ADD."""
        ...

    async def delete(self, container_id: str, netns: str = "", ifname: str = "eth0", pod: PodInfo = ...) -> None:
        """CNI DEL."""
        ...

    async def status(self) -> None:
        """CNI STATUS."""
        ...


class PodRuntime:
    """RuntimeService with namespaces and real processes; one object a node."""

    def __init__(
        self, paths: NodePaths, zygote: Zygote, cni: NetworkRuntime, cgroups: Sequence[CgroupDirectory] = ()
    ) -> None:
        """`cgroups`: where containers' limits can be set, as this process sees it."""
        self._paths = paths
        self._zygote = zygote
        self._cni = cni
        self._sandboxes = Sandboxes(paths)
        self._layers: Path = layers.layers_directory(paths.state)
        self._cgroups = cgroups
        self._cgroup_prefix = f"{paths.state.name}_"
        self._opened = False
        self._id_map = Path("/proc/self/uid_map").read_text(encoding="ascii")

    def open(self) -> None:
        """Find what an earlier runtime left. Every method calls it; calling it again does nothing."""
        if self._opened:
            return
        self._opened = True
        os.makedirs(self._paths.run, exist_ok=True)
        layers.write_layers(self._layers)
        self._sandboxes.recover()
        self._sweep_cgroups()

    @property
    def _known(self) -> Sandboxes:
        self.open()
        return self._sandboxes

    async def version(self) -> tuple[str, str]:
        """As CRI."""
        return VERSION

    async def status(self) -> str:
        """As CRI: why the node's network is not ready, in the words a kubelet puts into its Ready condition."""
        try:
            await self._cni.status()
        except CNIRuntimeError as error:
            return (
                f"container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:{error}"
            )
        return ""

    # --- sandboxes ---

    async def run_pod_sandbox(self, config: SandboxConfig) -> str:
        """As CRI."""
        sandbox_id = secrets.token_hex(32)
        files = SandboxFiles.of(self._paths, sandbox_id)
        os.makedirs(files.containers)
        created_at_ns = time.time_ns()
        write_json(files.config, {"config": encode(config), "created_at_ns": created_at_ns})
        status = SandboxStatus(
            sandbox_id, config, SandboxState.NOTREADY, created_at_ns, (), "" if config.host_network else files.netns_pin
        )
        sandbox = KnownSandbox(files, status)
        self._known.add(sandbox)
        try:
            await self._start_shim(sandbox)
            ips = await self._attach_network(sandbox)
        except BaseException as error:
            with contextlib.suppress(RuntimeServiceError, OSError):
                await self._tear_down(sandbox)
            self._forget(sandbox)
            if isinstance(error, RuntimeServiceError) or not isinstance(error, Exception):
                raise
            raise RuntimeServiceError("FailedCreatePodSandBox", f"failed to create pod sandbox: {error}") from error
        write_json(files.network, {"ips": list(ips)})
        sandbox.status = replace(status, state=SandboxState.READY, ips=ips)
        self._known.subscribe(sandbox)
        return sandbox_id

    async def _start_shim(self, sandbox: KnownSandbox) -> None:
        answer = await self._ask_for_shim(sandbox)
        if answer is None and not self._zygote.alive():  # it died with the request in its hands: the next one gets it
            answer = await self._ask_for_shim(sandbox)
        if answer is None:
            raise RuntimeServiceError("FailedCreatePodSandBox", "the pod's pause process died while it was starting")
        if "error" in answer:
            raise RuntimeServiceError("FailedCreatePodSandBox", str(answer["error"]))

    async def _ask_for_shim(self, sandbox: KnownSandbox) -> dict[str, Any] | None:
        reply = self._zygote.start_shim(self._paths, sandbox.files.id)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                answer, _ = await shimclient.receive(reply)
        finally:
            reply.close()
        return answer

    async def _attach_network(self, sandbox: KnownSandbox) -> tuple[str, ...]:
        config = sandbox.status.config
        if config.host_network:
            return ()
        try:
            result = await self._cni.add(
                sandbox.files.id,
                sandbox.files.netns_pin,
                "eth0",
                _pod_info(config),
                config.port_mappings,
            )
        except CNIRuntimeError as error:
            raise RuntimeServiceError(
                "FailedCreatePodSandBox",
                f'failed to create pod sandbox: failed to setup network for sandbox "{sandbox.files.id}": {error}',
            ) from error
        return tuple(str(address) for address in result_ips(result))

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """As CRI."""
        sandbox = self._known.get(sandbox_id)
        if sandbox is None or os.path.exists(sandbox.files.stopped):
            return
        async with sandbox.lock:
            await self._tear_down(sandbox)
            Path(sandbox.files.stopped).touch()

    async def _tear_down(self, sandbox: KnownSandbox) -> None:
        """Processes, then network, then the namespace's pin: each step may have been done before."""
        files = sandbox.files
        sandbox.not_ready()
        with contextlib.suppress(ShimGoneError, ShimError):
            await shimclient.request(files.socket, {"op": "shutdown"}, timeout_s=STOP_TIMEOUT_S)
        self._known.shim_gone(sandbox)
        if not sandbox.status.config.host_network:
            netns = files.netns_pin if os.path.exists(files.netns_pin) else ""
            try:
                await self._cni.delete(files.id, netns, "eth0", _pod_info(sandbox.status.config))
            except CNIRuntimeError as error:
                raise RuntimeServiceError(
                    "KillPodSandboxError", f'failed to destroy network for sandbox "{files.id}": {error}'
                ) from error
            syscalls.delete_netns(files.netns_pin)
        self._sweep_cgroups()
        shutil.rmtree(files.shm, ignore_errors=True)
        Path(files.socket).unlink(missing_ok=True)

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """As CRI."""
        await self.stop_pod_sandbox(sandbox_id)
        sandbox = self._known.get(sandbox_id)
        if sandbox is not None:
            self._forget(sandbox)

    def _forget(self, sandbox: KnownSandbox) -> None:
        self._known.shim_gone(sandbox)
        self._known.forget(sandbox)
        shutil.rmtree(sandbox.files.directory, ignore_errors=True)

    async def list_pod_sandboxes(self) -> list[SandboxStatus]:
        """As CRI."""
        return [sandbox.status for sandbox in self._known]

    # --- images ---

    async def pull_image(self, image: str) -> str:
        """As CRI."""
        try:
            return catalogue.resolve(image).ref
        except catalogue.UnknownImageError as error:
            invalid = isinstance(error, catalogue.InvalidImageNameError)
            raise RuntimeServiceError("InvalidImageName" if invalid else "ErrImagePull", str(error)) from error

    async def list_images(self) -> list[str]:
        """As CRI."""
        return catalogue.known_images()

    # --- containers ---

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        """As CRI."""
        sandbox = self._known.sandbox(sandbox_id)
        if not sandbox.ready:
            raise RuntimeServiceError("CreateContainerError", f'sandbox "{sandbox_id}" is not ready')
        try:
            entry = catalogue.resolve(config.image)
        except catalogue.UnknownImageError as error:
            raise RuntimeServiceError("CreateContainerError", str(error)) from error
        check_config(config)
        container_id = secrets.token_hex(32)
        files = sandbox.files.container(container_id)
        os.makedirs(files.directory)
        hostname = (
            os.uname().nodename if sandbox.status.config.host_network else sandbox_hostname(sandbox.status.config)
        )
        Path(files.hostname).write_text(f"{hostname}\n", encoding="utf-8")
        spec = build_spec(
            sandbox.status.config,
            sandbox.files,
            container_id,
            config,
            entry,
            self._layers,
            hostname,
            self._cgroups,
            self._cgroup_prefix,
        )
        if spec.termination_log:
            Path(files.termination_log).touch()
            os.chmod(files.termination_log, 0o666)
        write_json(files.config, encode(config))
        write_json(files.spec, encode(spec))
        status = ContainerStatus(
            container_id,
            sandbox_id,
            config,
            ContainerState.CREATED,
            image_ref=entry.ref,
            created_at_ns=time.time_ns(),
            log_path=spec.log_path,
            writable_layer=files.scratch,
        )
        write_json(files.status, _status_file(status))
        sandbox.containers[container_id] = KnownContainer(files, status)
        return container_id

    async def start_container(self, container_id: str) -> None:
        """As CRI."""
        sandbox, container = self._known.container(container_id)
        async with sandbox.lock:
            if container.status.state is not ContainerState.CREATED:
                state = container.status.state.value
                raise RuntimeServiceError("RunContainerError", f'container "{container_id}" is in {state} state')
            config = container.status.config
            refusal = refused_user(config.run_as_user, config.run_as_group, self._id_map)
            if refusal:
                self._start_failed(container, refusal)
            try:
                await shimclient.request(sandbox.files.socket, {"op": "start", "id": container_id})
            except ShimError as error:
                self._start_failed(container, f"{_RUNC}{error}: unknown")
            except ShimGoneError as error:
                self._start_failed(container, f"sandbox {sandbox.files.id} is not running: {error}")
            container.load()

    def _start_failed(self, container: KnownContainer, message: str) -> None:
        """As containerd: an exited container with code 128 and reason StartError, and an error for the caller."""
        container.status = replace(
            container.status,
            state=ContainerState.EXITED,
            exit_code=128,
            reason="StartError",
            message=message,
            finished_at_ns=time.time_ns(),
        )
        write_json(container.files.status, _status_file(container.status))
        container.exited.set()
        raise RuntimeServiceError("RunContainerError", message)

    async def stop_container(self, container_id: str, timeout_s: float) -> None:
        """As CRI."""
        try:
            sandbox, container = self._known.container(container_id)
        except RuntimeServiceError:
            return
        if container.status.state is not ContainerState.RUNNING:
            return
        if timeout_s > 0:
            stop_signal = catalogue.resolve(container.status.config.image).stop_signal
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    dropped = drops_signal(container.status.pid, stop_signal)
                    await self._kill(sandbox, container_id, stop_signal)
                    if dropped:
                        await wait_receptive(container, stop_signal)
                        await self._kill(sandbox, container_id, stop_signal)
                    await container.exited.wait()
                return
        await self._kill(sandbox, container_id, 9)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await container.exited.wait()
        except TimeoutError as error:
            message = f'container "{container_id}" did not end within {STOP_TIMEOUT_S:g} s of SIGKILL'
            raise RuntimeServiceError("KillContainerError", message) from error

    async def _kill(self, sandbox: KnownSandbox, child_id: str, number: int) -> None:
        with contextlib.suppress(ShimError, ShimGoneError):
            await shimclient.request(sandbox.files.socket, {"op": "kill", "id": child_id, "signal": number})

    async def remove_container(self, container_id: str) -> None:
        """As CRI: a running one is killed first."""
        await self.stop_container(container_id, 0)
        with contextlib.suppress(RuntimeServiceError):
            sandbox, container = self._known.container(container_id)
            del sandbox.containers[container_id]
            shutil.rmtree(container.files.directory, ignore_errors=True)
            if container.status.config.memory_limit_bytes or container.status.config.cpu_limit_m:
                self._sweep_cgroups()

    def _sweep_cgroups(self) -> None:
        """Remove this node's groups in which nothing runs: of containers that ended with their shim."""
        for directory in self._cgroups:
            sweep(directory.path, self._cgroup_prefix)

    async def list_containers(self) -> list[ContainerStatus]:
        """As CRI."""
        return [container.status for sandbox in self._known for container in sandbox.containers.values()]

    async def container_status(self, container_id: str) -> ContainerStatus:
        """As CRI."""
        return self._known.container(container_id)[1].status

    # --- exec and attach ---

    async def exec_sync(self, container_id: str, command: tuple[str, ...], timeout_s: float) -> ExecResult:
        """As CRI. `timeout_s` 0 means no limit."""
        process = await self.exec(container_id, command, stdin=False, stdout=True, stderr=True, tty=False)
        sandbox, _ = self._known.container(container_id)
        try:
            return await collect_exec(process, self.wait_exec(process), timeout_s)
        except TimeoutError:
            await self._kill(sandbox, process.id.partition("/")[2], 9)
            raise TimeoutError(f"command {command[0]!r} timed out after {timeout_s:g} s") from None
        except asyncio.CancelledError:
            await self._kill(sandbox, process.id.partition("/")[2], 9)
            raise

    async def exec(
        self, container_id: str, command: tuple[str, ...], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> ExecProcess:
        """As CRI. The id is `<container>/<exec>`."""
        sandbox, container = self._known.container(container_id)
        if container.status.state is not ContainerState.RUNNING:
            raise RuntimeServiceError("ExecError", f'container "{container_id}" is not running')
        if not command:
            raise RuntimeServiceError("ExecError", "exec needs a command")
        exec_id = secrets.token_hex(8)
        message = {"op": "exec", "id": container_id, "exec": exec_id, "argv": list(command), "tty": tty}
        near, far = open_exec_streams(stdin=stdin and not tty, stdout=stdout and not tty, stderr=stderr and not tty)
        message["streams"] = list(far)
        try:
            answer, received = await self._shim_exec(sandbox, message, list(far.values()))
        except BaseException:
            protocol.close_all(list(near.values()))
            raise
        finally:
            protocol.close_all(list(far.values()))
        name = f"{container_id}/{exec_id}"
        if tty:
            return ExecProcess(name, answer["pid"], received[0], received[0], -1)
        return ExecProcess(name, answer["pid"], near.get("stdin", -1), near.get("stdout", -1), near.get("stderr", -1))

    async def _shim_exec(
        self, sandbox: KnownSandbox, message: dict[str, Any], descriptors: list[int]
    ) -> tuple[dict[str, Any], list[int]]:
        try:
            return await shimclient.request(sandbox.files.socket, message, descriptors)
        except ShimError as error:
            if error.reason == "NotRunning":
                raise RuntimeServiceError("ExecError", f'container "{message["id"]}" is not running') from error
            raise RuntimeServiceError("ExecError", f"{_RUNC_EXEC}{error}: unknown") from error
        except ShimGoneError as error:
            raise RuntimeServiceError("ExecError", f"sandbox is not running: {error}") from error

    async def wait_exec(self, process: ExecProcess) -> int:
        """As CRI. When the whole pod goes, its execs were killed."""
        container_id, _, exec_id = process.id.partition("/")
        sandbox, container = self._known.container(container_id)
        if not exec_id:  # an attach: it ends with the container
            await container.exited.wait()
            return container.status.exit_code
        try:
            answer, _ = await shimclient.request(sandbox.files.socket, {"op": "wait", "exec": exec_id}, timeout_s=None)
        except (ShimError, ShimGoneError):
            return 137
        return int(answer["exit_code"])

    async def attach(self, container_id: str) -> ExecProcess:
        """As CRI. With a tty `stdin` is a copy of the pty's master (for input and TIOCSWINSZ), `stdout` a copy of what
        the shim reads from it."""
        sandbox, container = self._known.container(container_id)
        near, far = open_exec_streams(stdin=False, stdout=True, stderr=not container.status.config.tty)
        message = {"op": "attach", "id": container_id}
        try:
            answer, received = await self._shim_exec(sandbox, message, list(far.values()))
        except BaseException:
            protocol.close_all(list(near.values()))
            raise
        finally:
            protocol.close_all(list(far.values()))
        stdin = received[0] if received else -1
        return ExecProcess(container_id, answer["pid"], stdin, near["stdout"], near.get("stderr", -1))

    # --- changes ---

    async def wait_change(self, timeout_s: float) -> bool:
        """As CRI. A change between two calls is not lost."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._known.changed.wait()
        except TimeoutError:
            return False
        self._known.changed.clear()
        return True

    async def close(self) -> None:
        """As CRI."""
        for sandbox in self._sandboxes:
            self._sandboxes.unsubscribe(sandbox)


def _pod_info(config: SandboxConfig) -> PodInfo:
    return PodInfo(namespace=config.pod_namespace, name=config.pod_name, uid=config.pod_uid)


def _status_file(status: ContainerStatus) -> dict[str, Any]:
    """status.json: everything of a ContainerStatus but what has a file of its own."""
    data = encode(status)
    del data["config"]
    return data | {"state": status.state.value}
