"""What a pod of the runtime with namespaces is, seen from inside and outside. Not collected by itself: these cases
make mounts and orphans, so tests/kernel/test_runtime.py runs them in a room of their own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from podnet.controlplane.kubelet.cri import (
    ContainerState,
    Mount,
    RuntimeServiceError,
)
from podnet.controlplane.kubelet.runtime.enter import ContainerNotFoundError, find_container

sys.path.insert(0, str(Path(__file__).parent))
import runtime_node
from runtime_node import AS_ROOT, Node, settled, sleepers

pytestmark = pytest.mark.kernel
node = runtime_node.node


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
