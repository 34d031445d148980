"""`/echo-basic`: the echo server of the Gateway API conformance tests over HTTP: the request and the pod as JSON."""

from __future__ import annotations

import json
import os
import sys

from podnet.controlplane.kubelet.images.programs import serve
from podnet.controlplane.kubelet.images.programs.http import Request, Response


def answer(request: Request) -> Response:
    """JSON with path, host, method, proto, headers and the pod's identity from its environment."""
    if request.path == "/health":
        return Response(200, b"OK")
    status = request.path.removeprefix("/status/")
    if request.path.startswith("/status/") and status.isdigit() and 200 <= int(status) <= 599:
        return Response(int(status), _body(request), content_type="application/json")
    headers = [("X-Content-Type-Options", "nosniff")]
    for wish in request.header("x-echo-set-header").split(","):
        name, colon, value = wish.partition(":")
        if colon and name.strip():
            headers.append((name.strip(), value.strip()))
    return Response(200, _body(request), headers, "application/json")


def _body(request: Request) -> bytes:
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        if name.lower() != "host":
            headers.setdefault("-".join(part.capitalize() for part in name.split("-")), []).append(value)
    about = {
        "path": request.target,
        "host": request.header("host"),
        "method": request.method,
        "proto": request.version,
        "headers": headers,
        "httpPort": os.environ.get("HTTP_PORT", "3000"),
        "namespace": os.environ.get("NAMESPACE", ""),
        "ingress": os.environ.get("INGRESS_NAME", ""),
        "service": os.environ.get("SERVICE_NAME", ""),
        "pod": os.environ.get("POD_NAME", ""),
    }
    return json.dumps(about, indent=1).encode() + b"\n"


def main(argv: list[str]) -> int:
    """Takes its port from HTTP_PORT."""
    del argv
    port = os.environ.get("HTTP_PORT", "3000")
    if not port.isdigit():
        print(f"invalid HTTP_PORT {port!r}", file=sys.stderr)
        return 1
    return serve.run(answer, int(port), started=f"Starting server, listening on port {port} (http)")
