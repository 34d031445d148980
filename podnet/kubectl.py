"""Finding the real kubectl, and saying where to get one. podnet never ships or fakes it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

OLDEST = (1, 27)


class KubectlMissingError(Exception):
    """No kubectl, or one that is too old."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.fix = (
            "install kubectl 1.27 or newer: https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/ "
            "(podnet apply, get, delete and logs work without it)"
        )


def find_kubectl() -> str:
    """Path of a kubectl on PATH. Raises KubectlMissingError."""
    path = shutil.which("kubectl")
    if path is None:
        raise KubectlMissingError("kubectl is not on PATH")
    return path


def kubectl_version(path: str) -> tuple[int, int] | None:
    """(major, minor) of a kubectl, None when it does not say."""
    command = [path, "version", "--client", "-o", "json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    try:
        git_version = json.loads(result.stdout)["clientVersion"]["gitVersion"]
    except (ValueError, KeyError):
        return None
    found = re.match(r"v(\d+)\.(\d+)", git_version)
    return (int(found[1]), int(found[2])) if found else None
