"""What load balancers ask a node: are there local endpoints of this Service, and is the proxy itself alive?

    http://node:<healthCheckNodePort>/   200 with local ready endpoints, else 503; JSON as kube-proxy's
    http://node:10256/livez              200 while the rules follow the API, else 503
    http://node:10256/healthz            the same, and 503 for a node that is about to go: no new connections, please (KEP-3836)
    http://127.0.0.1:10249/...           see `metrics.py`

The answers are pure functions; `HealthServer` keeps one listener a port and follows the model.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from podnet.proxy.model import HealthCheck

LOG = logging.getLogger(__name__)

STALE_S = 60.0
TO_BE_DELETED_TAINT = "ToBeDeletedByClusterAutoscaler"
_REQUEST_TIMEOUT_S = 5.0
_REQUEST_BYTES = 8192
_REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}

Answer = tuple[int, dict[str, str], bytes]
Page = Callable[[str], Answer]
"""From a path to what stands there."""

NOT_FOUND: Answer = (404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n")


def is_eligible(node: Mapping[str, Any]) -> bool:
    """Whether load balancers may send this node new connections: not when it is being deleted, or marked for it."""
    taints = (node.get("spec") or {}).get("taints") or ()
    leaving = (node.get("metadata") or {}).get("deletionTimestamp")
    return not leaving and all(taint.get("key") != TO_BE_DELETED_TAINT for taint in taints)


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


def proxy_answer(path: str, *, healthy: bool, eligible: bool, updated: datetime, now: datetime) -> Answer:
    """The answer of the proxy about itself. Of a healthy one `lastUpdated` is now, whether or not there was anything to do."""
    if path not in ("/healthz", "/livez"):
        return NOT_FOUND
    healthy = healthy and (eligible or path == "/livez")
    body: dict[str, Any] = {"lastUpdated": str(now if healthy else updated), "currentTime": str(now)}
    if path == "/healthz":
        body["nodeEligible"] = eligible
    headers = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
    return (200 if healthy else 503), headers, json.dumps(body).encode()


class HealthServer:
    """The listeners of one node. `pending_since` None: all that is known has become rules. `pages`: by address, what
    else is told on this node; `count` hears the path and the code of each answer of the proxy about itself."""

    def __init__(
        self,
        port: int = 10256,
        pages: Mapping[tuple[str, int], Page] | None = None,
        count: Callable[[str, int], None] | None = None,
    ) -> None:
        self._own: dict[int, tuple[str | None, Page]] = {port: (None, self._about_itself)} if port else {}
        self._own |= {number: (host, page) for (host, number), page in (pages or {}).items() if number}
        self._count = count
        self._eligible = True
        self._checks: dict[int, HealthCheck] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._updated = datetime.now(UTC)
        self._pending_since: float | None = time.monotonic()

    def follow_node(self, node: Mapping[str, Any]) -> None:
        """The node as the API has it now."""
        self._eligible = is_eligible(node)

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
        """Listen on exactly these ports (and on the proxy's own ones). A port that is taken is told and tried again with
        the next change."""
        self._checks = {check.port: check for check in checks}
        wanted = self._own.keys() | self._checks.keys()
        for port in [port for port in self._servers if port not in wanted]:
            self._servers.pop(port).close()
        for port in wanted - self._servers.keys():
            try:
                host = self._own[port][0] if port in self._own else None
                self._servers[port] = await asyncio.start_server(self._handler(port), host, port)
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
        return self._own[port][1](path) if port in self._own else NOT_FOUND

    def _about_itself(self, path: str) -> Answer:
        now = datetime.now(UTC)
        healthy = self.is_healthy()
        answer = proxy_answer(path, healthy=healthy, eligible=self._eligible, updated=self._updated, now=now)
        if self._count is not None:
            self._count(path, answer[0])
        return answer


def _encode(answer: Answer) -> bytes:
    status, headers, body = answer
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body
