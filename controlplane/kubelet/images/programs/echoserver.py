"""`/echoserver`: the echo server of the Kubernetes tutorials (registry.k8s.io/echoserver): the request as text."""

from __future__ import annotations

import os
import time

from podnet.controlplane.kubelet.images.programs import http, serve
from podnet.controlplane.kubelet.images.programs.http import Request, Response


def page(request: Request) -> str:
    """Sections as in the real one's page."""
    env = [(title, os.environ.get(name, "")) for title, name in _POD_VARIABLES]
    pod = [f"\t{title}:\t{value}" for title, value in env if value] or ["\t-no pod information available-"]
    local = f"{request.local[0].removeprefix('::ffff:')}:{request.local[1]}"
    lines = [
        "",
        "",
        f"Hostname: {http.hostname()}",
        "",
        "Pod Information:",
        *pod,
        "",
        "Server values:",
        f"\tserver_version=podnet - listening on {local}",
        "",
        "Request Information:",
        f"\tclient_address={request.peer[0].removeprefix('::ffff:')}",
        f"\tmethod={request.method}",
        f"\treal path={request.target}",
        f"\tquery={request.target.partition('?')[2]}",
        f"\trequest_version={request.version.removeprefix('HTTP/')}",
        f"\trequest_scheme={'https' if request.tls else 'http'}",
        f"\trequest_uri={'https' if request.tls else 'http'}://{request.header('host')}{request.target}",
        "",
        "Request Headers:",
        *(f"\t{name.lower()}={value}" for name, value in sorted(request.headers, key=lambda pair: pair[0].lower())),
        "",
        "Request Body:",
        "\t" + (request.body.decode(errors="replace") or "-no body in request-"),
        "",
        "",
    ]
    return "\n".join(lines)


_POD_VARIABLES = (
    ("node name", "NODE_NAME"),
    ("pod name", "POD_NAME"),
    ("pod namespace", "POD_NAMESPACE"),
    ("pod IP", "POD_IP"),
)


def _log(request: Request, response: Response) -> None:
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    peer = request.peer[0].removeprefix("::ffff:")
    first = f"{request.method} {request.target} {request.version}"
    agent = request.header("user-agent") or "-"
    print(f'{peer} - - [{when}] "{first}" {response.status} {response.length} "-" "{agent}"', flush=True)


def main(argv: list[str]) -> int:
    """Takes its port from PORT."""
    del argv
    port = os.environ.get("PORT", "8080")
    answer = lambda request: Response(200, page(request).encode(), content_type="text/plain")  # noqa: E731
    return serve.run(answer, int(port) if port.isdigit() else 8080, log=_log)
