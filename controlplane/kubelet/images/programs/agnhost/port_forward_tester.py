"""`agnhost port-forward-tester`: take one connection on BIND_PORT and send CHUNKS chunks of CHUNK_SIZE bytes of `x`,
CHUNK_INTERVAL milliseconds apart. EXPECTED_CLIENT_DATA is what the client must send first."""

from __future__ import annotations

import os
import socket
import sys
import threading

_TIMEOUT_S = 10.0


def main(argv: list[str]) -> int:
    """Exit code 2 when the client sends something else."""
    del argv
    env = os.environ
    expected = env.get("EXPECTED_CLIENT_DATA", "").encode()
    try:
        with socket.create_server((env.get("BIND_ADDRESS", "localhost"), int(env["BIND_PORT"]))) as server:
            connection, _ = server.accept()
    except (OSError, KeyError, ValueError) as error:
        print(f"Error listening: {error}", file=sys.stderr)
        return 1
    with connection:
        print("Accepted client connection", flush=True)
        if expected and not _received(connection, expected):
            return 2
        pause = threading.Event()
        for _ in range(int(env.get("CHUNKS", "0"))):
            connection.sendall(b"x" * int(env.get("CHUNK_SIZE", "0")))
            pause.wait(int(env.get("CHUNK_INTERVAL", "0")) / 1000)
        connection.shutdown(socket.SHUT_WR)
        print("Done", flush=True)
    return 0


def _received(connection: socket.socket, expected: bytes) -> bool:
    connection.settimeout(_TIMEOUT_S)
    got = b""
    try:
        while len(got) < len(expected):
            data = connection.recv(len(expected) - len(got))
            if not data:
                break
            got += data
    except TimeoutError:
        pass
    if got != expected:
        print(f"Expected {expected.decode()!r}, got {got.decode(errors='replace')!r}", file=sys.stderr)
        return False
    print("Received expected client data", flush=True)
    return True
