"""How long ADD, DEL and wiring take, next to Debian's bridge and host-local in the same run.

`measure` starts a child in namespaces of its own (a user namespace too when not root), which prints the figures as JSON;
nothing of the machine's network is touched and nothing is left when the child is gone. Executed plugins are timed from
posix_spawn to waitpid with namespaces made beforehand, ours and the reference turn and turn about.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from podnet.cni.daemon import CNIDaemonConfig, run_cni_daemon
from podnet.cni.install import install_cni
from podnet.cni.netconf import PLUGIN_TYPE
from podnet.cni.plugin import Node, Plugin
from podnet.cni.removal import LinkRemover
from podnet.cni.request import Request
from podnet.cni.store import LeaseStore
from podnet.topology.kernel import AddBridge, KernelError, SetLink
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.linux.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MS_PRIVATE,
    MS_REC,
    create_netns,
    delete_netns,
    in_netns,
    mount,
    set_parent_death_signal,
    unshare,
)
from podnet.topology.paths import NodePaths

DEBIAN = Path("/usr/lib/cni")
ROUNDS = 40
PODS = 100
_SUBNET = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from podnet.cni.bench import main; main(int(sys.argv[2]), int(sys.argv[3]))"
_TIMEOUT_S = 180
_START_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure, its budget, and its reference where that could be measured."""

    name: str
    value: float
    unit: str
    budget: float | None
    at_most: bool = True
    reference: str = ""
    reference_value: float | None = None


def measure(rounds: int = ROUNDS, pods: int = PODS) -> list[Measurement]:
    """All figures. RuntimeError with the child's words when it fails."""
    import podnet

    root = Path(next(iter(podnet.__path__))).resolve().parent
    command = [sys.executable, "-I", "-c", _CHILD, str(root), str(rounds), str(pods)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"the CNI benchmark failed: {done.stderr.strip()[-2000:]}")
    return [Measurement(**row) for row in json.loads(done.stdout)]


def main(rounds: int, pods: int) -> None:
    """The child: enter namespaces, measure, print."""
    _enter_namespaces()
    with tempfile.TemporaryDirectory(prefix="podnet-bench-") as directory:
        print(json.dumps([asdict(row) for row in _measure_here(Path(directory), rounds, pods)]))


def _enter_namespaces() -> None:
    uid, gid = os.getuid(), os.getgid()
    if uid != 0:
        unshare(CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    unshare(CLONE_NEWNS | CLONE_NEWNET)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def _measure_here(directory: Path, rounds: int, pods: int) -> list[Measurement]:
    paths = NodePaths(directory / "state", directory / "run")
    kernel = LinuxKernel()
    kernel.apply("", [SetLink("lo", up=True)])
    install_cni(paths)
    paths.subnet_env.write_text(_SUBNET)
    with _namespaces(directory / "wired", pods) as namespaces:
        wiring = _time_wiring(kernel, paths, namespaces)
    with _namespaces(directory / "by-hand", pods) as namespaces:
        by_hand = _time_by_hand(kernel, namespaces)
    with _namespaces(directory / "executed", rounds) as namespaces, _daemon(paths):
        ours, theirs = _time_executed(directory, paths, namespaces, rounds)
    debian = "Debian bridge + host-local" if theirs else ""
    return [
        Measurement("CNI ADD, executed, median", ours["ADD"], "ms", 9.0, True, debian, theirs.get("ADD")),
        Measurement("CNI DEL, executed, median", ours["DEL"], "ms", 10.0, True, debian, theirs.get("DEL")),
        Measurement(f"wiring one pod in the daemon, {pods} pods", wiring, "ms", 3.0, True, "two `ip -batch`", by_hand),
    ]


@contextmanager
def _namespaces(directory: Path, count: int) -> Iterator[list[str]]:
    paths = [str(directory / f"ns{n}") for n in range(count)]
    try:
        for path in paths:
            create_netns(path)
        yield paths
    finally:
        for path in paths:
            delete_netns(path)


@contextmanager
def _daemon(paths: NodePaths) -> Iterator[None]:
    """The daemon in a process of its own, as on a node."""
    pid = os.fork()
    if pid == 0:
        try:
            set_parent_death_signal(signal.SIGKILL)  # a child that is killed cannot tidy up
            asyncio.run(run_cni_daemon(CNIDaemonConfig(paths)))
        finally:
            os._exit(1)
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not paths.cni_socket.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("the CNI daemon did not come up")
            threading.Event().wait(0.01)
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _time_executed(
    directory: Path, paths: NodePaths, namespaces: list[str], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median milliseconds of ADD and DEL: ours, Debian's (empty without them)."""
    conf = {"cniVersion": "1.0.0", "name": "bench", "isDefaultGateway": True, "hairpinMode": True, "mtu": 1450}
    ours = directory / "ours.json"
    ours.write_text(json.dumps(conf | {"type": PLUGIN_TYPE, "ipam": {"ranges": [[{"subnet": "10.88.0.0/24"}]]}}))
    contestants = [(paths.cni_bin_dir / PLUGIN_TYPE, ours)]
    if (DEBIAN / "bridge").exists() and (DEBIAN / "host-local").exists():
        theirs = directory / "theirs.json"
        ipam = {"type": "host-local", "ranges": [[{"subnet": "10.89.0.0/24"}]], "dataDir": str(directory / "hl")}
        theirs.write_text(json.dumps(conf | {"type": "bridge", "bridge": "deb0", "ipam": ipam}))
        contestants.append((DEBIAN / "bridge", theirs))
    times: list[dict[str, list[float]]] = [{"ADD": [], "DEL": []} for _ in contestants]
    for n in range(rounds + 2):
        for (program, stdin), measured in zip(contestants, times, strict=True):
            for verb, series in measured.items():
                elapsed_ms = _execute_ms(program, stdin, verb, f"b{n}", namespaces[n % len(namespaces)])
                # The first rounds make the bridge and fill caches.
                if n >= 2:
                    series.append(elapsed_ms)
    medians = [{verb: statistics.median(series) for verb, series in measured.items()} for measured in times]
    return medians[0], medians[1] if len(medians) > 1 else {}


def _execute_ms(program: Path, stdin: Path, verb: str, container: str, netns: str) -> float:
    names = {"COMMAND": verb, "CONTAINERID": container, "NETNS": netns, "IFNAME": "eth0", "PATH": str(DEBIAN)}
    env = {f"CNI_{key}": value for key, value in names.items()} | {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin")}
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, str(stdin), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    began = time.perf_counter()
    pid = os.posix_spawn(program, [str(program)], env, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    elapsed_ms = (time.perf_counter() - began) * 1e3
    if status:
        raise RuntimeError(f"{program} {verb} failed with status {status}")
    return elapsed_ms


def _time_wiring(kernel: LinuxKernel, paths: NodePaths, namespaces: list[str]) -> float:
    """Mean milliseconds of an ADD inside the daemon, over all pods of a full node."""
    with closing(LeaseStore(paths.cni_state_dir / "wiring")) as store, LinkRemover(kernel) as remover:
        node = Node(kernel, store, paths.subnet_env, remover.remove, time.monotonic)
        return asyncio.run(_wire_all(Plugin(node), namespaces))


async def _wire_all(plugin: Plugin, namespaces: list[str]) -> float:
    stdin = json.dumps({"cniVersion": "1.1.0", "name": "wiring", "type": PLUGIN_TYPE, "bridge": "wire0"}).encode()
    requests = [Request(_env(f"w{n}", netns), stdin) for n, netns in enumerate(namespaces)]
    began = time.perf_counter()
    for request in requests:
        response = await plugin.handle(request)
        if response.exit_code:
            raise RuntimeError(response.stdout.decode())
    elapsed_ms = (time.perf_counter() - began) * 1e3 / len(namespaces)
    await asyncio.gather(*(plugin.handle(Request({**r.env, "CNI_COMMAND": "DEL"}, r.stdin)) for r in requests))
    return elapsed_ms


def _env(container: str, netns: str) -> Mapping[str, str]:
    values = {"COMMAND": "ADD", "CONTAINERID": container, "NETNS": netns, "IFNAME": "eth0", "PATH": "/"}
    return {f"CNI_{key}": value for key, value in values.items()}


def _time_by_hand(kernel: LinuxKernel, namespaces: list[str]) -> float | None:
    """Mean milliseconds of the same by two `ip -batch` runs a pod; None without `ip`."""
    try:
        kernel.apply("", [AddBridge("hand0")])
        began = time.perf_counter()
        for n, netns in enumerate(namespaces):
            _by_hand(n, netns)
        return (time.perf_counter() - began) * 1e3 / len(namespaces)
    except (OSError, subprocess.CalledProcessError, KernelError):
        return None


def _by_hand(n: int, netns: str) -> None:
    node = (
        f"link add name hand{n + 1} mtu 1450 type veth peer name eth0 mtu 1450 netns {netns}\n"
        f"link set dev hand{n + 1} master hand0 up\n"
    )
    pod = f"link set dev lo up\nlink set dev eth0 up\naddress add 10.90.0.{n + 2}/24 dev eth0\n"
    pod += "route add default via 10.90.0.1\n"
    _ip_batch(node)
    with in_netns(netns):
        _ip_batch(pod)


def _ip_batch(script: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=script, capture_output=True, text=True, check=True)
