"""Put the plugins and their configuration on a node: what an installer's DaemonSet does on a real one.

The plugin is the C launcher where a compiler is found (compiled once per machine and kept in the user's cache), else the
Python shim. Files are written aside and renamed, so a runtime that is executing the old plugin is not disturbed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from podnet.cni.netconf import PLUGIN_TYPE
from podnet.cni.portmap import PORTMAP_TYPE
from podnet.topology.compiled import compiled_program
from podnet.topology.paths import NodePaths

CONFLIST = "10-podnet.conflist"
SIDECAR = f".{PLUGIN_TYPE}"
_HERE = Path(__file__).resolve().parent
_SHEBANG_MAX = 250

Launcher = Literal["auto", "c", "python"]


def install_cni(
    paths: NodePaths,
    *,
    network_name: str = "podnet",
    cni_version: str = "1.1.0",
    bridge: str = "cni0",
    launcher: Launcher = "auto",
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write the plugins' executables and 10-podnet.conflist. `extra` is merged into our plugin's section."""
    for directory in (paths.cni_bin_dir, paths.cni_conf_dir, paths.cni_state_dir, paths.run):
        directory.mkdir(parents=True, exist_ok=True)
    sidecar = "\n".join(str(part) for part in (paths.cni_socket, sys.executable, _root(), paths.state, paths.run))
    _replace(paths.cni_bin_dir / SIDECAR, sidecar.encode() + b"\n", 0o644)
    program = launcher_program(launcher)
    for name in (PLUGIN_TYPE, PORTMAP_TYPE):  # one program: the daemon tells the types apart
        _replace(paths.cni_bin_dir / name, program, 0o755)
    conflist = render_conflist(network_name, cni_version, bridge, extra or {})
    _replace(paths.cni_conf_dir / CONFLIST, json.dumps(conflist, indent=2).encode() + b"\n", 0o644)


def render_conflist(network_name: str, cni_version: str, bridge: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The node's network configuration. forceAddress: a node that got a new pod subnet mends its bridge by itself."""
    plugin = {
        "type": PLUGIN_TYPE,
        "bridge": bridge,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "forceAddress": True,
        "capabilities": {"mac": True, "ips": True},
    }
    portmap = {"type": PORTMAP_TYPE, "capabilities": {"portMappings": True}}
    return {"cniVersion": cni_version, "name": network_name, "plugins": [plugin | dict(extra), portmap]}


def launcher_program(launcher: Launcher = "auto") -> bytes:
    """The executable's bytes. OSError when C is asked for and does not compile."""
    if launcher != "python":
        compiled = compiled_program(_HERE / "launcher.c", static=True)
        if compiled is not None:
            return compiled
        if launcher == "c":
            raise OSError("cannot compile launcher.c: no working C compiler (cc) found")
    return shim_program(sys.executable, (_HERE / "shim.py").read_text())


def shim_program(python: str, source: str) -> bytes:
    """The Python shim with its first line. The kernel reads some 250 bytes of it and splits at no space but the first,
    so an interpreter in a longer place is started through the shell."""
    shebang = f"#!{python} -IS\n"
    if len(shebang) <= _SHEBANG_MAX and " " not in python:
        return (shebang + source).encode()
    quoted = "'" + python.replace("'", "'\\''") + "'"
    return f"#!/bin/sh\n''':'\nexec {quoted} -IS \"$0\" \"$@\"\n':'''\n{source}".encode()


def _root() -> Path:
    """The directory that holds the podnet package, as an offline plugin must import it."""
    import podnet

    return Path(next(iter(podnet.__path__))).resolve().parent


def _replace(path: Path, content: bytes, mode: int) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    aside.write_bytes(content)
    aside.chmod(mode)
    aside.replace(path)
