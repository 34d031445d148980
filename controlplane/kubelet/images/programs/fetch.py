"""One HTTP request with redirects, for the small `wget` and `curl`: http:// always, https:// where Python has ssl."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

MAX_REDIRECTS = 20


@dataclass(slots=True)
class Fetch:
    """What to ask for and how."""

    url: str
    method: str = "GET"
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | None = None
    timeout_s: float | None = None
    follow: bool = True
    verify: bool = True


@dataclass(slots=True)
class Answer:
    """What came back. `effective` is the URL in the end."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    effective: str
    version: str = "HTTP/1.1"


class ResolveError(Exception):
    """The host's name has no address."""


def run(wanted: Fetch) -> Answer:
    """Ask. OSError and http.client.HTTPException as they come; ResolveError; ValueError for a URL that is none."""
    url = wanted.url if "://" in wanted.url else f"http://{wanted.url}"
    for _ in range(MAX_REDIRECTS):
        answer = _once(wanted, url)
        location = next((value for name, value in answer.headers if name.lower() == "location"), "")
        if not wanted.follow or answer.status not in (301, 302, 303, 307, 308) or not location:
            return answer
        url = urljoin(url, location)
    raise OSError(f"more than {MAX_REDIRECTS} redirects")


def _once(wanted: Fetch, url: str) -> Answer:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"unsupported URL {url}")
    try:
        socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ResolveError(parts.hostname) from error
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        import ssl  # large, and seldom needed

        context = ssl.create_default_context()
        if not wanted.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=wanted.timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=wanted.timeout_s)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        given = {name.lower() for name, _ in wanted.headers}
        connection.putrequest(wanted.method, target, skip_host="host" in given, skip_accept_encoding=True)
        for name, value in wanted.headers:
            connection.putheader(name, value)
        if wanted.body is not None and "content-length" not in given:
            connection.putheader("Content-Length", str(len(wanted.body)))
        connection.endheaders(wanted.body)
        response = connection.getresponse()
        body = response.read()
        version = "HTTP/1.0" if response.version == 10 else "HTTP/1.1"
        return Answer(response.status, response.reason, response.getheaders(), body, url, version)
    finally:
        connection.close()
