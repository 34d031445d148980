"""`agnhost no-snat-test`: do others see this pod under its own address?

    /whoami                      the caller's address as this pod sees it
    /checknosnat?ips=a,b         ask every other pod's /whoami, compare with POD_IP (and NODE_IP)

`no-snat-test-proxy` (31235) forwards /checknosnat?target=…&ips=… to the pod `target`.
"""

from __future__ import annotations

import asyncio
import os
import sys

from podnet.controlplane.kubelet.images.programs import serve
from podnet.controlplane.kubelet.images.programs.flags import parse_flags
from podnet.controlplane.kubelet.images.programs.http import Request, Response

_TIMEOUT_S = 10.0


def caller(request: Request) -> str:
    """The peer's address without its port."""
    return request.peer[0].removeprefix("::ffff:")


def _fetch(place: str, path: str) -> tuple[int, str]:
    import http.client  # only when another pod is asked

    host, _, port = place.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def check(pod_ip: str, node_ip: str, places: list[str]) -> tuple[int, str]:
    """Status and text: 200 when every place saw POD_IP."""
    for place in places:
        try:
            status, seen = _fetch(place, "/whoami")
        except (OSError, ValueError) as error:
            return 500, f"error checking {place}: {error}\n"
        if status != 200:
            return 500, f"error checking {place}: status {status}\n"
        if seen.strip() != pod_ip:
            node = " (the address of the node)" if seen.strip() == node_ip else ""
            return 500, f"{place} saw {seen.strip()}{node} instead of {pod_ip}: source NAT\n"
    return 200, ""


async def answer(request: Request) -> Response:
    """Route a request of no-snat-test."""
    if request.path == "/whoami":
        return Response(200, caller(request).encode())
    if request.path != "/checknosnat":
        return Response(404, b"404 page not found\n")
    places = [place for place in (request.query.get("ips") or [""])[0].split(",") if place]
    status, text = await asyncio.to_thread(check, os.environ["POD_IP"], os.environ["NODE_IP"], places)
    return Response(status, text.encode())


async def answer_proxy(request: Request) -> Response:
    """Route a request of no-snat-test-proxy."""
    if request.path != "/checknosnat":
        return Response(404, b"404 page not found\n")
    target = (request.query.get("target") or [""])[0]
    places = (request.query.get("ips") or [""])[0]
    try:
        status, text = await asyncio.to_thread(_fetch, target, f"/checknosnat?ips={places}")
    except (OSError, ValueError) as error:
        return Response(500, f"error checking {target}: {error}\n".encode())
    return Response(status, text.encode())


def main(argv: list[str]) -> int:
    """`no-snat-test [--port 8080]`, `no-snat-test-proxy [--port 31235]`."""
    proxy = argv[0] == "no-snat-test-proxy"
    values, _ = parse_flags(argv[1:], {"port": "31235" if proxy else "8080"})
    if not proxy:
        for name in ("POD_IP", "NODE_IP"):
            if not os.environ.get(name):
                print(f"panic: environment variable {name} is not set", file=sys.stderr)
                return 2
    return serve.run(answer_proxy if proxy else answer, int(values["port"]))
