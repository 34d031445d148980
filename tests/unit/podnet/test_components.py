"""Decisions about components: back-off, exit texts, stop order."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.boot import last_log_line
from podnet.components import (
    MAX_RESTART_DELAY_S,
    Component,
    ComponentSpec,
    exit_text,
    failures_after_exit,
    fork_component,
    restart_delay_s,
    stop_order,
)


@pytest.mark.parametrize(
    ("failures", "delay"), [(1, 0.1), (2, 0.2), (3, 0.4), (7, 6.4), (8, 10.0), (1000, 10.0)], ids=str
)
def test_back_off_doubles_to_its_cap(failures, delay):
    assert restart_delay_s(failures) == pytest.approx(delay)


@given(st.integers(1, 10**6))
def test_back_off_is_bounded_and_never_shrinks(failures):
    assert 0 < restart_delay_s(failures) <= restart_delay_s(failures + 1) <= MAX_RESTART_DELAY_S


@pytest.mark.parametrize(
    ("before", "uptime", "after"), [(0, 0.0, 1), (3, 9.9, 4), (3, 10.0, 1), (50, 3600.0, 1)], ids=str
)
def test_a_healthy_run_starts_the_back_off_anew(before, uptime, after):
    assert failures_after_exit(before, uptime) == after


def _wait_status(action) -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        action()
        os._exit(99)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (lambda: os._exit(0), "exit 0"),
        (lambda: os._exit(7), "exit 7"),
        (lambda: os.kill(os.getpid(), 9), "signal 9 (SIGKILL)"),
        (lambda: os.kill(os.getpid(), 15), "signal 15 (SIGTERM)"),
    ],
    ids=["zero", "seven", "killed", "terminated"],
)
def test_exit_texts_say_what_happened(action, text):
    assert exit_text(_wait_status(action)) == text


def test_components_stop_in_groups_by_rank():
    def component(name: str, rank: int) -> Component:
        return Component(ComponentSpec(name, lambda: None, stop_rank=rank))

    groups = stop_order([component("api", 1), component("agent-1", 0), component("agent-2", 0), component("etcd", 2)])
    assert [[c.spec.name for c in group] for group in groups] == [["agent-1", "agent-2"], ["api"], ["etcd"]]


@pytest.mark.parametrize(
    ("pid", "restart_at", "wanted", "state"),
    [(5, 0.0, True, "running"), (0, 9.0, True, "waiting"), (0, 0.0, True, "stopped"), (0, 9.0, False, "stopped")],
)
def test_component_states(pid, restart_at, wanted, state):
    spec = ComponentSpec("x", lambda: None)
    assert Component(spec, pid=pid, restart_at=restart_at, wanted=wanted).state == state


def test_the_last_words_of_a_component_are_in_its_log(tmp_path):
    def main():
        raise SystemExit("kube-apiserver: the store cannot be opened")

    log = tmp_path / "log"
    pid = fork_component(ComponentSpec("it", main, log=log), frozenset())
    assert exit_text(os.waitpid(pid, 0)[1]) == "exit 1"
    assert last_log_line(log) == "kube-apiserver: the store cannot be opened"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\ntwo\n\n", "two"),
        (
            "  | ExceptionGroup: x\n  +-+---- 1 ----\n    | ImportError: no name\n    +------------\n",
            "ImportError: no name",
        ),
        ("", ""),
    ],
    ids=["plain", "exception-group", "empty"],
)
def test_the_last_line_that_says_something(tmp_path, text, line):
    log = tmp_path / "log"
    log.write_text(text)
    assert last_log_line(log) == line
