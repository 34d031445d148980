"""`/whoami`: traefik/whoami, a page about the pod and the request; also /api, /health, /bench and /data."""

from __future__ import annotations

import json
import os
import socket
import sys
import time

from podnet.controlplane.kubelet.images.programs import http, serve
from podnet.controlplane.kubelet.images.programs.flags import FlagError, parse_flags
from podnet.controlplane.kubelet.images.programs.http import Request, Response

_DEFAULTS = {"port": "", "name": "", "verbose": False, "cert": "", "key": "", "cacert": ""}


def addresses() -> list[str]:
    """Every address of the pod, from the kernel's own tables (no netlink library here)."""
    found = ["127.0.0.1"]
    try:
        with open("/proc/net/fib_trie", encoding="ascii") as file:
            last = ""
            for line in file:
                if "|--" in line:
                    last = line.split("|--")[1].strip()
                elif "/32 host LOCAL" in line and last not in found:
                    found.append(last)
    except OSError:
        pass
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            for line in file:
                raw = bytes.fromhex(line.split()[0])
                found.append(socket.inet_ntop(socket.AF_INET6, raw))
    except OSError:
        pass
    return found


def page(request: Request, name: str) -> str:
    """The text page."""
    lines = [f"Name: {name}"] if name else []
    lines.append(f"Hostname: {http.hostname()}")
    lines += [f"IP: {address}" for address in addresses()]
    lines.append(f"RemoteAddr: {http.peer_name(request.peer)}")
    lines.append(f"{request.method} {request.target} {request.version}")
    lines.append(f"Host: {request.header('host')}")
    lines += [f"{key}: {value}" for key, value in sorted(request.headers) if key.lower() != "host"]
    return "\n".join(lines) + "\n\n"


def answer(request: Request, name: str, health: list[int]) -> Response:
    """Route a request."""
    match request.path:
        case "/api":
            headers: dict[str, list[str]] = {}
            for key, value in request.headers:
                if key.lower() != "host":
                    headers.setdefault(key, []).append(value)
            about = {
                "hostname": http.hostname(),
                "ip": addresses(),
                "headers": headers,
                "url": request.target,
                "host": request.header("host"),
                "method": request.method,
                "remoteAddr": http.peer_name(request.peer),
            }
            if name:
                about["name"] = name
            return Response(200, json.dumps(about).encode() + b"\n", content_type="application/json")
        case "/health":
            if request.method == "POST":
                text = request.body.decode(errors="replace").strip()
                health[0] = int(text) if text.isdigit() else 200
                return Response(200)
            return Response(health[0])
        case "/bench":
            return Response(200, b"1", content_type="text/plain")
        case "/data":
            size = (request.query.get("size") or ["1"])[0]
            unit = {"kb": 1024, "mb": 1024**2}.get((request.query.get("unit") or [""])[0].lower(), 1)
            count = min(32 * 1024**2, max(0, int(size) if size.isdigit() else 1) * unit)
            return Response(200, (b"|" + b"-" * max(0, count - 2) + b"|")[:count])
    wait = (request.query.get("wait") or [""])[0]
    if wait:
        return Response(400, b"wait is not supported by podnet's whoami\n")
    return Response(200, page(request, name).encode())


def main(argv: list[str]) -> int:
    """`whoami [--port 80] [--name X] [--verbose]`."""
    try:
        values, _ = parse_flags(argv[1:], _DEFAULTS, strict=False)
    except FlagError as error:
        print(error, file=sys.stderr)
        return 2
    port = values["port"] or os.environ.get("WHOAMI_PORT_NUMBER", "80")
    name = values["name"] or os.environ.get("WHOAMI_NAME", "")
    health = [200]
    when = time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime())
    tls = (values["cert"], values["key"]) if values["cert"] and values["key"] else None
    return serve.run(
        lambda request: answer(request, name, health), int(port), started=f"{when} Starting up on port {port}", tls=tls
    )
