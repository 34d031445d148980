"""Clusters for benchmarks: a name of their own, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

from podnet import launch
from podnet.lab.session import LabSession
from podnet.topology.spec import default_cluster_spec


def fresh_name() -> str:
    """A name nobody else uses."""
    return f"bench-{uuid.uuid4().hex[:8]}"


def podnet(*words: str) -> str:
    """Run the command line as a user would; its output."""
    result = subprocess.run(
        [sys.executable, "-m", "podnet", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ,
    )
    if result.returncode:
        raise RuntimeError(f"podnet {' '.join(words)}: {result.stderr.strip()}")
    return result.stdout


@contextlib.contextmanager
def bench_cluster(name: str = "", *, workers: int = 2, started: bool = False) -> Iterator[LabSession]:
    """A running cluster for the length of the block."""
    name = name or fresh_name()
    try:
        if not started:
            podnet("up", "-c", name, "--nodes", str(workers))
        yield LabSession(default_cluster_spec(name, workers=workers))
    finally:
        launch.down(name, purge=True)


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
