"""What a pod of the runtime with namespaces is, seen from inside and outside. Not collected by itself: these cases
make mounts and orphans, so tests/kernel/test_runtime.py runs them in a room of their own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane.kubelet.cni_config import CNIRuntimeError
from podnet.controlplane.kubelet.cri import (
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    Mount,
    RuntimeServiceError,
    SandboxConfig,
    SandboxState,
)
from podnet.controlplane.kubelet.runtime.enter import ContainerNotFoundError, find_container
from podnet.controlplane.kubelet.runtime.runtime import PodRuntime
from podnet.controlplane.kubelet.runtime.zygote import start_zygote
from podnet.topology.paths import NodePaths

pytestmark = pytest.mark.kernel
AS_ROOT = os.environ.get("PODNET_TEST_ROOM") == "root"


class Network:
    """Stands in for CNI."""

    def __init__(self) -> None:
        self.refusal = ""
        self.deleted: list[tuple[str, str]] = []

    async def add(self, container_id: str, netns: str, *_: Any, **__: Any) -> dict[str, Any]:
        assert Path(netns).exists()
        if self.refusal:
            raise CNIRuntimeError(self.refusal)
        return {"ips": [{"address": f"10.244.1.{int(container_id[:2], 16)}/24"}]}

    async def delete(self, container_id: str, netns: str = "", *_: Any, **__: Any) -> None:
        self.deleted.append((container_id, netns))

    async def status(self) -> None:
        if self.refusal:
            raise CNIRuntimeError(self.refusal)


class Node:
    """A runtime, and short cuts to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.paths = NodePaths(directory / "nodes" / "n1", directory / "run")
        self.network = Network()
        self.zygote = start_zygote()
        self.runtime = PodRuntime(self.paths, self.zygote, self.network)

    def reopen(self) -> None:
        """As after a restart of the agent, without its end."""
        self.runtime = PodRuntime(self.paths, self.zygote, self.network)

    async def sandbox(self, name: str = "web", **more: Any) -> str:
        logs = str(self.paths.pod_logs_dir / f"default_{name}_uid")
        return await self.runtime.run_pod_sandbox(SandboxConfig(name, "default", "uid", log_directory=logs, **more))

    async def container(self, sandbox_id: str, *command: str, image: str = "busybox", **more: Any) -> str:
        name = more.pop("name", "app")
        config = ContainerConfig(name, image, command=command, log_path=f"{name}/0.log", **more)
        return await self.runtime.create_container(sandbox_id, config)

    async def started(self, *command: str, **more: Any) -> str:
        sandbox_id = more.pop("sandbox_id", "") or await self.sandbox()
        container_id = await self.container(sandbox_id, *command, **more)
        await self.runtime.start_container(container_id)
        return container_id

    async def ended(self, container_id: str, timeout_s: float = 15.0) -> ContainerStatus:
        async with asyncio.timeout(timeout_s):
            while True:
                status = await self.runtime.container_status(container_id)
                if status.state is ContainerState.EXITED:
                    return status
                await self.runtime.wait_change(5)

    async def ran(self, *command: str, **more: Any) -> tuple[ContainerStatus, str]:
        """Run to the end; the status and the output of both streams."""
        status = await self.ended(await self.started(*command, **more))
        lines = Path(status.log_path).read_text().splitlines() if Path(status.log_path).exists() else []
        return status, "".join(line.split(" ", 3)[3] + "\n" for line in lines)

    async def shell(self, container_id: str, script: str) -> str:
        result = await self.runtime.exec_sync(container_id, ("sh", "-c", script), 20)
        return (result.stdout + result.stderr).decode()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    before = processes()
    made = Node(tmp_path)
    yield made
    for status in await made.runtime.list_pod_sandboxes():
        await made.runtime.remove_pod_sandbox(status.id)
    await made.runtime.close()
    made.zygote.close()
    assert await settled(lambda: processes() - before == set()), processes() - before
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert list(made.paths.sandboxes_dir.glob("*")) == []
    assert list((made.paths.run / "shim").glob("*")) == []
    assert list(made.paths.netns_dir.glob("*")) == []
    assert list((made.paths.run / "shm").glob("*")) == []


def processes() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state == "Z" and (entry / "stat").read_text().rpartition(")")[2].split()[1] == "1":
                    continue  # the room's PID 1 here is a shell, which reaps when it gets to it
                found.add(f"{entry.name} {(entry / 'comm').read_text().strip()} {state}")
    return {line for line in found if not line.endswith(("pytest R", "pytest S"))} - {f"{os.getpid()}"}


async def settled(condition: Any, timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


# --- what is private ---------------------------------------------------------------------------------------------


async def test_hostname_is_the_pods(node: Node) -> None:
    status, output = await node.ran("sh", "-c", "hostname; uname -n; echo $HOSTNAME; cat /etc/hostname")
    assert output.split() == ["web"] * 4
    assert status.exit_code == 0
    assert os.uname().nodename != "web"


async def test_processes_are_the_containers_own(node: Node) -> None:
    _, output = await node.ran("sh", "-c", "echo $$; ls -d /proc/[0-9]*; cat /proc/1/comm")
    assert output.split()[0] == "1"
    assert "/proc/1" in output
    assert len([word for word in output.split() if word.startswith("/proc/")]) <= 3
    assert output.split()[-1] == "sh"


async def test_writes_stay_in_the_container(node: Node) -> None:
    places = "/etc/podnet-x /usr/local/bin/podnet-x /usr/bin/podnet-x /var/log/podnet-x /root/podnet-x /tmp/podnet-x /podnet-x"
    script = f"for f in {places}; do echo x > $f || exit 1; done; ls {places} | wc -l"
    status, output = await node.ran("sh", "-c", script)
    assert (status.exit_code, output.strip()) == (0, "7")
    assert not any(os.path.exists(place) for place in places.split())
    other, gone = await node.ran("sh", "-c", f"ls {places} 2>/dev/null | wc -l", name="other")
    assert (other.exit_code, gone.strip()) == (0, "0")


async def test_a_file_of_the_machine_is_changed_for_the_container_only(node: Node) -> None:
    if not AS_ROOT:
        pytest.skip("needs root: files of unmapped owners cannot be rewritten in a user namespace")
    before = Path("/etc/passwd").read_bytes()
    status, output = await node.ran("sh", "-c", "echo intruder:x:0:0::/:/bin/sh >> /etc/passwd; tail -1 /etc/passwd")
    assert status.exit_code == 0
    assert output.startswith("intruder")
    assert Path("/etc/passwd").read_bytes() == before


async def test_homes_of_the_machine_are_not_there(node: Node) -> None:
    _, output = await node.ran("sh", "-c", f"ls -A /home /root /opt; ls -d {node.directory} 2>&1")
    assert "No such file" in output
    assert "work" not in output.split()


async def test_root_does_not_escape(node: Node) -> None:
    script = "mount -t tmpfs x /mnt 2>&1; mknod /tmp/d b 8 0 2>&1; ls -d /proc/1/root/work /../../work 2>&1; hostname other 2>&1"
    _, output = await node.ran("sh", "-c", script)
    assert output.count("No such file") == 2
    assert "not permitted" in output or "permission denied" in output.lower()
    assert "ls" in output


async def test_devices(node: Node) -> None:
    script = "echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c && ls -l /dev/stdout && echo ok > /dev/stdout"
    status, output = await node.ran("sh", "-c", script)
    assert status.exit_code == 0
    assert output.split()[:2] == ["4", "4"]
    assert output.split()[-1] == "ok"


async def test_network_namespace_is_the_pods_with_loopback_up(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    pin = (await node.runtime.list_pod_sandboxes())[0].netns
    inside = (
        await node.shell(
            container_id, "stat -L -c %i /proc/self/ns/net; cat /sys/class/net/lo/flags; ls /sys/class/net"
        )
    ).split()
    assert int(inside[0]) == Path(pin).stat().st_ino != Path("/proc/self/ns/net").stat().st_ino
    assert int(inside[1], 16) & 1 == 1
    assert inside[2:] == ["lo"]


async def test_containers_of_a_pod_share_network_ipc_and_shm(node: Node) -> None:
    sandbox_id = await node.sandbox()
    first = await node.started("sleep", "1000", sandbox_id=sandbox_id, name="a")
    second = await node.started("sleep", "1000", sandbox_id=sandbox_id, name="b")
    script = "for n in net ipc uts pid mnt; do stat -L -c %i /proc/self/ns/$n; done"
    one, two = (await node.shell(first, script)).split(), (await node.shell(second, script)).split()
    assert one[:3] == two[:3]
    assert one[3] != two[3]
    assert one[4] != two[4]
    await node.shell(first, "echo shared > /dev/shm/x")
    assert await node.shell(second, "cat /dev/shm/x") == "shared\n"


async def test_host_network_and_host_pid(node: Node) -> None:
    sandbox_id = await node.sandbox(host_network=True, host_pid=True)
    container_id = await node.started("sleep", "1000", sandbox_id=sandbox_id)
    here = [Path(f"/proc/self/ns/{kind}").stat().st_ino for kind in ("net", "pid", "uts")]
    script = "for n in net pid uts; do stat -L -c %i /proc/self/ns/$n; done; ls -d /proc/" + str(os.getpid())
    assert (await node.shell(container_id, script)).split() == [*map(str, here), f"/proc/{os.getpid()}"]
    await node.runtime.stop_container(container_id, 0)
    assert (await node.ended(container_id)).exit_code == 137
    assert node.network.deleted == []


async def test_children_of_a_host_pid_container_die_with_it(node: Node) -> None:
    sandbox_id = await node.sandbox(host_pid=True)
    container_id = await node.started("sh", "-c", "setsid sleep 4321 & sleep 4321", sandbox_id=sandbox_id)
    assert await settled(lambda: len(sleepers("4321")) == 2)
    await node.runtime.stop_container(container_id, 0)
    assert await settled(lambda: not sleepers("4321"))


def sleepers(seconds: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().split(b"\0")[:2] == [
                b"sleep",
                seconds.encode(),
            ]:
                found.append(entry.name)
    return found


async def test_share_process_namespace(node: Node) -> None:
    sandbox_id = await node.sandbox(share_process_namespace=True)
    first = await node.started("sh", "-c", "setsid sleep 4322 & sleep 4322", sandbox_id=sandbox_id, name="a")
    second = await node.started("sleep", "1000", sandbox_id=sandbox_id, name="b")
    listing = await node.shell(second, "cat /proc/1/cmdline | tr '\\0' ' '; ps -e -o args")
    assert listing.startswith("/pause")
    assert "sleep 4322" in listing
    await node.runtime.stop_container(first, 0)
    assert await settled(lambda: not sleepers("4322"))
    assert (await node.runtime.container_status(second)).state is ContainerState.RUNNING


# --- root, mounts, user ------------------------------------------------------------------------------------------


async def test_mounts(node: Node, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("10.0.0.1 web\n")
    volume, token = tmp_path / "vol", tmp_path / "token"
    volume.mkdir()
    token.mkdir()
    (token / "token").write_text("secret")
    mounts = (
        Mount("/usr/share/nginx/html/deep", str(volume)),
        Mount("/usr/share/nginx/html", str(token), read_only=True),
        Mount("/etc/hosts", str(tmp_path / "hosts")),
        Mount("/var/run/secrets/kubernetes.io/serviceaccount", str(token), read_only=True),
        Mount("/data/new/file", str(tmp_path / "hosts"), read_only=True),
    )
    (token / "deep").mkdir()
    script = (
        "cat /etc/hosts /run/secrets/kubernetes.io/serviceaccount/token /data/new/file; echo; "
        "echo y > /var/run/secrets/kubernetes.io/serviceaccount/token || echo refused; "
        "echo z > /data/new/file || echo refused; echo v > /usr/share/nginx/html/deep/f; echo 10.0.0.2 b >> /etc/hosts"
    )
    status, output = await node.ran("sh", "-c", script, mounts=mounts)
    assert status.exit_code == 0
    assert output.startswith("10.0.0.1 web\nsecret10.0.0.1 web\n")
    assert output.count("refused") == 2
    assert (volume / "f").read_text() == "v\n"
    assert "10.0.0.2" in (tmp_path / "hosts").read_text()
    assert (token / "token").read_text() == "secret"


async def test_a_mount_that_is_not_there_is_refused_at_creation(node: Node) -> None:
    sandbox_id = await node.sandbox()
    with pytest.raises(RuntimeServiceError) as refused:
        await node.container(sandbox_id, "true", mounts=(Mount("/x", "/no/such/place"),))
    assert refused.value.reason == "CreateContainerError"
    assert "/no/such/place" in refused.value.message


async def test_state_below_var_makes_no_hole(node: Node) -> None:
    """The kernel refuses an overlay of /var whose upper lies in it: /var is put together piecewise then, writable
    and private all the same, and podnet's own state is not in it."""
    directory = Path(tempfile.mkdtemp(prefix="podnet-room-", dir="/var/tmp"))
    other = Node(directory)
    try:
        script = "for d in /var/tmp /var/log /var/lib /etc; do echo x > $d/podnet-x || exit 1; done; ls -A /var/tmp"
        status, output = await other.ran("sh", "-c", script)
        assert (status.exit_code, output) == (0, "podnet-x\n")
        assert not any(os.path.exists(f"{place}/podnet-x") for place in ("/var/tmp", "/var/log", "/var/lib", "/etc"))
        script = "for d in /var/tmp /var/log /var; do echo x > $d/podnet-x && echo wrote $d; done 2>/dev/null; true"
        assert (await other.ran("sh", "-c", script, read_only_rootfs=True, name="ro"))[1] == ""
    finally:
        for left in await other.runtime.list_pod_sandboxes():
            await other.runtime.remove_pod_sandbox(left.id)
        await other.runtime.close()
        other.zygote.close()
        shutil.rmtree(directory)


async def test_read_only_root(node: Node, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    script = "for d in / /etc /usr/bin /var/log /tmp; do touch $d/x 2>/dev/null && echo wrote $d; done; echo y > /v/x && cat /v/x"
    _, output = await node.ran("sh", "-c", script, read_only_rootfs=True, mounts=(Mount("/v", str(tmp_path / "v")),))
    assert output == "y\n"


async def test_working_directory_and_environment(node: Node) -> None:
    env = (("A", "1"), ("PATH", "/usr/bin:/bin"), ("EMPTY", ""))
    _, output = await node.ran("sh", "-c", 'pwd; echo "$A-$EMPTY-$PATH-$HOME"', env=env, working_dir="/made/for/me")
    assert output == "/made/for/me\n1--/usr/bin:/bin-/root\n"
    _, output = await node.ran("env")
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" in output
    assert "PODNET" not in output


async def test_run_as_user(node: Node) -> None:
    container_id = await node.container(
        await node.sandbox(), "sh", "-c", "id -u; id -g; touch /etc/x", run_as_user=1000
    )
    if AS_ROOT:
        await node.runtime.start_container(container_id)
        status = await node.ended(container_id)
        assert [line.split()[-1] for line in Path(status.log_path).read_text().splitlines()][:2] == ["1000", "0"]
        assert status.exit_code == 1
        return
    with pytest.raises(RuntimeServiceError) as refused:
        await node.runtime.start_container(container_id)
    assert refused.value.reason == "RunContainerError"
    assert "runAsUser 1000" in refused.value.message
    assert (await node.runtime.container_status(container_id)).reason == "StartError"


async def test_capabilities_are_containerds_defaults(node: Node) -> None:
    _, output = await node.ran("sh", "-c", "grep Cap /proc/self/status")
    caps = dict(line.split(":\t") for line in output.splitlines())
    effective = int(caps["CapEff"], 16)
    assert effective & (1 << 13)  # NET_RAW
    assert not effective & (1 << 21)  # SYS_ADMIN
    assert not effective & (1 << 12)  # NET_ADMIN
    assert caps["CapEff"] == caps["CapBnd"]


async def test_privileged_and_added_capabilities(node: Node) -> None:
    script = "grep -e CapEff -e NoNewPrivs /proc/self/status | cut -f2; echo 1 > /proc/sys/net/ipv4/ip_forward; echo $?"
    _, output = await node.ran("sh", "-c", script, privileged=True, name="privileged")
    effective, nothing_new, code = output.split()
    assert int(effective, 16) & (1 << 12)
    assert not int(effective, 16) & (1 << 21)
    assert (nothing_new, code) == ("0", "0")
    more = {"cap_drop": ("ALL",), "cap_add": ("NET_ADMIN",), "no_new_privs": True}
    _, output = await node.ran("sh", "-c", script, name="b", **more)
    assert "0000000000001000\n1\n" in output
    assert "Read-only file system" in output


async def test_the_machines_sysctls_are_read_only(node: Node) -> None:
    script = "for f in sys/kernel/core_pattern sys/vm/drop_caches; do echo x > /proc/$f; done; true"
    _, output = await node.ran("sh", "-c", script)
    assert output.count("Read-only file system") == 2, output


# --- starting, ending, logs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-program",), 'exec: "no-such-program": executable file not found in $PATH'),
        (("/no/such",), 'exec: "/no/such": stat /no/such: no such file or directory'),
        (("/etc/passwd",), 'exec: "/etc/passwd": permission denied'),
        (("/etc",), 'exec: "/etc": is a directory'),
    ],
)
async def test_a_program_that_cannot_start(node: Node, command: tuple[str, ...], words: str) -> None:
    container_id = await node.container(await node.sandbox(), *command)
    with pytest.raises(RuntimeServiceError) as refused:
        await node.runtime.start_container(container_id)
    assert refused.value.reason == "RunContainerError"
    assert refused.value.message.startswith("failed to create containerd task: ")
    assert words in refused.value.message
    status = await node.runtime.container_status(container_id)
    assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 128, "StartError")
    assert status.message == refused.value.message


@pytest.mark.parametrize(
    ("script", "code", "number", "reason"),
    [
        ("exit 0", 0, 0, "Completed"),
        ("exit 42", 42, 0, "Error"),
        ("sh -c 'kill -9 $$'; exit $?", 137, 0, "Error"),
    ],
)
async def test_exit_codes(node: Node, script: str, code: int, number: int, reason: str) -> None:
    status, _ = await node.ran("sh", "-c", script)
    assert (status.exit_code, status.signal, status.reason) == (code, number, reason)
    assert 0 < status.created_at_ns <= status.started_at_ns <= status.finished_at_ns


async def test_the_termination_message(node: Node) -> None:
    status, _ = await node.ran("sh", "-c", "echo because > /dev/termination-log; exit 1")
    assert status.message == "because\n"
    script = "head -c 9000 /dev/zero | tr '\\0' x > /tmp/why; exit 1"
    status, _ = await node.ran("sh", "-c", script, termination_message_path="/tmp/why")
    assert status.message == "x" * 4096
    # Of one that is too long the end stays.
    script = "{ head -c 5000 /dev/zero | tr '\\0' a; printf end; } > /dev/termination-log; exit 1"
    status, _ = await node.ran("sh", "-c", script)
    assert status.message == "a" * 4093 + "end"


async def test_log_lines_long_partial_and_unfinished(node: Node) -> None:
    script = "head -c 40000 /dev/zero | tr '\\0' a; echo; echo err >&2; printf tail"
    status, _ = await node.ran("sh", "-c", script)
    entries = [line.split(" ", 3) for line in Path(status.log_path).read_text().splitlines()]
    assert all(len(entry[0]) == len("2026-01-02T03:04:05.123456789Z") for entry in entries)
    out = [(tag, len(text)) for _, stream, tag, text in entries if stream == "stdout"]
    assert out == [("P", 16384), ("P", 16384), ("F", 7232), ("F", 4)]
    assert [text for _, stream, _, text in entries if stream == "stderr"] == ["err"]


async def test_logs_are_rotated(node: Node) -> None:
    status, _ = await node.ran("sh", "-c", "yes 0123456789abcdef0123456789abcdef | head -n 400000")
    directory = Path(status.log_path).parent
    sizes = [path.stat().st_size for path in directory.iterdir()]
    assert len(sizes) > 1
    assert max(sizes) < 11 * 1024 * 1024


async def test_stdin_once_ends_with_its_client(node: Node) -> None:
    container_id = await node.started("sh", "-c", "cat; echo end", stdin=True, stdin_once=True)
    process = await node.runtime.attach(container_id)
    os.write(process.stdin, b"line\n")
    for descriptor in (process.stdin, process.stdout, process.stderr):
        os.close(descriptor)
    status = await node.ended(container_id)
    assert [line.split()[-1] for line in Path(status.log_path).read_text().splitlines()] == ["line", "end"]


async def test_a_terminal_of_its_own(node: Node) -> None:
    container_id = await node.started("sh", "-c", "tty; stty size; read x; echo got $x", tty=True, stdin=True)
    process = await node.runtime.attach(container_id)
    assert process.stderr == -1
    fcntl.ioctl(process.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    os.write(process.stdin, b"it\n")
    status = await node.ended(container_id)
    text = Path(status.log_path).read_text()
    assert "/dev/pts/0" in text
    assert "got it" in text
    os.close(process.stdin)
    os.close(process.stdout)


async def test_a_terminal_is_its_users_own(node: Node) -> None:
    script = "test -O $(tty) && echo again > $(tty)"
    user = {"run_as_user": 1000} if AS_ROOT else {}
    container_id = await node.started("sh", "-c", script, tty=True, **user)
    status = await node.ended(container_id)
    assert status.exit_code == 0
    assert Path(status.log_path).read_text().split()[3:] == ["again"]


# --- exec --------------------------------------------------------------------------------------------------------


async def test_exec_is_in_the_containers_namespaces(node: Node) -> None:
    container_id = await node.started(
        "sh", "-c", "echo mark > /tmp/mark; exec sleep 1000", env=(("X", "y"),), working_dir="/tmp"
    )
    assert await settled(lambda: True)
    assert (
        await node.shell(container_id, "cat mark; hostname; echo $X; cat /proc/1/comm; pwd")
        == "mark\nweb\ny\nsleep\n/tmp\n"
    )


async def test_exec_terminal_and_its_size(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    script = "tty; trap 'stty size; exit 6' WINCH; echo ready; while :; do sleep 0.05; done"
    process = await node.runtime.exec(
        container_id, ("sh", "-c", script), stdin=True, stdout=True, stderr=True, tty=True
    )
    assert process.stdin == process.stdout
    text = b""
    os.set_blocking(process.stdout, True)
    while b"ready" not in text:
        text += await asyncio.wait_for(asyncio.to_thread(os.read, process.stdout, 100), 5)
    assert text.startswith(b"/dev/pts/")
    fcntl.ioctl(process.stdout, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    assert await asyncio.wait_for(node.runtime.wait_exec(process), 5) == 6
    assert b"33 77" in os.read(process.stdout, 1000)
    os.close(process.stdout)


async def test_exec_at_its_limit_dies_with_its_children(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    with pytest.raises(TimeoutError):
        await node.runtime.exec_sync(container_id, ("sh", "-c", "sleep 4323; true"), 0.3)
    assert await settled(lambda: not sleepers("4323"))


async def test_exec_with_much_output_and_a_background_child(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    result = await node.runtime.exec_sync(
        container_id, ("sh", "-c", "head -c 3000000 /dev/zero; sleep 60 & exit 2"), 20
    )
    assert (result.exit_code, len(result.stdout)) == (2, 3000000)


async def test_exec_refusals(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    with pytest.raises(RuntimeServiceError) as refused:
        await node.runtime.exec_sync(container_id, ("nope",), 5)
    assert 'exec: "nope": executable file not found in $PATH' in refused.value.message
    with pytest.raises(RuntimeServiceError):
        await node.runtime.exec_sync(container_id, ("x" * 300000,), 5)
    assert (await node.runtime.exec_sync(container_id, ("true",), 5)).exit_code == 0


async def test_no_descriptor_leaks_into_a_container(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    assert (await node.shell(container_id, "ls /proc/1/fd; echo; ls /proc/self/fd")).split() == [
        "0",
        "1",
        "2",
        "0",
        "1",
        "2",
        "3",
    ]


async def test_no_descriptor_is_left_open_here(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    await node.shell(container_id, "true")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        await node.shell(container_id, "echo x")
        with pytest.raises(RuntimeServiceError):
            await node.runtime.exec_sync(container_id, ("nope",), 5)
    assert len(os.listdir("/proc/self/fd")) == before


# --- what survives, what does not --------------------------------------------------------------------------------


async def test_a_new_runtime_finds_everything(node: Node) -> None:
    sandbox_id = await node.sandbox()
    running = await node.started("sleep", "1000", sandbox_id=sandbox_id, name="a")
    short = await node.started("sh", "-c", "sleep 0.3; exit 9", sandbox_id=sandbox_id, name="b")
    created = await node.container(sandbox_id, "true", name="c")
    before = (await node.runtime.list_pod_sandboxes())[0]
    await node.runtime.close()
    status_file = node.paths.sandboxes_dir / sandbox_id / "containers" / short / "status.json"
    assert await settled(lambda: json.loads(status_file.read_text())["state"] == "CONTAINER_EXITED")
    node.reopen()
    assert await node.runtime.list_pod_sandboxes() == [before]
    states = {status.id: (status.state, status.exit_code) for status in await node.runtime.list_containers()}
    assert states == {
        running: (ContainerState.RUNNING, 0),
        short: (ContainerState.EXITED, 9),
        created: (ContainerState.CREATED, 0),
    }
    assert await node.shell(running, "hostname") == "web\n"
    await node.runtime.start_container(created)
    assert (await node.ended(created)).exit_code == 0
    await node.runtime.stop_container(running, 0)
    assert (await node.ended(running)).exit_code == 137


_AGENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import runtime_cases
async def main():
    node = runtime_cases.Node(Path({directory!r}))
    container_id = await node.started("sh", "-c", "while :; do date; sleep 0.05; done")
    print(container_id, node.zygote.pid, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


async def test_pods_survive_kill_9_of_the_agent(node: Node, tmp_path: Path) -> None:
    code = _AGENT.format(here=str(Path(__file__).parent), directory=str(tmp_path))
    agent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - it is killed
    try:
        assert agent.stdout is not None
        container_id, zygote = (await asyncio.to_thread(agent.stdout.readline)).split()
    finally:
        agent.kill()
        agent.wait()
    assert await settled(lambda: not Path(f"/proc/{zygote}").exists() or _is_zombie(zygote))
    node.reopen()
    status = await node.runtime.container_status(container_id)
    assert status.state is ContainerState.RUNNING
    size = Path(status.log_path).stat().st_size
    assert await settled(lambda: Path(status.log_path).stat().st_size > size)
    assert await node.shell(container_id, "hostname") == "web\n"


def _is_zombie(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


async def test_a_killed_zygote_is_replaced(node: Node) -> None:
    container_id = await node.started("sleep", "1000")
    os.kill(node.zygote.pid, signal.SIGKILL)
    second = await node.sandbox("two")
    assert (await node.runtime.container_status(container_id)).state is ContainerState.RUNNING
    assert {status.state for status in await node.runtime.list_pod_sandboxes()} == {SandboxState.READY}
    assert await node.started("sleep", "1000", sandbox_id=second)


async def test_a_killed_pause_takes_the_pod_with_it(node: Node) -> None:
    sandbox_id = await node.sandbox()
    container_id = await node.started("sh", "-c", "sleep 4324 & sleep 4324", sandbox_id=sandbox_id)
    assert await settled(lambda: len(sleepers("4324")) == 2)
    record = json.loads((node.paths.sandboxes_dir / sandbox_id / "sandbox.json").read_text())
    await node.runtime.wait_change(0)
    os.kill(record["pause_pid"], signal.SIGKILL)
    assert await node.runtime.wait_change(5)
    status = await node.ended(container_id)
    assert (status.exit_code, status.reason) == (137, "Error")
    assert (await node.runtime.list_pod_sandboxes())[0].state is SandboxState.NOTREADY
    assert await settled(lambda: not sleepers("4324"))
    with pytest.raises(RuntimeServiceError):
        await node.container(sandbox_id, "true")
    node.reopen()
    assert (await node.runtime.list_pod_sandboxes())[0].state is SandboxState.NOTREADY
    assert (await node.runtime.container_status(container_id)).exit_code == 137
    await node.runtime.stop_pod_sandbox(sandbox_id)
    assert [found for found, _ in node.network.deleted] == [sandbox_id]


async def test_a_refused_network_leaves_nothing(node: Node) -> None:
    node.network.refusal = 'plugin type="podnet" failed (add): no address left'
    with pytest.raises(RuntimeServiceError) as refused:
        await node.sandbox()
    assert refused.value.reason == "FailedCreatePodSandBox"
    assert "failed to setup network for sandbox" in refused.value.message
    assert "no address left" in refused.value.message
    assert await node.runtime.list_pod_sandboxes() == []
    assert "no address left" in await node.runtime.status()
    node.network.refusal = ""
    assert await node.runtime.status() == ""


async def test_twenty_pods_at_once(node: Node) -> None:
    async def pod(number: int) -> str:
        sandbox_id = await node.sandbox(f"p{number}")
        return await node.started("sleep", "1000", sandbox_id=sandbox_id)

    containers = await asyncio.gather(*(pod(number) for number in range(20)))
    assert len(set(containers)) == 20
    names = await asyncio.gather(*(node.shell(container_id, "hostname") for container_id in containers))
    assert sorted(names) == sorted(f"p{number}\n" for number in range(20))
    await asyncio.gather(*(node.runtime.remove_pod_sandbox(s.id) for s in await node.runtime.list_pod_sandboxes()))
    assert await node.runtime.list_pod_sandboxes() == []


# --- from outside ------------------------------------------------------------------------------------------------

_ENTER = """
import os, sys
from pathlib import Path
from podnet.controlplane.kubelet.runtime import find_container, enter_container
handle = find_container(Path(sys.argv[1]), "default", "web", "app")
enter_container(handle)
pid = os.fork()
if pid == 0:
    os.execvpe(sys.argv[2], sys.argv[2:], handle.env)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


async def test_find_and_enter_a_container(node: Node) -> None:
    await node.started("sleep", "1000", env=(("X", "y"),), working_dir="/tmp")
    nodes = node.directory / "nodes"
    script = "hostname; cat /proc/1/comm; pwd; echo $X; grep CapEff /proc/self/status; exit 5"
    command = [sys.executable, "-c", _ENTER, str(nodes), "sh", "-c", script]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    lines = done.stdout.split()
    assert lines[:4] == ["web", "sleep", "/tmp", "y"]
    assert not int(lines[-1], 16) & (1 << 21)
    with pytest.raises(ContainerNotFoundError, match="running containers: app"):
        find_container(nodes, "default", "web", "other")
    with pytest.raises(ContainerNotFoundError, match="no running pod default/nope"):
        find_container(nodes, "default", "nope")


async def test_the_pause_process_names_its_pod(node: Node) -> None:
    sandbox_id = await node.sandbox()
    record = json.loads((node.paths.sandboxes_dir / sandbox_id / "sandbox.json").read_text())
    title = Path(f"/proc/{record['pause_pid']}/cmdline").read_bytes().rstrip(b"\0")
    assert title == b"podnet-pause default/web"
    assert os.stat(node.paths.sandboxes_dir / sandbox_id / "sandbox.json").st_mode & 0o777 == 0o600
