"""`nginx`: the image's web server: files of /usr/share/nginx/html on port 80, with nginx's headers, pages and log.

It reads `listen`, `root`, `index` and `return` of the server blocks in /etc/nginx/conf.d/*.conf (so that a ConfigMap
mounted there has effect) and says which directives it leaves out. It is no proxy.
"""

from __future__ import annotations

import asyncio
import glob
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, field

from podnet.controlplane.kubelet.images.programs import http, static
from podnet.controlplane.kubelet.images.programs.http import BadRequestError, Request, Response, Server

VERSION = "1.27.4"
CONFIGURATION = "/etc/nginx/conf.d"
_SERVED = {"listen", "root", "index", "server_name", "return", "error_page", "location", "default_type"}
_TITLES = {400: "Bad Request", 301: "Moved Permanently", 416: "Requested Range Not Satisfiable", 405: "Not Allowed"}


@dataclass(slots=True)
class Location:
    """A location block: what it matches and what it does."""

    prefix: str
    exact: bool = False
    root: str = ""
    answer: tuple[int, str] | None = None


@dataclass(slots=True)
class Site:
    """A server block."""

    ports: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    root: str = "/usr/share/nginx/html"
    index: str = "index.html"
    answer: tuple[int, str] | None = None
    default_type: str = "application/octet-stream"
    locations: list[Location] = field(default_factory=list)


class ConfigurationError(Exception):
    """As nginx: `[emerg]` and the place."""


def tokens(text: str) -> list[str]:
    """Words, `{`, `}` and `;` of a configuration file; quotes kept together, comments dropped."""
    found = re.findall(r"#[^\n]*|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[{};]|[^\s{};]+", text)
    return [word.strip("\"'") if word[0] in "\"'" else word for word in found if not word.startswith("#")]


def parse_sites(text: str, name: str) -> tuple[list[Site], set[str]]:
    """The server blocks of a file, and the directives that have no effect here."""
    sites: list[Site] = []
    ignored: set[str] = set()
    blocks: list[object] = []
    words: list[str] = []
    for token in tokens(text):
        if token == "{":
            blocks.append(_open_block(words, sites, blocks, ignored))
            words = []
        elif token == "}":
            if not blocks or words:
                raise ConfigurationError(f'unexpected "}}" in {name}')
            blocks.pop()
        elif token == ";":
            if words:
                _directive(words, blocks[-1] if blocks else None, ignored, name)
            words = []
        else:
            words.append(token)
    if blocks or words:
        raise ConfigurationError(f'unexpected end of file, expecting "}}" in {name}')
    return sites, ignored


def _open_block(words: list[str], sites: list[Site], blocks: list[object], ignored: set[str]) -> object:
    kind = words[0] if words else ""
    if kind == "server":
        sites.append(Site())
        return sites[-1]
    parent = blocks[-1] if blocks else None
    if kind == "location" and isinstance(parent, Site) and len(words) in (2, 3):
        modifier = words[1] if len(words) == 3 else ""
        if modifier in ("", "=", "^~"):
            parent.locations.append(Location(words[-1], exact=modifier == "="))
            return parent.locations[-1]
    if kind not in ("http", "events"):
        ignored.add(" ".join(words))
    return None


def _directive(words: list[str], block: object, ignored: set[str], name: str) -> None:
    kind, values = words[0], words[1:]
    if isinstance(block, Site) and kind == "listen" and values:
        port = values[0].rpartition(":")[2]
        if not port.isdigit():
            raise ConfigurationError(f'invalid port in "{values[0]}" of the "listen" directive in {name}')
        if int(port) not in block.ports:
            block.ports.append(int(port))
    elif isinstance(block, Site) and kind == "server_name":
        block.names = values
    elif isinstance(block, Site) and kind == "index" and values:
        block.index = values[0]
    elif isinstance(block, (Site, Location)) and kind == "root" and values:
        block.root = values[0]
    elif isinstance(block, (Site, Location)) and kind == "return" and values:
        status = int(values[0]) if values[0].isdigit() else 302
        block.answer = (status, values[1] if len(values) > 1 else "" if values[0].isdigit() else values[0])
    elif isinstance(block, Site) and kind == "default_type" and values:
        block.default_type = values[0]
    elif kind not in _SERVED:
        ignored.add(kind)


def error_page(status: int, request: Request) -> Response:
    """Nginx's own pages: `<center><h1>404 Not Found</h1></center>`."""
    del request
    title = f"{status} {_TITLES.get(status) or http.reason(status)}"
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        f"<hr><center>nginx/{VERSION}</center>\r\n</body>\r\n</html>\r\n"
    )
    return Response(status, page.encode(), content_type="text/html")


def refusal(error: BadRequestError) -> Response:
    """A malformed request gets nginx's page too."""
    return error_page(error.status, Request("-", "-", "HTTP/1.1", [], ("", 0), ("", 0)))


def log_line(request: Request, response: Response, now_s: float) -> str:
    """The `combined` format plus the image's "$http_x_forwarded_for", times in UTC."""
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now_s))
    peer = request.peer[0].removeprefix("::ffff:")
    first = f"{request.method} {request.target} {request.version}" if request.method != "-" else ""
    sent = 0 if request.method == "HEAD" or response.status == 304 else response.length
    fields = [request.header(name) or "-" for name in ("referer", "user-agent", "x-forwarded-for")]
    return f'{peer} - - [{when}] "{first}" {response.status} {sent} "{fields[0]}" "{fields[1]}" "{fields[2]}"'


def etag(info: os.stat_result) -> str:
    """nginx: modification time and size in hexadecimal."""
    return f'"{int(info.st_mtime):x}-{info.st_size:x}"'


def select_site(sites: list[Site], port: int, host: str) -> Site:
    """The server block of this port whose name is the Host header, else the first of the port."""
    here = [site for site in sites if port in (site.ports or [80])] or sites
    name = host.partition(":")[0].lower()
    return next((site for site in here if name in site.names), here[0])


def answer(sites: list[Site], request: Request) -> Response:
    """Route a request to its server and location block."""
    site = select_site(sites, request.local[1], request.header("host"))
    path = request.path
    matching = [place for place in site.locations if place.exact and place.prefix == path] or sorted(
        (place for place in site.locations if not place.exact and path.startswith(place.prefix)),
        key=lambda place: -len(place.prefix),
    )
    place = matching[0] if matching else None
    fixed = site.answer or (place.answer if place else None)
    if fixed is not None:
        return _return(fixed, request, site)
    root = (place.root if place else "") or site.root
    files = static.FileServer(root, error_page, site.index, site.default_type, etag)
    response = files.answer(request)
    if response.status == 404:
        clean = os.path.normpath(path)
        _error_log(f'open() "{root}{clean}" failed (2: No such file or directory)', request)
    return response


def _return(fixed: tuple[int, str], request: Request, site: Site) -> Response:
    status, text = fixed
    host = request.header("host")
    for name, value in (
        ("$hostname", http.hostname()),
        ("$server_addr", request.local[0].removeprefix("::ffff:")),
        ("$server_port", str(request.local[1])),
        ("$remote_addr", request.peer[0].removeprefix("::ffff:")),
        ("$remote_port", str(request.peer[1])),
        ("$request_uri", request.target),
        ("$host", host.partition(":")[0]),
        ("\\n", "\n"),
    ):
        text = text.replace(name, value)
    if status in (301, 302, 303, 307, 308):
        page = error_page(status, request)
        page.headers.append(("Location", text))
        return page
    if not text:
        return error_page(status, request) if status >= 300 else Response(status)
    return Response(status, text.encode(), content_type=site.default_type)


def _error_log(message: str, request: Request) -> None:
    when = time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime())
    peer = request.peer[0].removeprefix("::ffff:")
    line = f'"{request.method} {request.target} {request.version}"'
    host = request.header("host")
    text = f"{when} [error] {os.getpid()}#{os.getpid()}: {message}, client: {peer}, server: localhost, request: {line}"
    print(text + (f', host: "{host}"' if host else ""), file=sys.stderr)


def main(argv: list[str]) -> int:
    """`nginx`, `nginx -g 'daemon off;'`, `nginx -v`, `nginx -t`."""
    if "-v" in argv or "-V" in argv:
        print(f"nginx version: nginx/{VERSION}", file=sys.stderr)
        return 0
    sites: list[Site] = []
    try:
        for name in sorted(glob.glob(f"{CONFIGURATION}/*.conf")):
            with open(name, encoding="utf-8", errors="replace") as file:
                found, ignored = parse_sites(file.read(), name)
            sites += found
            for directive in sorted(ignored):
                print(f'nginx: [warn] podnet has no "{directive}" ({name}): it has no effect', file=sys.stderr)
    except ConfigurationError as error:
        print(f"nginx: [emerg] {error}", file=sys.stderr)
        return 1
    if "-t" in argv:
        print("nginx: the configuration file /etc/nginx/nginx.conf syntax is ok", file=sys.stderr)
        return 0
    try:
        asyncio.run(_serve(sites or [Site(ports=[80])]))
    except OSError as error:
        print(f"nginx: [emerg] bind() failed ({error.errno}: {error.strerror})", file=sys.stderr)
        return 1
    return 0


async def _serve(sites: list[Site]) -> None:
    stop = http.stop_event((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as PID 1 it inherits orphans: the kernel reaps them
    server = Server(
        lambda request: answer(sites, request),
        headers=(("Server", f"nginx/{VERSION}"),),
        log=lambda request, response: print(log_line(request, response, time.time()), flush=True),
        says_keep_alive=True,
        refusal=refusal,
    )
    ports = sorted({port for site in sites for port in (site.ports or [80])})
    listeners = [await server.listen(None, port) for port in ports]
    await stop.wait()
    for listener in listeners:
        listener.close()
    await server.drain(5.0)
