"""A small cluster of nothing, for tests of room and supervisor: run as a program, prints its room's pid and waits.

Components: `steady` sleeps, `crashy` exits 3 at once, `polite` writes a file when it is stopped.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from podnet import room, wire
from podnet.components import ComponentSpec
from podnet.supervisor import Supervisor, Work


def polite(directory: Path) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit((directory / "polite-said-goodbye").touch() or 0))
    (directory / "polite-is-ready").touch()
    while True:
        signal.pause()


def echo() -> int:
    sys.stdout.write(sys.stdin.read().upper())
    return 7


def hang() -> int:
    print("hanging", flush=True)
    time.sleep(1000)
    return 0


def main(directory: Path) -> None:
    control = wire.listen(directory / "control.sock")

    def supervise() -> None:
        log = os.open(directory / "log", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        supervisor = Supervisor(control)
        supervisor.handlers.update(
            {
                "state": lambda _: {
                    "components": {
                        key: {"state": c.state, "pid": c.pid, "restarts": c.restarts, "lastExit": c.last_exit}
                        for key, c in supervisor.components.items()
                    }
                },
                "echo": lambda _: Work("echo", echo),
                "hang": lambda _: Work("hang", hang),
                "boom": lambda _: {}["missing"],
                "kill": lambda request: os.kill(supervisor.components[request["name"]].pid, 9) or {},
                "orphan": lambda _: Work("orphan", make_orphan),
                "zombies": lambda _: {"zombies": count_zombies()},
            }
        )
        supervisor.add(ComponentSpec("steady", lambda: time.sleep(1000), log=directory / "steady.log"))
        supervisor.add(ComponentSpec("crashy", lambda: sys.exit(3), log=directory / "crashy.log"))
        supervisor.add(ComponentSpec("polite", lambda: polite(directory), log=directory / "polite.log"))
        supervisor.run()

    pid = room.start_room(supervise, "test-room")
    print(pid, flush=True)
    sys.stdin.read()


def make_orphan() -> int:
    if os.fork() == 0:
        os.setsid()
        time.sleep(0.05)
        os._exit(0)
    return 0


def count_zombies() -> int:
    states = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                states.append((entry / "stat").read_text().rpartition(")")[2].split()[0])
            except OSError:
                continue
    return states.count("Z")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
