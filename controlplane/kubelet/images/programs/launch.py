"""How a catalogue program starts: executed through its launcher file, or called by a shim in a fork of itself.

The rule for everything in this folder: only the standard library and this folder are imported, because in a
container these files stand alone; and nothing is imported at the top that a short command like `connect` does not
need, because an executed launcher starts from nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

MARK = "# podnet program: "
_PACKAGE = "podnet.controlplane.kubelet.images.programs"

# program → its module here; each module has main(argv) -> exit code.
PROGRAMS = {
    "agnhost": "agnhost",
    "busybox-httpd": "busybox_httpd",
    "coredns": "coredns",
    "curl": "curl",
    "docker-entrypoint": "docker_entrypoint",
    "echo-basic": "echo_basic",
    "echoserver": "echoserver",
    "hello-app": "hello_app",
    "http-echo": "http_echo",
    "http-https-echo": "http_https_echo",
    "httpd": "httpd",
    "nc": "nc",
    "nginx": "nginx",
    "nslookup": "nslookup",
    "pause": "pause",
    "wget": "wget",
    "whoami": "whoami",
}


def program_name(path: str) -> str:
    """The catalogue program an executable file is the launcher of; empty for any other file."""
    try:
        with open(path, "rb") as file:
            head = file.read(400)
    except OSError:
        return ""
    lines = head.split(b"\n", 2)
    mark = MARK.encode()
    if len(lines) < 3 or not lines[0].startswith(b"#!") or not lines[1].startswith(mark):
        return ""
    return lines[1][len(mark) :].decode(errors="replace").strip()


def call(name: str, argv: Sequence[str]) -> int:
    """Run a program; its exit code. An exception is its crash: traceback on stderr, exit code 1."""
    try:
        return _main(name)(list(argv))
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except Exception:
        import traceback  # only when it is needed

        traceback.print_exc()
        return 1


def become(argv: Sequence[str]) -> int:
    """End in another command: called here when it is a catalogue program, executed otherwise. Returns only when it
    was called, or is not there (127) or may not be executed (126)."""
    import os
    import shutil

    path = shutil.which(argv[0])
    name = program_name(path) if path else ""
    if name in PROGRAMS:
        sys.argv = list(argv)
        set_title(argv)
        return call(name, argv)
    sys.stdout.flush()
    try:
        os.execvp(argv[0], list(argv))
    except FileNotFoundError:
        print(f"exec: {argv[0]}: not found", file=sys.stderr)
        return 127
    except OSError as error:
        print(f"exec: {argv[0]}: {error.strerror}", file=sys.stderr)
        return 126


def preload() -> None:
    """Import every program, in the process all shims are forked from."""
    for name in PROGRAMS:
        _main(name)
    importlib.import_module(f"{_PACKAGE}.agnhost").preload()


def set_title(argv: Sequence[str]) -> None:
    """Show the program's own command line in ps, where it was called rather than executed."""
    module = sys.modules.get("setproctitle")
    if module is not None:
        module.setproctitle(" ".join(argv))


def _main(name: str) -> Callable[[list[str]], int]:
    main: Callable[[list[str]], int] = importlib.import_module(f"{_PACKAGE}.{PROGRAMS[name]}").main
    return main
