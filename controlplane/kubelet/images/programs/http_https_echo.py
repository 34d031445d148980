"""`/http-https-echo`: mendhak/http-https-echo over HTTP: the request as JSON, on HTTP_PORT (8080)."""

from __future__ import annotations

import json
import os
from typing import Any

from podnet.controlplane.kubelet.images.programs import http, serve
from podnet.controlplane.kubelet.images.programs.http import Request, Response


def describe(request: Request) -> dict[str, Any]:
    """The request as the real one describes it."""
    host = request.header("host").partition(":")[0]
    peer = request.peer[0]
    found: dict[str, Any] = {
        "path": request.raw_path,
        "headers": {name.lower(): value for name, value in request.headers},
        "method": request.method,
        "body": request.body.decode(errors="replace"),
        "fresh": False,
        "hostname": host,
        "ip": peer,
        "ips": [],
        "protocol": "https" if request.tls else "http",
        "query": {name: values[0] if len(values) == 1 else values for name, values in request.query.items()},
        "subdomains": host.split(".")[:-2][::-1],
        "xhr": False,
        "os": {"hostname": http.hostname()},
        "connection": {},
    }
    if request.header("content-type").startswith("application/json"):
        try:
            found["json"] = json.loads(request.body)
        except ValueError:
            found["json"] = None
    return found


def answer(request: Request) -> Response:
    """Pretty-printed JSON, whatever was asked."""
    text = json.dumps(describe(request), indent=2)
    print(text, flush=True)
    return Response(200, text.encode(), content_type="application/json; charset=utf-8")


def main(argv: list[str]) -> int:
    """Takes no arguments."""
    del argv
    port = os.environ.get("HTTP_PORT", "8080")
    return serve.run(answer, int(port) if port.isdigit() else 8080, headers=(("X-Powered-By", "Express"),))
