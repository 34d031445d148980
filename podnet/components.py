"""A component: one process with its field name, restarted when it dies, logged to a file of its own.

Pure decisions (`restart_delay_s`, `stop_order`) stand beside the one function that forks. Components are forked from
the supervisor, which has imported everything already: a start costs about ten milliseconds, and pages are shared.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from podnet.topology.linux import syscalls

FIRST_RESTART_DELAY_S = 0.1
MAX_RESTART_DELAY_S = 10.0
HEALTHY_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """What to run: `main` blocks until SIGTERM. `node_pid` gives the process whose net, mount and UTS namespaces it
    lives in (asked anew at every start, since a node may have been restarted); None stays in the room's own.
    A `once` component is not restarted when it exits 0.
    """

    name: str
    main: Callable[[], None]
    node: str = ""
    node_pid: Callable[[], int] | None = None
    log: Path = field(default_factory=lambda: Path(os.devnull))
    once: bool = False
    stop_rank: int = 0
    stop_timeout_s: float = 3.0


@dataclass(slots=True)
class Component:
    """A component and its fortune so far. `wanted` is cleared by a stop that was asked for."""

    spec: ComponentSpec
    pid: int = 0
    started_at: float = 0.0
    restarts: int = 0
    failures_in_a_row: int = 0
    restart_at: float = 0.0
    last_exit: str = ""
    wanted: bool = True

    @property
    def state(self) -> str:
        """`running`, `waiting` (for its restart) or `stopped`."""
        if self.pid:
            return "running"
        return "waiting" if self.wanted and self.restart_at else "stopped"


def restart_delay_s(failures_in_a_row: int) -> float:
    """Back-off before the next start: 0.1 s, doubling, at most 10 s. A static pod's kubelet does the same with 10 s
    and 5 min; a lab has no time for that.

    >>> [restart_delay_s(n) for n in (1, 2, 3, 8, 100)]
    [0.1, 0.2, 0.4, 10.0, 10.0]
    """
    return min(FIRST_RESTART_DELAY_S * 2.0 ** min(failures_in_a_row - 1, 20), MAX_RESTART_DELAY_S)


def failures_after_exit(failures_in_a_row: int, uptime_s: float) -> int:
    """A process that ran long enough starts its back-off anew."""
    return 1 if uptime_s >= HEALTHY_AFTER_S else failures_in_a_row + 1


def exit_text(wait_status: int) -> str:
    """`exit 1`, `signal 9 (SIGKILL)`."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code >= 0:
        return f"exit {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def stop_order(components: list[Component]) -> list[list[Component]]:
    """Components in the groups in which they are stopped, lowest rank first."""
    ranks = sorted({component.spec.stop_rank for component in components})
    return [[c for c in components if c.spec.stop_rank == rank] for rank in ranks]


def fork_component(spec: ComponentSpec, keep_fds: frozenset[int] = frozenset()) -> int:
    """Fork and run `spec.main` in its namespaces; the pid. Descriptors outside 0-2 and `keep_fds` are closed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # on a full disk the supervisor lives on; the line is lost
            stream.flush()
    pid = os.fork()
    if pid == 0:
        _be_component(spec, keep_fds)
    return pid


def _be_component(spec: ComponentSpec, keep_fds: frozenset[int]) -> NoReturn:
    code = 70
    try:
        _reset_signals()
        _redirect(spec.log)
        close_fds_except(keep_fds)
        set_title(spec.name if not spec.node else f"{spec.name} {spec.node}")
        if spec.node_pid is not None:
            syscalls.enter(spec.node_pid(), "net mnt uts")
            os.chdir("/")
        faulthandler.enable()
        gc.enable()
        spec.main()
        code = 0
    except SystemExit as err:
        if isinstance(err.code, str):
            print(err.code, file=sys.stderr)  # as the interpreter does: these are its last words
        code = err.code if isinstance(err.code, int) else int(err.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _reset_signals() -> None:
    """Python-level handlers of the supervisor are not a component's."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.setsid()


def _redirect(log: Path) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(null)
    os.close(target)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def close_fds_except(keep: frozenset[int]) -> None:
    """Close every descriptor above 2 that is not to be kept."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)


def set_title(title: str) -> None:
    """The name that ps and top show, both of them (argv and comm)."""
    import setproctitle  # late: it copies the environment block at import

    setproctitle.setproctitle(title)
    # comm is what `ps -o comm`, `top` and `pkill` see: 15 bytes
    ctypes.CDLL(None).prctl(15, title.split(maxsplit=1)[0][:15].encode(), 0, 0, 0)
