r"""What the executed plugin and the daemon say to each other over the node's socket.

The launcher is C, or Python without its library, so the format takes no parser: the caller writes its CNI_* variables as
`KEY=VALUE` strings that end in NUL, one empty string, then its standard input as it is, and shuts down its sending side.
The daemon answers with two bytes - exit code, and 1 or 2 for the stream - and the bytes to print; then it closes.

    CNI_COMMAND=ADD\0CNI_CONTAINERID=...\0 ... \0 {"cniVersion": ...   EOF
    <exit code> <stream> {"cniVersion": "1.1.0", "interfaces": ...      EOF

A connection that closes without an answer means the daemon died: the launcher then acts as if it had been down.
"""

from __future__ import annotations

from podnet.cni.request import Request, Response

REQUEST_BYTES_MAX = 4 << 20
STDOUT, STDERR = 1, 2


def render_request(request: Request) -> bytes:
    """The bytes a launcher sends."""
    env = b"".join(f"{key}={value}".encode("utf-8", "surrogateescape") + b"\0" for key, value in request.env.items())
    return env + b"\0" + request.stdin


def parse_request(data: bytes) -> Request:
    """The request in the bytes a launcher sent. ValueError when it was cut short."""
    env: dict[str, str] = {}
    offset = 0
    while True:
        end = data.index(b"\0", offset)
        if end == offset:
            return Request(env, data[end + 1 :])
        key, _, value = data[offset:end].decode("utf-8", "surrogateescape").partition("=")
        env[key] = value
        offset = end + 1


def render_response(response: Response) -> bytes:
    """The bytes the daemon answers."""
    if response.stderr:
        return bytes((response.exit_code, STDERR)) + response.stderr
    return bytes((response.exit_code, STDOUT)) + response.stdout


def parse_response(data: bytes) -> Response:
    """The answer in the bytes the daemon sent. ValueError when there is none."""
    if len(data) < 2:
        raise ValueError("no answer")
    if data[1] == STDERR:
        return Response(data[0], stderr=data[2:])
    return Response(data[0], data[2:])
