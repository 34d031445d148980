"""`/docker-entrypoint.sh` of the nginx image: configuration templates, scripts of /docker-entrypoint.d, then the command.

A program rather than a shell script, so that what it starts is called in the same warm interpreter. It does its work
only for `nginx` and `nginx-debug`, as the real one.
"""

from __future__ import annotations

import glob
import os
import re
import subprocess
import sys
from collections.abc import Mapping

from podnet.controlplane.kubelet.images.programs import launch

TEMPLATES = "/etc/nginx/templates"
SCRIPTS = "/docker-entrypoint.d"


def substitute(text: str, env: Mapping[str, str]) -> str:
    """Envsubst with the variables there are: others stay as they stand, because nginx has `$host` and its like."""
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda m: env.get(m[1] or m[2], m[0]), text)


def main(argv: list[str]) -> int:
    """Prepare, then become the command; 127 when there is none of that name."""
    command = argv[1:]
    if not command:
        print(f"{argv[0]}: no command", file=sys.stderr)
        return 2
    if command[0].rpartition("/")[2] in ("nginx", "nginx-debug"):
        _render_templates()
        for script in sorted(glob.glob(f"{SCRIPTS}/*.sh")):
            if os.access(script, os.X_OK):
                code = subprocess.run([script], check=False).returncode
                if code:
                    return code
        print(f"{argv[0]}: Configuration complete; ready for start up", flush=True)
    return launch.become(command)


def _render_templates() -> None:
    output = os.environ.get("NGINX_ENVSUBST_OUTPUT_DIR", "/etc/nginx/conf.d")
    suffix = os.environ.get("NGINX_ENVSUBST_TEMPLATE_SUFFIX", ".template")
    for path in sorted(glob.glob(f"{TEMPLATES}/**/*{suffix}", recursive=True)):
        place = os.path.join(output, os.path.relpath(path, TEMPLATES).removesuffix(suffix))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(path, encoding="utf-8") as template, open(place, "w", encoding="utf-8") as file:
            file.write(substitute(template.read(), os.environ))
