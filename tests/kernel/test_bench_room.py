"""The parts of `podnet bench` that need a kernel and no cluster, in small, so that they do not rot; no figure is judged."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from podnet.bench import rooms
from podnet.bench.datapath import BY_HAND, NAT_HOOK, by_hand
from podnet.bench.rooms import run_in_room
from podnet.bench.rows import BenchError, Settings
from podnet.bench.services import kernel_rows
from podnet.proxy.bench import BUDGETS_MS
from podnet.room import is_running, process_start_time, start_room

pytestmark = pytest.mark.kernel


@pytest.fixture
def started(monkeypatch):
    """(pid, start time) of every room that was started; none may be left."""
    rooms_made = []

    def start(main, name):
        pid = start_room(main, name)
        rooms_made.append((pid, process_start_time(pid)))
        return pid

    monkeypatch.setattr(rooms.room, "start_room", start)
    yield rooms_made
    deadline = time.monotonic() + 10
    while any(is_running(*each) for each in rooms_made):
        assert time.monotonic() < deadline, "a room outlived its work"
        time.sleep(0.01)


def test_what_is_said_in_a_room_is_heard_in_order(started):
    def work(say):
        say({"pid": os.getpid()})
        say("x" * 300_000)  # more than a pipe holds

    assert list(run_in_room(work, "test", 30)) == [{"pid": 1}, "x" * 300_000]
    assert len(started) == 1


def test_an_error_in_a_room_comes_out_with_its_reason(started, capfd):
    def work(say):
        say(1)
        raise ValueError("no such thing")

    said = run_in_room(work, "test", 30)
    assert next(said) == 1
    with pytest.raises(BenchError, match="test: ValueError: no such thing"):
        next(said)
    assert capfd.readouterr().err == ""


def test_a_room_that_dies_or_takes_too_long_is_an_error(started):
    with pytest.raises(BenchError, match="ended before its work was done"):
        list(run_in_room(lambda _say: os._exit(3), "test", 30))
    with pytest.raises(BenchError, match="not done in time"):
        list(run_in_room(lambda _say: time.sleep(600), "test", 0.2))


def test_a_reader_who_leaves_ends_the_room(started):
    def work(say):
        say("begun")
        time.sleep(600)

    said = run_in_room(work, "test", 60)
    assert next(said) == "begun"
    said.close()


def test_every_row_of_the_kernels_part_at_a_small_size(started):
    notes = []
    rows = list(kernel_rows(Settings((5,), notes.append)))
    names = [row.name for row in rows]
    modes = ["nftables"]
    if shutil.which("iptables-restore"):
        modes.append("iptables")
        assert not any(row.error for row in rows)
    for mode in modes:
        assert f"full load of 5 Services, {mode}" in names
        assert f"one of 5 Services changed, {mode}, model to kernel" in names
        assert f"first packet to the last of 5 Services, {mode}" in names
    assert "one of 5 Services changed, nftables, transaction alone" in names
    assert all(row.error or row.value > 0 for row in rows)
    assert [note for note in notes if "5 Services" in note] == [
        f"services: {m}, 5 Services" for m in ("nftables", "iptables")
    ]
    assert set(BUDGETS_MS) == {100, 1000}


@pytest.mark.parametrize("build", [BY_HAND, BY_HAND + NAT_HOOK], ids=["plain", "conntrack"])
def test_the_path_by_hand_carries_traffic(started, build):
    if shutil.which("iperf3") is None:
        pytest.skip("iperf3 is not installed: sudo apt install iperf3")
    assert by_hand(build, 1) > 0
