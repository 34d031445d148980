"""The node's CNI daemon: answers the executed plugin over a Unix socket.

It exists for speed (no interpreter start, no file to parse, links deleted in the background) and keeps nothing that is
not on disk: killed at any moment and started again, it goes on from the leases in `store`. Requests for one container
run one after the other, GC alone, everything else side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from dataclasses import dataclass

from podnet.cni.plugin import Node, Plugin
from podnet.cni.removal import LinkRemover
from podnet.cni.request import Request, Response, error_answer
from podnet.cni.store import LeaseStore
from podnet.cni.types import DECODING_FAILURE, CNIError
from podnet.cni.wire import REQUEST_BYTES_MAX, parse_request, render_response
from podnet.topology.gate import Gate
from podnet.topology.kernel import Kernel, KernelError, Netns
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.paths import NodePaths

LOG = logging.getLogger(__name__)
_BACKLOG = 1024
_REQUEST_TIMEOUT_S = 30.0
_REPAIR_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True)
class CNIDaemonConfig:
    """`netns`: the node's network namespace, "" when the daemon runs in it."""

    paths: NodePaths
    netns: Netns = ""


async def run_cni_daemon(config: CNIDaemonConfig, kernel: Kernel | None = None) -> None:
    """Serve `paths.cni_socket` until cancelled."""
    kernel = kernel or LinuxKernel()
    store = LeaseStore(config.paths.cni_state_dir)
    with (
        contextlib.closing(store),
        LinkRemover(kernel, config.netns) as remover,
        contextlib.ExitStack() as held,
    ):
        node = Node(kernel, store, config.paths.subnet_env, remover.remove, time.monotonic, config.netns)
        plugin = held.enter_context(contextlib.closing(Plugin(node)))
        reclaimed = plugin.reclaim_after_reboot()
        if reclaimed:
            LOG.info("the node is new: %d addresses of its last life are free again", reclaimed)
        service = _Service(plugin)
        path = config.paths.cni_socket
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        server = await asyncio.start_unix_server(service.connected, path, backlog=_BACKLOG)
        # Whoever may connect may rewire the node.
        os.chmod(path, 0o600)
        LOG.info("CNI daemon listens on %s", path)
        async with server, asyncio.TaskGroup() as group:
            group.create_task(service.repair_for_ever())
            await server.serve_forever()


class _Service:
    """Connections in, answers out, in an order that the spec allows."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._gate = Gate()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection is one call."""
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                data = await _read_all(reader)
            writer.write(render_response(await self.answer(data)))
            await writer.drain()
            # The caller reads to the end of the stream. Closing alone does not end it while a child that this process
            # forked meanwhile still holds a copy of the connection; this does.
            writer.write_eof()
        except (ConnectionError, TimeoutError) as error:
            LOG.warning("a caller of the CNI daemon went away: %s", error)
        finally:
            writer.close()

    async def answer(self, data: bytes) -> Response:
        """Decode, wait for this call's turn, act."""
        try:
            call = parse_request(data)
        except ValueError as error:
            return error_answer(CNIError(DECODING_FAILURE, "cut short on its way to the daemon", str(error)), b"")
        async with self._turn(call):
            response = await self._plugin.handle(call)
        if response.exit_code:
            verb, container = call.env.get("CNI_COMMAND"), call.env.get("CNI_CONTAINERID", "the node")
            # A STATUS that says "not yet" is an answer like any other.
            level = logging.INFO if verb == "STATUS" else logging.WARNING
            LOG.log(level, "CNI %s of %s failed: %s", verb, container, " ".join(response.stdout.decode().split()))
        return response

    async def repair_for_ever(self) -> None:
        """Rules of hostPorts that were flushed by hand come back, as those of Services do."""
        while True:
            await asyncio.sleep(_REPAIR_INTERVAL_S)
            try:
                async with self._gate.alone():
                    mended = self._plugin.repair_host_ports()
                if mended:
                    LOG.warning("hostPorts were changed by others; %d written again", mended)
            except (CNIError, KernelError) as error:
                LOG.warning("hostPorts could not be looked at: %s", error)

    def _turn(self, call: Request) -> contextlib.AbstractAsyncContextManager[None]:
        if call.env.get("CNI_COMMAND") == "GC":
            return self._gate.alone()
        return self._gate.one(call.env.get("CNI_CONTAINERID", ""))


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while chunk := await reader.read(1 << 16):
        data += chunk
        if len(data) > REQUEST_BYTES_MAX:
            break
    return bytes(data)
