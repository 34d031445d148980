"""What load balancers ask a node: are there local endpoints of this Service, and is the proxy itself alive?

    http://node:<healthCheckNodePort>/   200 with local ready endpoints, else 503; JSON as kube-proxy's
    http://node:10256/healthz, /livez    200 while the rules follow the API, else 503

The answers are pure functions; `HealthServer` keeps one listener a port and follows the model.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime

from podnet.proxy.model import HealthCheck

LOG = logging.getLogger(__name__)

STALE_S = 60.0
_REQUEST_TIMEOUT_S = 5.0
_REQUEST_BYTES = 8192
_REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}

Answer = tuple[int, dict[str, str], bytes]


def service_answer(check: HealthCheck, *, healthy: bool) -> Answer:
    """The answer on a healthCheckNodePort."""
    body = {
        "service": {"namespace": check.namespace, "name": check.name},
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": healthy,
    }
    headers = {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(check.local_endpoints),
    }
    good = healthy and check.local_endpoints > 0
    return (200 if good else 503), headers, json.dumps(body, indent="\t").encode()


def proxy_answer(path: str, *, healthy: bool, updated: datetime, now: datetime) -> Answer:
    """The answer of the proxy about itself."""
    if path not in ("/healthz", "/livez"):
        return 404, {"Content-Type": "text/plain"}, b"404 page not found\n"
    body = {"lastUpdated": str(updated), "currentTime": str(now), "nodeEligible": True}
    headers = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
    return (200 if healthy else 503), headers, json.dumps(body).encode()


class HealthServer:
    """The listeners of one node. `pending_since` None: all that is known has become rules."""

    def __init__(self, host: str = "", port: int = 10256) -> None:
        self._host = host or None
        self._port = port
        self._checks: dict[int, HealthCheck] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._updated = datetime.now(UTC)
        self._pending_since: float | None = time.monotonic()

    def mark_pending(self) -> None:
        """Something changed that is not in the kernel yet."""
        if self._pending_since is None:
            self._pending_since = time.monotonic()

    def mark_updated(self) -> None:
        """Everything is in the kernel."""
        self._pending_since = None
        self._updated = datetime.now(UTC)

    def is_healthy(self) -> bool:
        """Whether the last change that waits has not waited too long."""
        return self._pending_since is None or time.monotonic() - self._pending_since < STALE_S

    async def set_checks(self, checks: Iterable[HealthCheck]) -> None:
        """Listen on exactly these ports (and on the proxy's own). A port that is taken is told and tried again with
        the next change."""
        self._checks = {check.port: check for check in checks}
        wanted = {self._port, *self._checks} - {0}
        for port in [port for port in self._servers if port not in wanted]:
            self._servers.pop(port).close()
        for port in wanted - self._servers.keys():
            try:
                self._servers[port] = await asyncio.start_server(self._handler(port), self._host, port)
            except OSError as error:
                LOG.warning("health check port %d: %s", port, error)

    async def close(self) -> None:
        """Stop listening."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    def _handler(self, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_encode(self._answer(port, request)))
                    await writer.drain()
            except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                LOG.debug("health check on port %d: no request", port)
            finally:
                writer.close()

        return handle

    def _answer(self, port: int, request: bytes) -> Answer:
        words = request[:_REQUEST_BYTES].split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        path = words[1].partition("?")[0] if len(words) > 1 else ""
        check = self._checks.get(port)
        if check is not None:
            return service_answer(check, healthy=self.is_healthy())
        return proxy_answer(path, healthy=self.is_healthy(), updated=self._updated, now=datetime.now(UTC))


def _encode(answer: Answer) -> bytes:
    status, headers, body = answer
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body
