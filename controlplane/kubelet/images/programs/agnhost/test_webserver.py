"""`agnhost test-webserver`: the files of the container's root on --port (80), as Go's http.FileServer serves them."""

from __future__ import annotations

import html
import os

from podnet.controlplane.kubelet.images.programs import http, serve, static
from podnet.controlplane.kubelet.images.programs.flags import parse_flags
from podnet.controlplane.kubelet.images.programs.http import Request, Response


def error_page(status: int, request: Request) -> Response:
    """Go's plain texts."""
    del request
    texts = {404: b"404 page not found\n", 403: b"403 Forbidden\n"}
    return Response(status, texts.get(status, f"{status} {http.reason(status)}\n".encode()))


def listing(directory: str, path: str) -> Response:
    """A directory's names as links in a <pre>."""
    del path
    try:
        names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(directory))
    except PermissionError:
        return Response(500, b"Error reading directory\n")
    lines = "".join(f'<a href="{html.escape(name)}">{html.escape(name)}</a>\n' for name in names)
    return Response(200, f"<!doctype html>\n<pre>\n{lines}</pre>\n".encode(), content_type="text/html; charset=utf-8")


def main(argv: list[str]) -> int:
    """`test-webserver [--port 80]`."""
    values, _ = parse_flags(argv[1:], {"port": 80})
    files = static.FileServer("/", error_page, default_type="text/plain; charset=utf-8", listing=listing)
    return serve.run(files.answer, int(values["port"]))
