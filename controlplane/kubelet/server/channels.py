"""The remote command protocol over WebSocket: what the bytes mean.

Pure. Each binary message is one byte of channel and its data:

    0 stdin   1 stdout   2 stderr (not with a tty)   3 error: one Status at the end   4 resize {"Width":80,"Height":24}
    255 (v5): the client closes a channel; the data is the channel's number

Source: KEP-4006; k8s.io/apimachinery pkg/util/remotecommand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


@dataclass(frozen=True, slots=True)
class Stdin:
    """Bytes for the process."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StdinClosed:
    """No more of them."""


@dataclass(frozen=True, slots=True)
class Resize:
    """The terminal's new size."""

    width: int
    height: int


ClientMessage = Stdin | StdinClosed | Resize


def parse_message(data: bytes, protocol: str) -> ClientMessage | None:
    """What a client's message means; None for what is ignored."""
    if not data:
        return None
    channel, payload = data[0], data[1:]
    if channel == STDIN:
        return Stdin(payload)
    if channel == CLOSE and protocol == V5:
        return StdinClosed() if payload == bytes((STDIN,)) else None
    if channel == RESIZE:
        try:
            size = json.loads(payload)
            return Resize(int(size["Width"]), int(size["Height"]))
        except (ValueError, KeyError, TypeError):
            return None
    return None


def success_status() -> dict[str, Any]:
    """The command ended with 0."""
    return {"metadata": {}, "status": "Success"}


def exit_status(code: int) -> dict[str, Any]:
    """The command ended with `code`."""
    if code == 0:
        return success_status()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def error_status(message: str) -> dict[str, Any]:
    """The command could not be run at all."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


def encode_status(status: dict[str, Any]) -> bytes:
    """The one message on the error channel."""
    return bytes((ERROR,)) + json.dumps(status, separators=(",", ":")).encode()
