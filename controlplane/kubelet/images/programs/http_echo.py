"""`/http-echo -text=hello -listen=:5678`: hashicorp/http-echo, every request gets the text."""

from __future__ import annotations

import os
import sys
import time

from podnet.controlplane.kubelet.images.programs import http, serve
from podnet.controlplane.kubelet.images.programs.flags import FlagError, parse_flags
from podnet.controlplane.kubelet.images.programs.http import Request, Response

VERSION = "1.0.0"
_DEFAULTS = {"listen": ":5678", "text": "", "status-code": 200, "version": False, "ecs": False}


def main(argv: list[str]) -> int:
    """Without -text (and without ECHO_TEXT) it says so and ends with 127, as the real one."""
    try:
        values, rest = parse_flags(argv[1:], _DEFAULTS, strict=False)
    except FlagError as error:
        print(str(error).replace("unknown flag: --", "flag provided but not defined: -"), file=sys.stderr)
        return 2
    if values["version"]:
        print(f"http-echo v{VERSION} (podnet)", file=sys.stderr)
        return 0
    text = values["text"] or os.environ.get("ECHO_TEXT", "")
    if not text:
        print("Missing -text option!", file=sys.stderr)
        return 127
    if rest:
        print("Too many arguments!", file=sys.stderr)
        return 127
    host, _, port = values["listen"].rpartition(":")
    if not port.isdigit():
        print(f"[ERR] listen tcp: address {values['listen']}: missing port in address", file=sys.stderr)
        return 1
    body, status = f"{text}\n".encode(), int(values["status-code"])
    headers = (("X-App-Name", "http-echo"), ("X-App-Version", VERSION))
    started = f"{_now()} [INFO] server is listening on {values['listen']}"
    answer = lambda _: Response(status, body)  # noqa: E731 - one expression
    return serve.run(answer, int(port), host=host.strip("[]") or None, headers=headers, log=_log, started=started)


def _now() -> str:
    return time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime())


def _log(request: Request, response: Response) -> None:
    agent = request.header("user-agent")
    host = request.header("host")
    line = f'{host} {http.peer_name(request.peer)} "{request.method} {request.target} {request.version}"'
    print(f'{_now()} {line} {response.status} {response.length} "{agent}"', flush=True)
