"""A small `nc` for machines without one: connect or listen, TCP or UDP, -z -v -w -u -l -p -n -q -k.

nc HOST PORT · nc -zv HOST PORT · nc -u -w 1 HOST PORT · nc -l -p PORT · nc -lk PORT
"""

from __future__ import annotations

import os
import select
import socket
import sys
from dataclasses import dataclass, field

_TAKE_VALUE = "wpqsie"
_SIMPLE = "zvulknN46"


@dataclass(slots=True)
class Options:
    """The command line."""

    flags: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)


def parse(args: list[str]) -> Options:
    """Clustered short options. ValueError for one it does not have."""
    options = Options()
    queue = list(args)
    while queue:
        word = queue.pop(0)
        if not word.startswith("-") or word == "-":
            options.rest.append(word)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in _TAKE_VALUE:
                options.values[letter] = letters or (queue.pop(0) if queue else "")
                letters = ""
            elif letter in _SIMPLE:
                options.flags.add(letter)
            else:
                raise ValueError(f"nc: invalid option -- '{letter}'")
    return options


def main(argv: list[str]) -> int:
    """0 when the connection came about, else 1."""
    try:
        options = parse(argv[1:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    limit = float(options.values["w"]) if options.values.get("w") else None
    try:
        if "l" in options.flags:
            return _listen(options, limit)
        if len(options.rest) < 2:
            print("usage: nc [-luzvnkN] [-w seconds] [-p port] host port", file=sys.stderr)
            return 1
        return _connect(options, limit)
    except OSError as error:
        if "v" in options.flags or "z" not in options.flags:
            reason = "timed out" if isinstance(error, TimeoutError) else error.strerror or str(error)
            print(f"nc: {' '.join(options.rest)}: {reason}", file=sys.stderr)
        return 1


def _kind(options: Options) -> socket.SocketKind:
    return socket.SOCK_DGRAM if "u" in options.flags else socket.SOCK_STREAM


def _connect(options: Options, limit: float | None) -> int:
    host, ports = options.rest[0], options.rest[1]
    first, _, last = ports.partition("-")
    code = 1
    for port in range(int(first), int(last or first) + 1):
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=_kind(options))[0]
        with socket.socket(family, kind) as sock:
            sock.settimeout(limit)
            if "z" in options.flags and last:
                if sock.connect_ex(address) != 0:
                    continue
            else:
                sock.connect(address)
            code = 0
            if "v" in options.flags:
                print(f"{host} ({address[0]}:{port}) open", file=sys.stderr)
            if "z" not in options.flags:
                _copy(sock, limit, udp="u" in options.flags, shut="u" not in options.flags)
    return code


def _listen(options: Options, limit: float | None) -> int:
    port = int(options.values.get("p") or (options.rest or ["0"])[-1])
    udp = "u" in options.flags
    with socket.socket(socket.AF_INET, _kind(options)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", port))
        if udp:
            data, peer = server.recvfrom(65536)
            os.write(1, data)
            server.connect(peer)
            _copy(server, limit, udp=True, shut=False)
            return 0
        server.listen(16)
        while True:
            connection, peer = server.accept()
            if "v" in options.flags:
                print(f"connect to {peer[0]}:{peer[1]}", file=sys.stderr)
            with connection:
                _copy(connection, limit, udp=False, shut=True)
            if "k" not in options.flags:
                return 0


def _copy(sock: socket.socket, limit: float | None, *, udp: bool, shut: bool) -> None:
    """Both directions, until the other side ends, or nothing has come for the limit."""
    sources = [sock.fileno(), 0]
    while True:
        ready, _, _ = select.select(sources, [], [], limit)
        if not ready:
            return
        if sock.fileno() in ready:
            data = sock.recv(65536)
            if not data and not udp:
                return
            os.write(1, data)
        if 0 in ready:
            data = os.read(0, 65536)
            if data:
                sock.sendall(data)
            else:
                sources.remove(0)
                if shut:
                    sock.shutdown(socket.SHUT_WR)
