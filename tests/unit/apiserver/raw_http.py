"""HTTP by hand: bytes to a server in this process, and every answer that comes back, for tests of what clients never do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
import yaml


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as an object."""
        if "yaml" in self.headers.get("content-type", ""):
            return yaml.safe_load(self.body)
        return orjson.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.document["message"])


async def exchange(port: int, data: bytes, *, head: bool = False, silence_s: float = 10.0) -> list[Reply]:
    """Send `data` and read answers until the server closes, or has been silent for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        writer.write(data)
        while chunk := await asyncio.wait_for(reader.read(1 << 16), silence_s):
            received += chunk
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.close()
    return replies(received, head=head)


def request(method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """A whole request that ends its connection; text goes out as latin-1, so that any byte can be said."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def replies(data: bytes, *, head: bool = False) -> list[Reply]:
    """The answers in a stream of bytes."""
    found = []
    while data:
        top, _, data = data.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if status == 100:
            continue
        if not head and status not in {204, 304}:
            body, data = _body(headers, data)
        else:  # what the parser itself refuses has a body even then: it did not come to read the method
            body, data = b"", data if data.startswith(b"HTTP/") else b""
        found.append(Reply(status, headers, body))
    return found


def _body(headers: dict[str, str], data: bytes) -> tuple[bytes, bytes]:
    if headers.get("transfer-encoding") != "chunked":
        length = int(headers.get("content-length", len(data)))
        return data[:length], data[length:]
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        body += data[:count]
        data = data[count + 2 :]
        if not count:
            break
    return body, data


def check_refusal(reply: Reply) -> None:
    """What is refused is refused as a Status that says the same code, and is never the server's own fault."""
    if reply.status < 400:
        return
    assert reply.headers["content-type"] in {"application/json", "application/yaml"}, reply
    status = reply.document
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure"), reply
    assert status["code"] == reply.status
    assert status["message"]
    assert reply.status < 500 or status.get("reason") in {"Timeout", "ServiceUnavailable"}, reply
