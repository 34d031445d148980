"""A node for CNI tests: a network namespace with the daemon in it, and pods' namespaces beside it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from podnet.cni.install import install_cni
from podnet.topology.kernel import SetLink
from podnet.topology.linux.kernel import LinuxKernel
from podnet.topology.linux.syscalls import create_netns, delete_netns, in_netns
from podnet.topology.paths import NodePaths

SUBNET = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={}/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
DAEMON = """
import asyncio, sys
from pathlib import Path
from podnet.cni.daemon import CNIDaemonConfig, run_cni_daemon
from podnet.topology.paths import NodePaths
asyncio.run(run_cni_daemon(CNIDaemonConfig(NodePaths(Path(sys.argv[1]), Path(sys.argv[2])))))
"""


@dataclass
class NodeWorld:
    """One node. Everything it runs, it runs in its own namespace."""

    directory: Path
    kernel: LinuxKernel = field(default_factory=LinuxKernel)
    daemon: subprocess.Popen[bytes] | None = None
    namespaces: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.paths = NodePaths(self.directory / "state", self.directory / "run")
        self.netns = self.new_netns("node")
        self.kernel.apply(self.netns, [SetLink("lo", up=True)])

    def new_netns(self, name: str) -> str:
        path = str(self.directory / f"ns-{name}")
        create_netns(path)
        self.namespaces.append(path)
        return path

    def delete_netns(self, path: str) -> None:
        self.kernel.forget(path)
        delete_netns(path)
        self.namespaces.remove(path)

    def subnet(self, gateway: str = "10.244.1.1") -> None:
        self.paths.subnet_env.parent.mkdir(parents=True, exist_ok=True)
        self.paths.subnet_env.write_text(SUBNET.format(gateway))

    def start(self) -> None:
        with in_netns(self.netns):
            self.daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(self.paths.state), str(self.paths.run)])
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self.daemon.poll() is None, f"the CNI daemon ended with {self.daemon.returncode}"
            assert time.monotonic() < deadline, "the CNI daemon did not come up"
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.paths.cni_socket)) == 0

    def kill(self) -> None:
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()
        self.daemon = None

    def spawn(self, argv: list[Any], **kwargs: Any) -> subprocess.Popen[bytes]:
        with in_netns(self.netns):
            return subprocess.Popen([str(part) for part in argv], **kwargs)

    def run(self, *argv: Any, netns: str = "", **kwargs: Any) -> subprocess.CompletedProcess[str]:
        with in_netns(netns or self.netns):
            return subprocess.run(
                [str(part) for part in argv], capture_output=True, text=True, check=False, timeout=30, **kwargs
            )

    def call(
        self,
        verb: str,
        container: str = "c1",
        netns: str = "/gone",
        ifname: str = "eth0",
        plugin: Path | None = None,
        **conf: Any,
    ) -> subprocess.CompletedProcess[str]:
        body = {"cniVersion": "1.1.0", "name": "podnet", "type": "podnet-bridge"} | conf
        program = plugin or self.paths.cni_bin_dir / "podnet-bridge"
        return self.run(program, input=json.dumps(body), env=call_env(verb, container, netns, ifname))

    def ok(self, verb: str, container: str = "c1", netns: str = "/gone", **kwargs: Any) -> dict[str, Any]:
        done = self.call(verb, container, netns, **kwargs)
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout else {}

    def refused(self, verb: str, container: str = "c1", netns: str = "/gone", **kwargs: Any) -> dict[str, Any]:
        done = self.call(verb, container, netns, **kwargs)
        assert done.returncode != 0, done.stdout
        return json.loads(done.stdout)

    def ports(self) -> list[str]:
        return [link.name for link in self.kernel.observe(self.netns).links if link.master == "cni0"]

    def ping(self, netns: str, address: str, wait_s: int = 2) -> bool:
        return self.run("ping", "-c1", f"-W{wait_s}", "-n", address, netns=netns).returncode == 0

    def close(self) -> None:
        if self.daemon is not None:
            self.kill()
        for path in list(self.namespaces):
            self.delete_netns(path)
        self.kernel.close()


def call_env(verb: str, container: str, netns: str, ifname: str = "eth0") -> dict[str, str]:
    names = {"COMMAND": verb, "CONTAINERID": container, "NETNS": netns, "IFNAME": ifname, "PATH": "/usr/lib/cni"}
    return {f"CNI_{key}": value for key, value in names.items()} | {"PATH": os.environ["PATH"]}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeWorld]:
    if os.geteuid() != 0:
        pytest.skip("needs root, or uid 0 in a user namespace, to create network namespaces")
    world = NodeWorld(tmp_path)
    try:
        install_cni(world.paths)
        world.subnet()
        world.start()
        yield world
    finally:
        world.close()
