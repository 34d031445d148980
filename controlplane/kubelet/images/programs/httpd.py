"""`httpd-foreground`: the httpd image: files of /usr/local/apache2/htdocs on port 80 with Apache's headers and log."""

from __future__ import annotations

import html
import os
import signal
import sys
import time

from podnet.controlplane.kubelet.images.programs import serve, static
from podnet.controlplane.kubelet.images.programs.http import Request, Response

VERSION = "2.4.63"
ROOT = "/usr/local/apache2/htdocs"
_TITLES = {301: "Moved Permanently", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}
_TEXTS = {
    403: "You don't have permission to access this resource.",
    404: "The requested URL was not found on this server.",
}


def error_page(status: int, request: Request) -> Response:
    """Apache's own pages."""
    title = _TITLES.get(status, "Bad Request")
    text = _TEXTS.get(status, f"The requested method {request.method} is not allowed for this URL.")
    page = (
        '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n'
        f"<html><head>\n<title>{status} {title}</title>\n</head><body>\n<h1>{title}</h1>\n<p>{text}</p>\n</body></html>\n"
    )
    return Response(status, page.encode(), content_type="text/html; charset=iso-8859-1")


def listing(directory: str, path: str) -> Response:
    """The index of a directory without index.html, as mod_autoindex makes it."""
    try:
        names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(directory))
    except OSError:
        names = []
    items = "".join(
        f'<li><a href="{html.escape(name)}"> {html.escape(name)}</a></li>\n' for name in names if name[0] != "."
    )
    title = f"Index of {html.escape(path.rstrip('/') or '/')}"
    page = f"<html><head><title>{title}</title></head><body>\n<h1>{title}</h1>\n<ul>{items}</ul>\n</body></html>\n"
    return Response(200, page.encode(), content_type="text/html;charset=ISO-8859-1")


def log_line(request: Request, response: Response, now_s: float) -> str:
    """The common log format, to standard output."""
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now_s))
    peer = request.peer[0].removeprefix("::ffff:")
    sent = response.length if request.method != "HEAD" and response.length else "-"
    return f'{peer} - - [{when}] "{request.method} {request.target} {request.version}" {response.status} {sent}'


def main(argv: list[str]) -> int:
    """Port 80, in the foreground."""
    if "-v" in argv:
        print(f"Server version: Apache/{VERSION} (Unix, podnet)")
        return 0
    files = static.FileServer(ROOT, error_page, listing=listing)
    when = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime())
    print(
        f"[{when}] [mpm_event:notice] [pid {os.getpid()}] AH00489: Apache/{VERSION} (Unix) configured", file=sys.stderr
    )
    return serve.run(
        files.answer,
        80,
        headers=(("Server", f"Apache/{VERSION} (Unix)"),),
        log=lambda request, response: print(log_line(request, response, time.time()), flush=True),
        stop_signals=(signal.SIGTERM, signal.SIGINT, signal.SIGWINCH),
    )
