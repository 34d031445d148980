"""Booted clusters for tests: each has a name and directories of its own, and is gone without a trace afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from podnet.collect import collect
from podnet.directories import ClusterDirectories
from podnet.launch import ClusterError
from podnet.proxy.modes import MODES

sys.path.insert(0, str(Path(__file__).parent))  # the rooms that tests share: workload_room, services_world

from services_world import new_world

ROOT = Path(__file__).resolve().parents[2]
ORDINARY_UID = 65534
COUNTER = iter(range(10_000))


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@dataclass
class Booted:
    """One running cluster and short ways to use it."""

    name: str
    home: Path
    uid: int = 0
    boot: dict = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "PYTHONPATH": str(ROOT),
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "KUBECONFIG": str(self.kubeconfig),
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    @property
    def state(self) -> Path:
        return self.home / "state" / "podnet" / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    def _run(self, argv, **kwargs):
        if self.uid != os.geteuid():
            argv = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", *argv]
        kwargs.setdefault("timeout", 180)
        return subprocess.run(argv, env=self.env, text=True, capture_output=True, check=False, **kwargs)

    def podnet(self, *words, check=True, **kwargs):
        result = self._run([sys.executable, "-m", "podnet", *words], **kwargs)
        assert not check or result.returncode == 0, (
            f"podnet {words}: {result.returncode}\n{result.stdout}{result.stderr}"
        )
        return result

    def kubectl(self, *words, check=True, **kwargs):
        result = self._run(["kubectl", *words], **kwargs)
        assert not check or result.returncode == 0, (
            f"kubectl {words}: {result.returncode}\n{result.stdout}{result.stderr}"
        )
        return result

    def python(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program with the cluster's kubeconfig. Warnings of the libraries it imports are not ours."""
        argv = [sys.executable, "-W", "ignore", "-c", program, *words]
        return self._run(argv, timeout=120)

    def kubectl_json(self, *words):
        return json.loads(self.kubectl(*words, "-o", "json").stdout)

    def exec_cli(self, target, *argv, check=True, **kwargs):
        """By the command line, as a user would."""
        return self.podnet("exec", "-c", self.name, target, "--", *argv, check=check, **kwargs)

    def exec(self, target, *argv, check=True, **kwargs):
        """The same through the control socket, which saves half a second of Python's start where that is ours to open
        and the program starts."""
        if kwargs or self.uid != os.geteuid():
            return self.exec_cli(target, *argv, check=check, **kwargs)
        directories = ClusterDirectories(self.name, self.state, self.home / "run" / "podnet" / self.name)
        try:
            result = collect(directories, target, *argv, timeout_s=180)
        except ClusterError:
            return self.exec_cli(target, *argv, check=check)
        assert not check or result.exit_code == 0, (
            f"{target} {argv}: {result.exit_code}\n{result.stdout}{result.stderr}"
        )
        return subprocess.CompletedProcess(argv, result.exit_code, result.stdout, result.stderr)

    def apply(self, manifest: str, check=True):
        return self.kubectl("apply", "-f", "-", input=manifest, check=check)

    def status(self) -> dict:
        return json.loads(self.podnet("status", "-c", self.name, "-o", "json").stdout)

    def component(self, name: str) -> dict:
        return next(c for c in self.status()["components"] if c["name"] == name)

    def up(self, *words):
        result = self.podnet("up", "-c", self.name, "-o", "json", *words)
        self.boot = json.loads(result.stdout)
        return self

    def down(self):
        self.podnet("down", "-c", self.name, "--purge", check=False)

    def wait(self, condition, what: str, timeout_s: float = 30.0):
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < deadline, f"{what}: not after {timeout_s} s"
            time.sleep(0.1)


def need_kubectl():
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH: https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/")


@pytest.fixture(scope="session")
def boot_cluster():
    """A function that boots clusters; all are taken down at the end of the session.

    Their directories are not pytest's own, since those only its user may enter.
    """
    booted: list[Booted] = []

    def boot(*words, uid: int | None = None, name: str = "", spec: dict | None = None) -> Booted:
        need_kubectl()
        home = Path(tempfile.mkdtemp(prefix="podnet-test-", dir="/tmp"))
        cluster = Booted(name or f"t{os.getpid()}-{next(COUNTER)}", home, os.geteuid() if uid is None else uid)
        (home / "run").mkdir(mode=0o700)
        if cluster.uid != os.geteuid():
            for path in (home, home / "run"):
                os.chown(path, cluster.uid, cluster.uid)
        booted.append(cluster)
        if spec is not None:
            document = {"apiVersion": "podnet.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name or "test"}}
            home.chmod(0o755)
            (home / "cluster.yaml").write_text(json.dumps({**document, "spec": spec}))
            words = ("-f", str(home / "cluster.yaml"), *words)
        return cluster.up(*words)

    yield boot
    for cluster in booted:
        cluster.down()
        shutil.rmtree(cluster.home, ignore_errors=True)


@pytest.fixture(scope="module", params=MODES)
def booted_world(request, boot_cluster):
    """A cluster in each mode of the proxy, with endpoints and those who ask: `services_world.World`."""
    world = new_world(boot_cluster, request.param)
    yield world
    world.cluster.down()


@pytest.fixture
def world(booted_world):
    yield booted_world
    booted_world.clean()


@pytest.fixture(scope="session")
def cluster(boot_cluster):
    """The default cluster, shared by every test that leaves it as it was (each uses a namespace of its own)."""
    return boot_cluster()


@pytest.fixture
def start_in_room():
    """A function that starts a program in a pod, node or host and returns its Popen; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(cluster: Booted, target: str, *argv: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "podnet", "exec", "-T", "-c", cluster.name, target, "--", *argv]
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, env=cluster.env, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=30)


@pytest.fixture
def namespace(cluster, request):
    """A namespace for one test."""
    name = f"ns-{next(COUNTER)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false", check=False)
