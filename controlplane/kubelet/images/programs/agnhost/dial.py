"""netexec's `/dial`: send requests to another server, as many as asked, and report what came back.

    /dial?host=H&port=P&request=hostname[&protocol=http|udp|sctp][&tries=N]
    → {"responses": [...], "errors": [...]}

Each try has five seconds. `responses` is there only when the last try gave something: tests rely on it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

MAX_TRIES = 1000
TRY_TIMEOUT_S = 5.0
_SCTP = 132


@dataclass(frozen=True, slots=True)
class Dial:
    """What to dial."""

    host: str
    port: str
    request: str
    protocol: str = "http"
    tries: int = 1


def parse(form: dict[str, list[str]]) -> Dial | str:
    """The request of a form, or the text of the 400."""

    def first(name: str) -> str:
        return (form.get(name) or [""])[0]

    if not first("request"):
        return "request parameter not specified. Must be a path of an HTTP server or a UDP/SCTP command.\n"
    tries = first("tries") or "1"
    try:
        count = int(tries)
    except ValueError:
        return f"tries parameter is invalid. {tries}\n"
    protocol = first("protocol").lower() or "http"
    if protocol not in ("http", "udp", "sctp"):
        return f"unsupported protocol. {protocol}\n"
    return Dial(first("host"), first("port"), first("request"), protocol, min(count, MAX_TRIES))


def run(wanted: Dial) -> dict[str, Any]:
    """Do the tries; the JSON answer."""
    one = {"http": dial_http, "udp": dial_udp, "sctp": dial_sctp}[wanted.protocol]
    responses: list[str] = []
    errors: list[str] = []
    last = ""
    for _ in range(wanted.tries):
        last = ""
        try:
            last = one(wanted)
            if last:
                responses.append(last)
        except OSError as error:
            errors.append(_words(wanted, error))
        except ValueError as error:
            errors.append(str(error))
    answer: dict[str, Any] = {}
    if last:
        answer["responses"] = responses
    if errors:
        answer["errors"] = errors
    return answer


def dial_http(wanted: Dial) -> str:
    """One GET; the body, whatever the status."""
    import http.client  # 12 ms, and only a dialing pod needs it

    connection = http.client.HTTPConnection(wanted.host.strip("[]"), int(wanted.port or 80), timeout=TRY_TIMEOUT_S)
    try:
        connection.request("GET", "/" + wanted.request.lstrip("/"))
        return connection.getresponse().read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()


def dial_udp(wanted: Dial) -> str:
    """One datagram, one answer."""
    return _exchange(wanted, socket.SOCK_DGRAM, 0)


def dial_sctp(wanted: Dial) -> str:
    """The same over an SCTP association."""
    return _exchange(wanted, socket.SOCK_STREAM, _SCTP)


def _exchange(wanted: Dial, kind: int, number: int) -> str:
    family, _, _, _, address = socket.getaddrinfo(wanted.host.strip("[]"), int(wanted.port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, number) as sock:
        sock.settimeout(TRY_TIMEOUT_S)
        sock.connect(address)
        sock.send(wanted.request.encode())
        return sock.recv(2048).decode(errors="replace").strip()


def _words(wanted: Dial, error: OSError) -> str:
    """Go's form of a network error."""
    network = "tcp" if wanted.protocol == "http" else wanted.protocol
    place = f"{wanted.host}:{wanted.port}"
    if isinstance(error, TimeoutError):
        verb = "read" if wanted.protocol == "udp" else "dial"
        return f"{verb} {network} {place}: i/o timeout"
    if isinstance(error, socket.gaierror):
        return f"dial {network}: lookup {wanted.host}: {error.strerror}"
    verb = "read" if wanted.protocol == "udp" else "dial"
    return f"{verb} {network} {place}: {(error.strerror or str(error)).lower()}"
