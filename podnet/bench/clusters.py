"""Clusters for benchmarks: a name of their own, gone afterwards, also after an error or Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from podnet import launch
from podnet.bench.rows import BenchError
from podnet.lab.session import LabSession
from podnet.topology.spec import default_cluster_spec

COMMAND_TIMEOUT_S = 120.0
_END_S = 15.0
T = TypeVar("T")


def fresh_name() -> str:
    """A name nobody else uses."""
    return f"bench-{uuid.uuid4().hex[:8]}"


def podnet(*words: str) -> str:
    """Run the command line as a user would; its output."""
    argv = [sys.executable, "-m", "podnet", *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            out, err = process.communicate(timeout=COMMAND_TIMEOUT_S)
        except BaseException:
            _end(process)  # in good order: it may have begun to make something
            raise
    if process.returncode:
        raise BenchError(f"podnet {' '.join(words)}: {err.strip()}")
    return out


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()


@contextlib.contextmanager
def bench_cluster(name: str = "", *, workers: int = 2, started: bool = False) -> Iterator[LabSession]:
    """A running cluster for the length of the block."""
    name = name or fresh_name()
    try:
        if not started:
            podnet("up", "-c", name, "--nodes", str(workers))
        yield LabSession(default_cluster_spec(name, workers=workers))
    finally:
        try:
            launch.down(name, purge=True)
        except BaseException:  # an interrupt in the middle of it
            launch.down(name, purge=True)
            raise


def in_background(work: Callable[[], T], name: str) -> Future[T]:
    """Work in a thread that ends with the program: whoever is interrupted need not wait for it."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as err:
            future.set_exception(err)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def apply(lab: LabSession, manifest: str) -> None:
    """Apply a manifest: with kubectl, or where there is none with podnet's own client."""
    with tempfile.TemporaryDirectory(prefix="podnet-bench-") as directory:
        path = Path(directory, "manifest.yaml")
        path.write_text(manifest, encoding="utf-8")
        lab.apply(path)


def deployment(name: str, replicas: int, image: str = "registry.k8s.io/pause:3.9") -> str:
    """A manifest of pods that do nothing."""
    command = "" if "pause" in image else ", command: [sleep, infinity]"
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: main, image: "{image}"{command}}}]
"""


def pod(name: str, node: str, containers: dict[str, list[str]]) -> str:
    """A manifest of a pod on a node that runs the machine's programs; such documents may stand one after the other."""
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": each, "image": "python", "command": argv} for each, argv in containers.items()],
    }
    metadata = {"name": name, "labels": {"app": name}}
    return "---\n" + json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}) + "\n"
