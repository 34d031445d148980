"""One reading of a Corefile in service: its plugins, started; its chains, by listening address.

The rule kept here: an instance is complete before anybody asks it, and is ended only when nobody asks it any more. A
reload makes a second one and swaps them; sockets belong to the server, not to instances.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podnet.dns.config import ServerConfig
from podnet.dns.exchange import Block, Exchange
from podnet.dns.handler import Plugin, Request, Response, Runtime, Served, refuse
from podnet.dns.http import HttpListeners
from podnet.dns.metrics import Registry
from podnet.dns.registry import build_plugins

log = logging.getLogger(__name__)

WILDCARDS = ("0.0.0.0", "::")
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Environment:
    """What instances share: it outlives a reload."""

    metrics: Registry
    http: HttpListeners
    reload: Callable[[], Awaitable[bool]]
    stop: Callable[[str], None]
    corefile: Path | None
    environ: Mapping[str, str]


class Instance:
    """Build it (ConfigError when the Corefile is wrong), `start`, use `exchanges`, `end`."""

    def __init__(self, configs: Sequence[ServerConfig], environment: Environment) -> None:
        self._environment = environment
        self.blocks: list[tuple[ServerConfig, list[Plugin]]] = [
            (
                config,
                build_plugins(config, environment.metrics, corefile=environment.corefile, environ=environment.environ),
            )
            for config in configs
        ]
        self.plugins = [plugin for _, plugins in self.blocks for plugin in plugins]
        self.exchanges = self._exchanges()
        self._observers = self._observers_by_zone()
        self._started = asyncio.Event()
        self._ending = asyncio.Event()
        self._children: list[asyncio.Task[None]] = []
        self._task: asyncio.Task[None] | None = None

    def _exchanges(self) -> dict[tuple[str, int], Exchange]:
        """Which blocks are listed under which address and port."""
        listed: dict[tuple[str, int], list[Block]] = {}
        for config, plugins in self.blocks:
            first = Block.of(config.zones[0].name, plugins)
            for zone in config.zones:
                block = Block(zone.name, plugins, first.chain)
                for host in bound_addresses(plugins):
                    listed.setdefault((host, zone.port), []).append(block)
        debug = any(plugin.name == "debug" for plugin in self.plugins)
        return {address: Exchange(blocks, debug=debug) for address, blocks in listed.items()}

    def _observers_by_zone(self) -> dict[str, list[Plugin]]:
        found: dict[str, list[Plugin]] = {}
        for config, plugins in self.blocks:
            observers = [plugin for plugin in plugins if type(plugin).served is not Plugin.served]
            for zone in config.zones:
                found.setdefault(zone.name, observers)
            if observers:
                found.setdefault("", observers)
        return found

    def served(self, what: Served) -> None:
        """Tell the plugins that count; an answer of no block is told to those of the first that has any."""
        for plugin in self._observers.get(what.zone) or self._observers.get("") or ():
            plugin.served(what)

    async def resolve(self, request: Request) -> Response:
        """Ask the chains of this instance, whatever address they are listed under."""
        best: Block | None = None
        for exchange in self.exchanges.values():
            block = exchange.match(request.name)
            if block is not None and (best is None or len(block.zone) > len(best.zone)):
                best = block
        return await (best.chain if best else refuse)(request)

    async def start(self) -> None:
        """Start every plugin; raises what the first of them raised that cannot."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="dns-instance")
        waiting = asyncio.ensure_future(self._started.wait())
        try:
            await asyncio.wait((self._task, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            try:
                self._task.result()
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None

    async def end(self) -> None:
        """Stop every plugin and all background work."""
        self._ending.set()
        if self._task is not None:
            await self._task

    async def lameduck(self) -> None:
        """Let plugins delay the end while everything is still answered."""
        async with asyncio.TaskGroup() as tasks:
            for plugin in self.plugins:
                tasks.create_task(plugin.lameduck())

    async def _run(self) -> None:
        begun: list[Plugin] = []
        try:
            async with asyncio.TaskGroup() as tasks:

                def spawn(work: Coroutine[object, object, None]) -> asyncio.Task[None]:
                    task = tasks.create_task(_until_cancelled(work))
                    self._children.append(task)
                    return task

                try:
                    for config, plugins in self.blocks:
                        runtime = self._runtime(config, plugins, spawn)
                        for plugin in plugins:
                            begun.append(plugin)
                            await plugin.start(runtime)
                    self._started.set()
                    await self._ending.wait()
                finally:
                    for task in self._children:
                        task.cancel()
        except ExceptionGroup as group:
            if not self._started.is_set():
                raise
            # Background work of a plugin broke: what it should have done is not done, so this is no server any more.
            log.exception("a plugin's background work failed")
            self._environment.stop(f"background work failed: {group.exceptions[0]}")
        finally:
            await _stop(begun)

    def _runtime(
        self, config: ServerConfig, plugins: list[Plugin], spawn: Callable[[Coroutine[object, object, None]], object]
    ) -> Runtime:
        siblings: dict[str, Plugin] = {}
        for plugin in plugins:
            siblings.setdefault(plugin.name, plugin)
        addresses = bound_addresses(plugins)
        return Runtime(
            spawn=spawn,
            metrics=self._environment.metrics,
            siblings=siblings,
            all_plugins=self.plugins,
            resolve=self.resolve,
            http=self._environment.http,
            listening=[(host, port) for port in sorted({zone.port for zone in config.zones}) for host in addresses],
            zones=[zone.name for zone in config.zones],
            reload=self._environment.reload,
            stop=self._environment.stop,
        )


async def _until_cancelled(work: Coroutine[object, object, None]) -> None:
    await work


async def _stop(plugins: Sequence[Plugin]) -> None:
    for plugin in reversed(plugins):
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await plugin.stop()
        except Exception:
            log.exception("plugin/%s did not stop in order", plugin.name)


def bound_addresses(plugins: Sequence[Plugin]) -> tuple[str, ...]:
    """Where a server block listens: what its bind plugin says, else everywhere."""
    for plugin in plugins:
        addresses: tuple[str, ...] | None = getattr(plugin, "listen_addresses", None)
        if addresses is not None:
            return addresses
    return WILDCARDS
