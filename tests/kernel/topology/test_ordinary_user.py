"""The same suites as an ordinary user: uid 0 of a user namespace that has one mapped uid.

Run as root, an ordinary user is made by giving root up. What runs here is collected from the files themselves, so that
nothing is tested for root only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from podnet.topology.doctor import run_doctor

pytestmark = pytest.mark.kernel

_ROOT = Path(__file__).resolve().parents[3]
_NOBODY = "65534"


def _refusal() -> str:
    found = next(finding for finding in run_doctor() if finding.name == "user namespaces")
    return "" if found.status == "ok" else f"an ordinary user gets no user namespace here: {found.found}"


@pytest.mark.parametrize(
    "files",
    [
        [
            "tests/contract/test_kernel.py",
            "tests/kernel/topology/test_linux_edges.py",
            "tests/kernel/topology/test_conntrack.py",
        ],
        ["tests/kernel/topology/test_underlay.py"],
        ["tests/kernel/topology/test_openflow.py"],
        ["tests/kernel/proxy/test_proxy_scale.py"],
    ],
    ids=["kernel", "underlay", "openflow", "proxy"],
)
def test_suite_as_an_ordinary_user(files: list[str]) -> None:
    if os.environ.get("PODNET_ORDINARY_USER"):
        pytest.skip("this is the ordinary user's run already")
    if reason := _refusal():
        pytest.skip(reason)
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed (apt install util-linux)")
    # Not tmp_path: its parents are root's alone.
    base = tempfile.mkdtemp(prefix="podnet-user-")
    os.chmod(base, 0o777)
    env = {
        **os.environ,
        "PODNET_ORDINARY_USER": "1",
        "PYTHONPATH": str(_ROOT),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": base,
        "TMPDIR": base,
    }
    drop = ["setpriv", "--reuid", _NOBODY, "--regid", _NOBODY, "--clear-groups"] if os.geteuid() == 0 else []
    room = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc"]
    pytest_argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *files]
    try:
        done = subprocess.run(
            [*drop, *room, *pytest_argv, f"--basetemp={base}/t"],
            cwd=_ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert " passed" in done.stdout
    finally:
        shutil.rmtree(base, ignore_errors=True)
