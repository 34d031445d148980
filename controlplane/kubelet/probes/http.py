"""An HTTP GET as the kubelet makes one, for probes and lifecycle hooks.

One connection per request, no certificate verification, redirects followed only on the same host (one to elsewhere
counts as success, the kubelet's rule). Error texts are Go's net/http's, because `kubectl describe` shows them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

USER_AGENT = "kube-probe/1.32"
BODY_MAX = 10 * 1024
REDIRECTS_MAX = 10


@dataclass(frozen=True, slots=True)
class HTTPTarget:
    """Where to, with which headers."""

    scheme: str
    host: str
    port: int
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = field(default=())

    @property
    def url(self) -> str:
        """As error messages show it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = self.path if self.path.startswith("/") else "/" + self.path
        return f"{self.scheme.lower()}://{host}:{self.port}{path}"


class ProbeConnectionError(Exception):
    """The request got no answer; the text is Go's."""


def http_target(action: Mapping[str, Any], port: int, default_host: str) -> HTTPTarget:
    """The target of an httpGet action whose port is already a number."""
    return HTTPTarget(
        scheme=(action.get("scheme") or "HTTP").lower(),
        host=action.get("host") or default_host,
        port=port,
        path=action.get("path") or "/",
        headers=tuple((header["name"], str(header.get("value") or "")) for header in action.get("httpHeaders") or ()),
    )


def dial_error(address: str, error: BaseException) -> str:
    """`dial tcp 10.0.0.1:80: connect: connection refused`."""
    if isinstance(error, TimeoutError):
        return f"dial tcp {address}: i/o timeout"
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, socket.gaierror):
        host = address.rpartition(":")[0]
        return f"dial tcp: lookup {host}: no such host"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, OSError) and error.errno is not None:
        text = os.strerror(error.errno)
    return f"dial tcp {address}: connect: {text.lower()}"


async def http_get(target: HTTPTarget, timeout_s: float) -> tuple[int, str]:
    """(status code, the body's beginning). ProbeConnectionError when there is no answer in time."""
    headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close", **dict(target.headers)}
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    connector = aiohttp.TCPConnector(ssl=False, force_close=True, use_dns_cache=False)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            return await _follow(session, target.url, headers)
    except aiohttp.ClientConnectorError as error:
        raise ProbeConnectionError(
            f'Get "{target.url}": {dial_error(f"{target.host}:{target.port}", error)}'
        ) from error
    except TimeoutError as error:
        raise ProbeConnectionError(
            f'Get "{target.url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        ) from error
    except aiohttp.ServerDisconnectedError as error:
        raise ProbeConnectionError(f'Get "{target.url}": EOF') from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ProbeConnectionError(f'Get "{target.url}": {error}') from error


async def _follow(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> tuple[int, str]:
    host = urlsplit(url).hostname
    for _ in range(REDIRECTS_MAX + 1):
        async with session.get(URL(url, encoded=True), headers=dict(headers), allow_redirects=False) as response:
            body = await response.content.read(BODY_MAX)
            location = response.headers.get("Location", "")
            if response.status not in {301, 302, 303, 307, 308} or not location:
                return response.status, body.decode("utf-8", "replace")
            url = str(response.url.join(URL(location)))
        if urlsplit(url).hostname != host:
            return response.status, f"Probe terminated redirects, Response body: {body.decode('utf-8', 'replace')}"
    raise ProbeConnectionError(f'Get "{url}": stopped after {REDIRECTS_MAX} redirects')
