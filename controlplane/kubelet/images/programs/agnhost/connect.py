"""`agnhost connect HOST:PORT`: can this pod reach that address?

Success is silent, exit code 0. A failure prints one word to stderr (TIMEOUT, REFUSED, DNS, OTHER, UNKNOWN), with
details for the last two, and exits 1; network policy tests read that word.
"""

from __future__ import annotations

import errno
import socket
import sys
import time

from podnet.controlplane.kubelet.images.programs.flags import parse_flags

_SCTP = 132


def main(argv: list[str]) -> int:
    """`connect [--timeout 1s] [--protocol tcp|udp|sctp] [--udp-data X] [--sctp-data X] host:port`."""
    defaults = {"timeout": 0.0, "protocol": "tcp", "udp-data": "hostname", "sctp-data": "hostname"}
    values, rest = parse_flags(argv[1:], defaults)
    if len(rest) != 1:
        print(f"Error: accepts 1 arg(s), received {len(rest)}", file=sys.stderr)
        return 1
    host, colon, port = rest[0].rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdigit() or int(port) > 65535:
        return _fail("UNKNOWN", f"address {rest[0]}: missing port in address")
    protocol = values["protocol"]
    data = values["udp-data"] if protocol == "udp" else values["sctp-data"]
    try:
        return connect(protocol, host, int(port), values["timeout"], data.encode())
    except ValueError as error:
        return _fail("UNKNOWN", str(error))


def connect(protocol: str, host: str, port: int, timeout_s: float, data: bytes) -> int:
    """One attempt at each of the name's addresses within the limit."""
    kinds = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "sctp": (socket.SOCK_STREAM, _SCTP)}
    if protocol not in kinds:
        raise ValueError(f"unsupported protocol {protocol}")
    kind, number = kinds[protocol]
    try:
        # Names are looked up as for TCP: the C library knows no SCTP services where the kernel has none.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
    except socket.gaierror as error:
        return _fail("DNS", str(error))
    deadline = time.monotonic() + timeout_s if timeout_s > 0 else None
    code = 1
    for index, (family, _, _, _, address) in enumerate(found):
        last = index == len(found) - 1
        code, word, details = _attempt(family, kind, number, address, deadline, data)
        if code == 0:
            return 0
        if last or word == "TIMEOUT":
            return _fail(word, details)
    return code


def _attempt(
    family: int, kind: int, number: int, address: object, deadline: float | None, data: bytes
) -> tuple[int, str, str]:
    try:
        with socket.socket(family, kind, number) as sock:
            sock.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
            sock.connect(address)  # type: ignore[arg-type]
            if kind == socket.SOCK_DGRAM:
                sock.send(data)
                sock.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
                sock.recv(1024)
        return 0, "", ""
    except TimeoutError:
        return 1, "TIMEOUT", ""
    except ConnectionRefusedError:
        return 1, "REFUSED", ""
    except OSError as error:
        if error.errno == errno.ETIMEDOUT:
            return 1, "TIMEOUT", ""
        if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT):
            return 1, "UNKNOWN", error.strerror or str(error)
        return 1, "OTHER", error.strerror or str(error)


def _fail(word: str, details: str) -> int:
    print(f"{word}: {details}" if details and word in ("OTHER", "UNKNOWN", "DNS") else word, file=sys.stderr)
    return 1
