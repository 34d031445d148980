"""Signals while a cluster is being made: noted, raised at the right moment, once."""

from __future__ import annotations

import os
import signal

import pytest

from podnet.interrupts import SIGNALS, HeldInterrupts, Interrupted


@pytest.fixture(autouse=True)
def _signals_as_a_terminal_gives_them():
    """A shell starts what runs in the background with SIGINT ignored, and that is inherited."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: signal.Signals(n).name)
def test_a_held_signal_is_raised_at_release(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with HeldInterrupts() as interrupts:
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as caught:
            interrupts.release()
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_a_signal_after_release_interrupts_at_once_and_only_once() -> None:
    seen: list[int] = []
    with HeldInterrupts() as interrupts:
        interrupts.release()
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted as err:
            os.kill(os.getpid(), signal.SIGTERM)  # during the tidying up: held
            seen.append(err.exit_code)
    assert seen == [143]


def test_it_is_not_lost_in_a_hook_of_fork() -> None:
    # What swallowed a Ctrl-C: an exception in a hook of fork() is printed and forgotten.
    os.register_at_fork(after_in_parent=_shoot_once)
    _armed.append(True)
    with HeldInterrupts() as interrupts:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(Interrupted):
            interrupts.release()


_armed: list[bool] = []


def _shoot_once() -> None:
    if _armed:
        _armed.clear()
        os.kill(os.getpid(), signal.SIGINT)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with HeldInterrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            interrupts.release()
    finally:
        signal.signal(signal.SIGHUP, before)
