"""Open vSwitch's two daemons and podnet's controller, running in the room with files of their own.

    ovs-vsctl ──► ovsdb-server ◄── ovs-vswitchd ◄── OpenFlow 1.3, 127.0.0.1:6653 ──► controller (os-ken)

Database, sockets, pid files and logs are in one directory; the machine's own Open vSwitch, if it runs one, is never
spoken to. All three are children of the caller and end with the room.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from podnet.topology.node import UnderlayError
from podnet.topology.openflow.controller import OFP_PORT

LOG = logging.getLogger(__name__)

_SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_PROGRAMS = ("ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl")
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 3.0
_POLL_S = 0.01
_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")


class OpenFlowDaemons:
    """Started once for all OpenFlow switches of an underlay."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, Sequence[str]] = {}
        path = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
        self._env = {**os.environ, "PATH": path}
        for name in ("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"):
            self._env[name] = str(directory)

    @property
    def database(self) -> str:
        """Where ovs-vsctl finds the database."""
        return f"unix:{self.directory}/db.sock"

    def start(self, hosts: Mapping[str, str], trunks: Sequence[str]) -> None:
        """Start all three; `hosts` (address to MAC) and `trunks` (ports) are for the controller's ARP answers."""
        self._check()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.set_hosts(hosts, trunks)
        database = self.directory / "conf.db"
        database.unlink(missing_ok=True)
        self._run(["ovsdb-tool", "create", str(database), str(_SCHEMA)])
        self._spawn(
            "ovsdb-server",
            ["ovsdb-server", str(database), f"--remote=p{self.database}", f"--unixctl={self.directory}/ovsdb.ctl"],
        )
        self._wait("ovsdb-server", lambda: _answers(socket.AF_UNIX, str(self.directory / "db.sock")))
        self.vsctl("--no-wait", "init")
        self._spawn(
            "ovs-vswitchd",
            ["ovs-vswitchd", self.database, "--enable-dummy", f"--unixctl={self.directory}/vswitchd.ctl"],
        )
        self.start_controller()
        self._wait("ovs-vswitchd", lambda: _answers(socket.AF_UNIX, str(self.directory / "vswitchd.ctl")))
        self._wait("controller", lambda: _answers(socket.AF_INET, ("127.0.0.1", OFP_PORT)))

    def start_controller(self) -> None:
        """Start (or start again) the controller. The switches' flows stay while it is away."""
        code = [sys.executable, "-m", "podnet.topology.openflow.controller", "--port", str(OFP_PORT)]
        self._spawn("controller", [*code, "--hosts", str(self.directory / "hosts.json")])

    def revive(self) -> list[str]:
        """Start again what died; the names of it. Bridges come back from the database, flows from the controller."""
        dead = [name for name, process in self._processes.items() if process.poll() is not None]
        for name in dead:
            LOG.warning("%s ended with %s; starting it again", name, self._processes[name].returncode)
            self._spawn(name, self._commands[name])
        return dead

    def set_hosts(self, hosts: Mapping[str, str], trunks: Sequence[str]) -> None:
        """Tell the controller of machines that came or went: it reads its file anew on SIGHUP."""
        new = self.directory / "hosts.json.new"
        new.write_text(json.dumps({"hosts": dict(hosts), "trunks": list(trunks)}))
        new.replace(self.directory / "hosts.json")
        controller = self._processes.get("controller")
        if controller is not None and controller.poll() is None:
            controller.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End all three."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        with contextlib.suppress(FileNotFoundError):
            (self.directory / "db.sock").unlink()

    def pids(self) -> dict[str, int]:
        """The running processes, by name."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def vsctl(self, *argv: str) -> str:
        """Run ovs-vsctl on the private database."""
        return self._run(["ovs-vsctl", f"--db={self.database}", "--timeout=10", *argv])

    def ofctl(self, *argv: str) -> str:
        """Run ovs-ofctl; bridges are found by their management sockets in the private directory."""
        return self._run(["ovs-ofctl", "-O", "OpenFlow13", *argv])

    def log_tail(self, name: str) -> str:
        """The last lines that a daemon wrote."""
        log = self.directory / f"{name}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else ""

    def _check(self) -> None:
        missing = [name for name in _PROGRAMS if shutil.which(name, path=self._env["PATH"]) is None]
        if missing or not _SCHEMA.exists():
            what = ", ".join(missing) or str(_SCHEMA)
            raise UnderlayError(f"openflow switches need Open vSwitch: {what} missing (apt install openvswitch-switch)")
        try:
            import os_ken  # noqa: F401 - only asked for, the controller imports it
        except ImportError as error:
            raise UnderlayError("openflow switches need os-ken: pip install 'podnet[sdn]'") from error

    def _run(self, argv: Sequence[str]) -> str:
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode:
            words = done.stderr.strip().splitlines()
            raise UnderlayError(f"{argv[0]}: {words[-1] if words else f'exit code {done.returncode}'}")
        return done.stdout

    def _spawn(self, name: str, argv: Sequence[str]) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                argv,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._commands[name] = argv

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        process = self._processes[name]
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnderlayError(f"{name} did not start: {self.log_tail(name) or 'it said nothing'}")
            threading.Event().wait(_POLL_S)


def _answers(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    """Whether somebody listens: a socket's file is there a moment before that."""
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0
