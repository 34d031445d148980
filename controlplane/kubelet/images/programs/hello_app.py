"""`/hello-app`: google-samples/hello-app: a greeting, the version and the pod's name on PORT (8080)."""

from __future__ import annotations

import os
import sys
import time

from podnet.controlplane.kubelet.images.programs import http, serve
from podnet.controlplane.kubelet.images.programs.http import Request, Response


def answer(request: Request) -> Response:
    """Three lines."""
    print(f"{_now()} Serving request: {request.path}", file=sys.stderr, flush=True)
    return Response(200, f"Hello, world!\nVersion: 1.0.0\nHostname: {http.hostname()}\n".encode())


def _now() -> str:
    return time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime())


def main(argv: list[str]) -> int:
    """Takes its port from PORT."""
    del argv
    port = os.environ.get("PORT", "8080")
    return serve.run(answer, int(port), started=f"{_now()} Server listening on port {port}")
