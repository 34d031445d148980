"""Every lab that is there, whole: the walk holds, the exercises fail as they are found and pass as they are solved."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from podnet.lab.shelf import find_labs

LABS = find_labs()


@pytest.fixture
def home():
    path = Path(tempfile.mkdtemp(prefix="podnet-test-", dir="/tmp"))
    (path / "run").mkdir(mode=0o700)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def run(home, *argv, timeout=240):
    env = {
        **os.environ,
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        [sys.executable, *argv], cwd=home, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


def need_kubectl():
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH: https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/")


def need_etcd(lab):
    spec = lab.path / "cluster.yaml"
    if spec.exists() and "driver: etcd" in spec.read_text():
        for program, package in (("etcd", "etcd-server"), ("etcdctl", "etcd-client")):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed: apt install {package}")


@pytest.mark.parametrize("lab", LABS, ids=[lab.path.name for lab in LABS])
def test_the_walk_holds_the_starter_fails_the_solution_passes(lab, home):
    need_kubectl()
    need_etcd(lab)
    done = run(home, str(lab.path / "lab.py"), "--prove", "--json")
    text = done.stdout + done.stderr
    assert "\n{" in text, text
    document, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("\n{") + 1 :])
    assert {check["status"] for check in document["checks"]} == {"pass"}, text
    assert {check["status"] for check in document["found"]} <= {"fail", "skip"}, text
    assert any(check["status"] == "fail" for check in document["found"]), "there is something to do"
    assert all(check["lookAt"] for check in document["found"] if check["status"] == "fail"), "and where to look"
    assert done.returncode == 0, text
    assert os.listdir(home / "state" / "podnet") == [], "it leaves nothing behind"


@pytest.mark.parametrize("lab", LABS, ids=[lab.path.name for lab in LABS])
def test_a_lab_has_all_its_parts(lab):
    text = (lab.path / "README.md").read_text()
    for word in ("**Goal.**", "*Expect*", "## Exercises"):
        assert word in text, f"{lab.path.name}/README.md has no {word}"
    assert os.access(lab.path / "lab.py", os.X_OK)


def test_the_verbs_from_beginning_to_end(home):
    need_kubectl()

    def podnet(*words):
        return run(home, "-m", "podnet", *words)

    assert podnet("lab", "check", "1").returncode == 1, "nothing runs yet"
    begun = podnet("lab", "run", "1")
    assert begun.returncode == 0, begun.stderr
    try:
        found = podnet("lab", "check", "01", "-o", "json")
        assert found.returncode == 1
        assert {check["status"] for check in json.loads(found.stdout)["checks"]} == {"fail", "skip"}
        solved = podnet("lab", "solve", "pod-to-pod")
        assert solved.returncode == 0, solved.stderr
        checked = podnet("lab", "check", "lab-01")
        assert (checked.returncode, "3 of 3 checks passed" in checked.stdout) == (0, True), checked.stdout
    finally:
        podnet("down", "-c", "lab-01", "--purge")


def test_a_lab_that_is_not_there(home):
    said = run(home, "-m", "podnet", "lab", "run", "servces")
    assert said.returncode == 1
    assert "there is no lab 'servces'" in said.stderr
    assert "did you mean services?" in said.stderr
    listed = json.loads(run(home, "-m", "podnet", "lab", "ls", "-o", "json").stdout)
    assert [row["number"] for row in listed] == [lab.number for lab in LABS]
