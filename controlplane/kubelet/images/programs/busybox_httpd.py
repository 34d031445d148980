"""`httpd`, busybox's applet: files of a directory, in the foreground with -f, else behind the shell's back."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `httpd` without -f answers in no time; what serves is imported when it serves
if TYPE_CHECKING:
    from podnet.controlplane.kubelet.images.programs.http import Request, Response

_VALUES = "pchrudem"  # options with a value; -c, -r, -u and the encoders are taken, and change nothing
_TEXTS = {
    403: ("Forbidden", ""),
    404: ("Not Found", "The requested URL was not found"),
    501: ("Not Implemented", "The requested method is not recognized"),
}


def parse(args: list[str]) -> dict[str, str]:
    """Options by letter, those without a value as their count: `-vvf -p 8080 -h/www`. ValueError for others."""
    found: dict[str, str] = {}
    queue = list(args)
    while queue:
        word = queue.pop(0)
        if not word.startswith("-") or word == "-":
            raise ValueError(f"unexpected word '{word}'")
        for at, letter in enumerate(word[1:], start=1):
            if letter in _VALUES:
                value = word[at + 1 :] or (queue.pop(0) if queue else "")
                if not value:
                    raise ValueError(f"option requires an argument -- '{letter}'")
                found[letter] = value
                break
            if letter not in "fvi":
                raise ValueError(f"unrecognized option: {letter}")
            found[letter] = str(int(found.get(letter, "0")) + 1)
    return found


def address(text: str) -> tuple[str | None, int]:
    """`8080`, `127.0.0.1:8080`, `[::1]:8080`. ValueError for what is no port."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"bad port '{text}'")
    return host.strip("[]") or None, int(port)


def error_page(status: int, _request: Request) -> Response:
    """The page that busybox makes; a method it has not is 501."""
    from podnet.controlplane.kubelet.images.programs.http import Response

    status = 501 if status == 405 else status
    title, text = _TEXTS.get(status, ("Bad Request", "Unsupported method"))
    head = f"<HTML><HEAD><TITLE>{status} {title}</TITLE></HEAD>"
    page = f"{head}\n<BODY><H1>{status} {title}</H1>\n{text}\n</BODY></HTML>\n"
    return Response(status, page.encode(), content_type="text/html")


def main(argv: list[str]) -> int:
    """0 once it serves behind the shell's back; in the foreground the server's own code."""
    try:
        options = parse(argv[1:])
        host, port = address(options.get("p", "80"))
    except ValueError as error:
        print(f"httpd: {error}\nUsage: httpd [-fv] [-p [IP:]PORT] [-h HOME]", file=sys.stderr)
        return 1
    home = os.path.realpath(options.get("h", "."))
    if not os.path.isdir(home):
        print(f"httpd: can't change directory to '{options['h']}': No such file or directory", file=sys.stderr)
        return 1
    if "f" not in options:
        if os.fork():
            return 0
        os.setsid()
        os._exit(_serve(home, host, port, verbose=False))
    return _serve(home, host, port, verbose="v" in options)


def _serve(home: str, host: str | None, port: int, *, verbose: bool) -> int:
    from podnet.controlplane.kubelet.images.programs import serve, static

    def log(request: Request, response: Response) -> None:
        print(f"[{request.peer[0]}]:{request.peer[1]}: response:{response.status}", file=sys.stderr, flush=True)

    files = static.FileServer(home, error_page)
    return serve.run(files.answer, port, host=host, log=log if verbose else None)
