"""`agnhost liveness`: healthy for ten seconds, then /healthz answers 500: the liveness probe of the tutorial."""

from __future__ import annotations

import time

from podnet.controlplane.kubelet.images.programs import serve
from podnet.controlplane.kubelet.images.programs.http import Request, Response

HEALTHY_S = 10.0


def answer(request: Request, age_s: float) -> Response:
    """/started tells the age, /healthz fails after ten seconds, /redirect follows `loc`."""
    match request.path:
        case "/started":
            return Response(200, f"{age_s:.9f}".rstrip("0").encode() + b"s")
        case "/healthz":
            return Response(500, f"error: {age_s}".encode()) if age_s > HEALTHY_S else Response(200, b"ok")
        case "/redirect":
            location = (request.query.get("loc") or ["http://example.com"])[0]
            return Response(302, headers=[("Location", location)])
    return Response(404, b"404 page not found\n")


def main(argv: list[str]) -> int:
    """Port 8080."""
    del argv
    started_s = time.monotonic()
    return serve.run(lambda request: answer(request, time.monotonic() - started_s), 8080)
