"""Room and supervisor, as root and as an ordinary user: nothing leaks out, nothing is left, everything is restarted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from podnet import room, wire

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("room_program.py")
ORDINARY_UID = 65534


def wait_until(condition, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


@pytest.fixture(params=["as we are", "ordinary user"])
def directory(request):
    """A directory for the room, and who runs it. Not pytest's own: that one only its user may enter."""
    with tempfile.TemporaryDirectory(prefix="podnet-room-", dir="/tmp", ignore_cleanup_errors=True) as name:
        path = Path(name)
        if request.param == "ordinary user":
            if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split()[2] == "1":
                pytest.skip("this is an ordinary user already: the other parameter is this case")
            if not shutil.which("setpriv"):
                pytest.skip("setpriv is missing: apt install util-linux")
            os.chown(path, ORDINARY_UID, ORDINARY_UID)
        yield path


@pytest.fixture
def started(directory):
    """(host pid of PID 1, directory)."""
    command = [sys.executable, str(PROGRAM), str(directory)]
    if directory.stat().st_uid == ORDINARY_UID and os.geteuid() == 0:
        command = ["setpriv", f"--reuid={ORDINARY_UID}", f"--regid={ORDINARY_UID}", "--clear-groups", *command]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
    pid = int(process.stdout.readline())
    start = room.process_start_time(pid)
    yield pid, directory
    room.kill_room(pid, start)
    process.communicate(timeout=10)


def ask(directory, verb, fds=(), **fields):
    with wire.connect(directory / "control.sock") as sock:
        sock.settimeout(20)
        wire.send(sock, {"verb": verb, **fields}, fds)
        return next(answer for answer in wire.messages(sock) if answer.get("done"))


def processes_in(pid_namespace: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                inode = os.stat(entry / "ns" / "pid").st_ino
            except OSError:
                continue
            if inode == pid_namespace:
                found.append(int(entry.name))
    return found


def titles(pid_namespace: int) -> list[str]:
    found = []
    for pid in processes_in(pid_namespace):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode())
    return found


def test_the_room_is_closed(started):
    pid, _ = started
    for kind in ("net", "mnt", "pid", "uts", "ipc"):
        name = "pid_for_children" if kind == "pid" else kind
        assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    devices = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]


def test_kill_nine_leaves_nothing(started):
    pid, directory = started
    wait_until(lambda: ask(directory, "state")["components"]["steady"]["state"] == "running")
    namespace = os.stat(f"/proc/{pid}/ns/pid").st_ino
    assert len(processes_in(namespace)) >= 3
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes_in(namespace))
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(directory) not in mounts


def test_what_dies_is_restarted_with_back_off(started):
    _, directory = started
    before = ask(directory, "state")["components"]["steady"]
    ask(directory, "kill", name="steady")
    after = wait_until(
        lambda: (
            (c := ask(directory, "state")["components"]["steady"])["restarts"] == 1 and c["state"] == "running" and c
        )
    )
    assert after["pid"] != before["pid"]
    assert after["lastExit"] == "signal 9 (SIGKILL)"
    crashy = wait_until(lambda: (c := ask(directory, "state")["components"]["crashy"])["restarts"] >= 3 and c)
    assert crashy["lastExit"] == "exit 3"


def test_work_gets_the_callers_streams_and_its_exit_code_comes_back(started):
    _, directory = started
    stdin_read, stdin_write = os.pipe()
    stdout_read, stdout_write = os.pipe()
    os.write(stdin_write, b"hello")
    os.close(stdin_write)
    answer = ask(directory, "echo", (stdin_read, stdout_write))
    os.close(stdin_read)
    os.close(stdout_write)
    with os.fdopen(stdout_read, "rb") as out:
        assert out.read() == b"HELLO"
    assert answer["exit"] == 7


def test_work_ends_when_its_client_goes(started):
    pid, directory = started
    namespace = os.stat(f"/proc/{pid}/ns/pid").st_ino
    sock = wire.connect(directory / "control.sock")
    read_fd, write_fd = os.pipe()
    wire.send(sock, {"verb": "hang"}, (0, write_fd))
    assert os.read(read_fd, 10) == b"hanging\n"
    assert "hang" in titles(namespace)
    sock.close()
    os.close(write_fd)
    assert os.read(read_fd, 10) == b""
    os.close(read_fd)
    wait_until(lambda: "hang" not in titles(namespace))


@pytest.mark.parametrize(
    "request_line", [b"", b"\n", b"garbage\n", b"[1]\n", b'{"verb":"nope"}\n', b'{"verb":"boom"}\n']
)
def test_garbage_on_the_socket_harms_nobody(started, request_line):
    _, directory = started
    with wire.connect(directory / "control.sock") as sock:
        sock.sendall(request_line)
        sock.shutdown(1)
        answers = list(wire.messages(sock))
    assert answers
    assert "error" in answers[-1]
    assert ask(directory, "state")["components"]["steady"]["pid"]


def test_orphans_are_reaped(started):
    _, directory = started
    ask(directory, "orphan")
    wait_until(lambda: ask(directory, "zombies")["zombies"] == 0)


def test_a_stop_lets_components_say_goodbye(started):
    pid, directory = started
    start = room.process_start_time(pid)
    wait_until((directory / "polite-is-ready").exists)
    assert ask(directory, "stop") == {"done": True}
    wait_until(lambda: not room.is_running(pid, start))
    assert (directory / "polite-said-goodbye").exists()
