"""The parts of `podnet bench` that need a cluster, in small, so that they do not rot; no figure is judged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from podnet.bench import dns, service_paths
from podnet.bench.rows import Settings
from podnet.bench.services import mode_rows
from podnet.lab.session import LabSession
from podnet.topology.spec import default_cluster_spec

CHANGES = 5


@pytest.fixture(scope="module")
def booted(boot_cluster):
    """A cluster of its own: its mode is switched."""
    cluster = boot_cluster()
    yield cluster
    cluster.down()


@pytest.fixture
def lab(booted, monkeypatch):
    """The bench's way to a cluster that runs already."""
    for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, booted.env[name])
    return LabSession(default_cluster_spec(booted.name, workers=2), attach=True)


def test_every_row_of_services_in_both_modes(lab):
    for program, package in {"iperf3": "iperf3", "iptables-restore": "iptables"}.items():
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: sudo apt install {package}")
    place = service_paths.prepare(lab)
    assert place.service_ip != place.server_ip
    notes = []
    settings = Settings(note=notes.append)
    for mode in ("nftables", "iptables"):
        rows = list(mode_rows(settings, lab, place, mode, changes=CHANGES, rounds=1, requests=10))
        assert [row.name for row in rows] == [
            f"endpoint change to served on every node, {CHANGES} Services, {mode}, p50",
            f"endpoint change to served on every node, {CHANGES} Services, {mode}, p99",
            f"connect and one answer through a Service, {mode}, median of 10",
            f"TCP through a Service to another node, {mode}",
            f"Service / direct throughput, {mode}, median of 1 pairs",
        ]
        assert [row.budget for row in rows] == [None, 250.0, None, None, 0.95]
        assert all(row.value >= 0 and not row.error for row in rows)
        assert rows[4].value == pytest.approx(rows[3].ratio)
    assert len(notes) == 6
    assert not [
        each
        for each in lab.list("services")
        if each["metadata"]["name"].startswith(("change-nftables", "change-iptables"))
    ]


def test_a_service_created_is_answered_with_its_own_address(lab):
    taken = dns.measure_changes(lab, CHANGES)
    assert len(taken) == CHANGES
    assert min(taken) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bench_leaves_no_cluster(booted, number):
    """With a home that the other tests' cluster shares: that one lives on."""
    argv = [sys.executable, "-m", "podnet", "bench", "boot", "-o", "json"]
    with subprocess.Popen(
        argv,
        env=booted.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Who runs the tests in the background of a shell ignores SIGINT, and would hand that on.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 - this process has no threads
    ) as bench:
        booted.wait(lambda: others(booted) or bench.poll() is not None, "the bench boots a cluster")
        os.kill(bench.pid, number)
        out, err = bench.communicate(timeout=60)
    assert bench.returncode == 128 + number, err
    assert json.loads(out) == []
    assert "interrupted" in err
    assert "Traceback" not in err
    booted.wait(lambda: not others(booted), "the bench's cluster is gone")
    assert not list((booted.home / "state" / "podnet").glob("bench-*"))
    assert booted.kubectl("get", "--raw", "/readyz").stdout == "ok"


def others(booted):
    """Clusters beside the tests' own."""
    return [each for each in json.loads(booted.podnet("ls", "-o", "json").stdout) if each["name"] != booted.name]
