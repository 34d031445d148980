"""What images bring besides the machine's own files: directories of launchers and web pages, written once a node.

    <state>/images/<version>/base/     directories a container may write into (var/log, usr/local/bin, …)
    <state>/images/<version>/<image>/  e.g. nginx: docker-entrypoint.sh usr/sbin/nginx usr/share/nginx/html/index.html

They are the upper layers of a container's overlays. In a user namespace the machine's directories belong to a user
who does not exist there, and nobody could create a file in them: the directories of `base` cover them with ones that
belong to the container's root.

A launcher is a script of five lines. Executed, it starts Python bare (-IS: 10 ms); the shim does not even do that: it
reads the second line and calls the program in a fork of itself.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from podnet.controlplane.kubelet.images import pages
from podnet.controlplane.kubelet.images.catalogue import ENTRIES, CatalogueEntry
from podnet.controlplane.kubelet.images.programs import launch
from podnet.topology.compiled import compiled_program

PROGRAMS_PATH = "/opt/podnet"
_PACKAGE = "podnet/controlplane/kubelet/images/programs"

BASE_DIRECTORIES = {
    "etc/ssl": 0o755,
    "usr/local": 0o755,
    "usr/local/bin": 0o755,
    "usr/local/etc": 0o755,
    "usr/local/lib": 0o755,
    "usr/local/share": 0o755,
    "usr/bin": 0o755,
    "usr/share": 0o755,
    "usr/src": 0o755,
    "var/cache": 0o755,
    "var/lib": 0o755,
    "var/log": 0o755,
    "var/opt": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
    "var/www": 0o755,
}

# Tools that every image with a shell has and a machine may lack: name → the own program that stands in.
APPLETS = {"nc": "nc", "wget": "wget", "nslookup": "nslookup", "curl": "curl"}


# `busybox APPLET …`, where the machine has no busybox: every applet is a program of its own here.
_BUSYBOX = """#!/bin/sh
if [ $# -eq 0 ]; then
  echo "BusyBox (podnet) multi-call binary."
  echo "Usage: busybox [function [arguments]...]"
  exit 0
fi
command -v "$1" > /dev/null || { echo "$1: applet not found" >&2; exit 127; }
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class LayerFile:
    """One file of a layer; a path that ends in a slash is an empty directory."""

    content: str | bytes
    mode: int = 0o644


def launcher(program: str) -> LayerFile:
    """The executable that stands for a catalogue program."""
    interpreter = os.path.realpath(sys.executable)
    text = (
        f"#!{interpreter} -IS\n"
        f"{launch.MARK}{program}\n"
        f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {PROGRAMS_PATH!r})\n"
        "from podnet.controlplane.kubelet.images.programs import launch\n"
        f"sys.exit(launch.call({program!r}, sys.argv))\n"
    )
    return LayerFile(text, 0o755)


def pause_program() -> LayerFile:
    """`/pause`: what most pods of a network lab run, so the small one where there is a compiler."""
    compiled = compiled_program(Path(__file__).with_name("programs") / "pause.c")
    return LayerFile(compiled, 0o755) if compiled is not None else launcher("pause")


def layer_files(have: Mapping[str, str | None]) -> dict[str, dict[str, LayerFile]]:
    """Layer → path → file. `have` says which tools the machine has (name → path or None)."""
    applets = {f"usr/bin/{name}": launcher(program) for name, program in APPLETS.items() if not have.get(name)}
    bash = "bash" if have.get("bash") else "sh"
    layers: dict[str, dict[str, LayerFile]] = {entry.name: {} for entry in ENTRIES}
    layers["base"] = applets
    for name in ("pause", "agnhost", "http-echo", "http-https-echo", "whoami", "echo-basic", "echoserver", "hello-app"):
        layers[name][name] = launcher(name)
    layers["agnhost"] |= {
        "agnhost-2": launcher("agnhost"),
        "localhost.crt": LayerFile(pages.LOCALHOST_CERTIFICATE),
        "localhost.key": LayerFile(pages.LOCALHOST_KEY, 0o600),
        "uploads/": LayerFile(""),
    }
    layers["pause"]["pause"] = pause_program()
    layers["nginx"] |= {
        "docker-entrypoint.sh": launcher("docker-entrypoint"),
        "docker-entrypoint.d/": LayerFile(""),
        "usr/sbin/nginx": launcher("nginx"),
        "usr/share/nginx/html/index.html": LayerFile(pages.NGINX_WELCOME),
        "usr/share/nginx/html/50x.html": LayerFile(pages.NGINX_50X),
        "etc/nginx/nginx.conf": LayerFile(pages.NGINX_CONF),
        "etc/nginx/conf.d/default.conf": LayerFile(pages.NGINX_DEFAULT_CONF),
        "var/log/nginx/": LayerFile(""),
        "var/cache/nginx/": LayerFile(""),
    }
    layers["httpd"] |= {
        "usr/local/bin/httpd-foreground": launcher("httpd"),
        "usr/local/apache2/bin/httpd": launcher("httpd"),
        "usr/local/apache2/htdocs/index.html": LayerFile(pages.HTTPD_INDEX),
        "usr/local/apache2/logs/": LayerFile(""),
    }
    layers["busybox"]["usr/sbin/httpd"] = launcher("busybox-httpd")
    if not have.get("busybox"):
        layers["busybox"]["usr/bin/busybox"] = layers["alpine"]["usr/bin/busybox"] = LayerFile(_BUSYBOX, 0o755)
    layers["bash"]["usr/local/bin/docker-entrypoint.sh"] = LayerFile('#!/bin/sh\nexec "$@"\n', 0o755)
    if not have.get("zsh"):
        layers["netshoot"]["usr/bin/zsh"] = LayerFile(f'#!/bin/sh\nexec {bash} "$@"\n', 0o755)
    layers["python"]["usr/local/bin/python"] = LayerFile(
        f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} "$@"\n', 0o755
    )
    if not have.get("python3"):
        layers["python"]["usr/local/bin/python3"] = layers["python"]["usr/local/bin/python"]
    layers["coredns"]["coredns"] = launcher("coredns")
    return layers


def layers_directory(state: Path) -> Path:
    """Where this version's layers are: a changed layer gets another directory, running containers keep theirs."""
    digest = hashlib.sha256(repr((_wanted(), BASE_DIRECTORIES)).encode()).hexdigest()[:12]
    return state / "images" / digest


def image_layers(directory: Path, entry: CatalogueEntry) -> tuple[Path, Path]:
    """An image's layers, the uppermost first."""
    return directory / entry.name, directory / "base"


def write_layers(directory: Path) -> None:
    """Write all layers unless they are there; whole or not at all."""
    if directory.is_dir():
        return
    aside = directory.with_name(f".{directory.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    for layer, files in _wanted().items():
        (aside / layer).mkdir(parents=True)
        for path, file in files.items():
            place = aside / layer / path
            if path.endswith("/"):
                place.mkdir(parents=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.content if isinstance(file.content, bytes) else file.content.encode())
            place.chmod(file.mode)
    for path, mode in BASE_DIRECTORIES.items():
        place = aside / "base" / path
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(mode)
    try:
        aside.rename(directory)
    except OSError:  # somebody was faster
        shutil.rmtree(aside, ignore_errors=True)


def programs_source() -> tuple[str, str]:
    """(directory of the programs on this machine, where a container finds them)."""
    return os.path.dirname(os.path.realpath(launch.__file__)), f"{PROGRAMS_PATH}/{_PACKAGE}"


def _wanted() -> dict[str, dict[str, LayerFile]]:
    return layer_files({name: shutil.which(name) for name in (*APPLETS, "bash", "busybox", "zsh", "python3")})
