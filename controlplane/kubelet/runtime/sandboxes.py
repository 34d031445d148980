"""Every sandbox of the node, kept in step with its shim: each has one open connection on which it says what ended.

The end of the connection is the end of the pod's processes, because the kernel closes it when the shim dies, however
it dies. What a message says is only that the disk has news.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator

from podnet.controlplane.kubelet.cri import ContainerState, RuntimeServiceError
from podnet.controlplane.kubelet.runtime import protocol
from podnet.controlplane.kubelet.runtime.inventory import KnownContainer, KnownSandbox, recover_sandbox
from podnet.controlplane.kubelet.runtime.layout import SandboxFiles
from podnet.topology.paths import NodePaths


class Sandboxes:
    """By id. `changed` is set whenever a container has exited or a sandbox has died."""

    def __init__(self, paths: NodePaths) -> None:
        self._paths = paths
        self._known: dict[str, KnownSandbox] = {}
        self.changed = asyncio.Event()

    def __iter__(self) -> Iterator[KnownSandbox]:
        return iter(tuple(self._known.values()))

    def recover(self) -> None:
        """Take over what is on disk, and connect to the shims that live."""
        os.makedirs(self._paths.sandboxes_dir, exist_ok=True)
        for sandbox_id in sorted(os.listdir(self._paths.sandboxes_dir)):
            files = SandboxFiles.of(self._paths, sandbox_id)
            sandbox = recover_sandbox(files)
            if sandbox is None:  # its creation was cut short before anything existed
                shutil.rmtree(files.directory, ignore_errors=True)
                continue
            self.add(sandbox)
            self.subscribe(sandbox)

    def add(self, sandbox: KnownSandbox) -> None:
        """Know it from now on."""
        self._known[sandbox.files.id] = sandbox

    def forget(self, sandbox: KnownSandbox) -> None:
        """Know it no more."""
        self.unsubscribe(sandbox)
        self._known.pop(sandbox.files.id, None)

    def get(self, sandbox_id: str) -> KnownSandbox | None:
        """The sandbox, if there is one of that id."""
        return self._known.get(sandbox_id)

    def sandbox(self, sandbox_id: str) -> KnownSandbox:
        """The sandbox; RuntimeServiceError("NotFound")."""
        sandbox = self._known.get(sandbox_id)
        if sandbox is None:
            raise RuntimeServiceError("NotFound", f'sandbox "{sandbox_id}" not found')
        return sandbox

    def container(self, container_id: str) -> tuple[KnownSandbox, KnownContainer]:
        """The container and its sandbox; RuntimeServiceError("NotFound")."""
        for sandbox in self._known.values():
            container = sandbox.containers.get(container_id)
            if container is not None:
                return sandbox, container
        raise RuntimeServiceError("NotFound", f'container "{container_id}" not found')

    def subscribe(self, sandbox: KnownSandbox) -> None:
        """Listen to the shim, and learn what happened while nobody did."""
        try:
            events = protocol.connect(sandbox.files.socket)
        except OSError:
            self.shim_gone(sandbox)
            return
        events.setblocking(False)
        sandbox.events = events
        try:
            protocol.send(events, {"op": "events"})
        except OSError:
            self.shim_gone(sandbox)
            return
        asyncio.get_running_loop().add_reader(events.fileno(), self._heard, sandbox)

    def unsubscribe(self, sandbox: KnownSandbox) -> None:
        """Listen no more; nothing happens to the sandbox."""
        if sandbox.events is not None:
            asyncio.get_running_loop().remove_reader(sandbox.events.fileno())
            sandbox.events.close()
            sandbox.events = None

    def shim_gone(self, sandbox: KnownSandbox) -> None:
        """Its processes are dead: NOTREADY, and what ran has exited."""
        self.unsubscribe(sandbox)
        if sandbox.ready:
            sandbox.not_ready()
            self.changed.set()
        for container in sandbox.containers.values():
            container.load()
            if container.lost():
                self.changed.set()

    def _heard(self, sandbox: KnownSandbox) -> None:
        assert sandbox.events is not None, "a reader is removed with its connection"
        try:
            message, _ = protocol.receive(sandbox.events)
        except BlockingIOError:
            return
        except OSError:
            message = None
        if message is None:
            self.shim_gone(sandbox)
        elif message.get("exited") in sandbox.containers:
            sandbox.containers[message["exited"]].load()
            self.changed.set()
        elif "running" in message:
            for container_id, container in sandbox.containers.items():
                if container.status.state is ContainerState.RUNNING and container_id not in message["running"]:
                    container.load()
                    self.changed.set()
