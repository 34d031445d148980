"""The runtime's decisions: root directory, log format, records, users and capabilities."""

from __future__ import annotations

import itertools
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.kubelet.cri import ContainerConfig, Mount, PortMapping, RuntimeServiceError, SandboxConfig
from podnet.controlplane.kubelet.images import catalogue
from podnet.controlplane.kubelet.runtime import (
    bundle,
    credentials,
    crilog,
    layout,
    overlays,
    protocol,
    rootfs,
    rootplan,
    spec,
)
from podnet.controlplane.kubelet.runtime.processes import is_alive, process_start_time
from podnet.controlplane.kubelet.runtime.rootplan import Bind, MakeReadOnly, MountOverlay, Protect
from podnet.topology.paths import NodePaths

MACHINE = rootplan.Machine({"bin": "usr/bin", "lib": "usr/lib"}, frozenset({"lib32"}))
STAMP = "2026-01-02T03:04:05.000000006Z"


def plan(**more):
    root = spec.RootSpec(layers=("/l/nginx", "/l/base"), scratch="/s", target="/t", **more)
    return rootplan.plan_root(root, MACHINE, {"/agnhost": "/l/agnhost/agnhost"}, (Mount("/etc/hostname", "/h"),))


def test_the_overlays_put_image_layers_over_the_machine():
    overlays = [step for step in plan() if isinstance(step, MountOverlay)]
    assert [step.path for step in overlays] == ["/usr", "/etc", "/var"]
    assert overlays[0].layers == ("/l/nginx/usr", "/l/base/usr", "/usr")


def test_nothing_else_of_the_machine_is_shown():
    sources = {step.source for step in plan() if isinstance(step, Bind)}
    assert sources == {f"/dev/{name}" for name in rootplan.DEVICES} | {"/lib32", "/h"}


def test_a_privileged_container_may_set_its_own_network_sysctls_only():
    protected = {step.path for step in plan(privileged=True) if isinstance(step, Protect)}
    assert {"/proc/sys/kernel", "/proc/sys/vm", "/proc/sysrq-trigger"} <= protected
    assert not {"/proc/sys", "/proc/sys/net"} & protected
    assert "/proc/sys" in {step.path for step in plan() if isinstance(step, Protect)}


def test_a_pods_mount_replaces_the_runtimes_own():
    binds = [step for step in plan(mounts=(Mount("/etc/hostname", "/mine"),)) if isinstance(step, Bind)]
    assert [step.source for step in binds if step.path == "/etc/hostname"] == ["/mine"]


def test_a_mount_comes_before_those_below_it():
    mounts = (Mount("/a/b/c", "/1"), Mount("/a", "/2"), Mount("/a/b", "/3"))
    paths = [step.path for step in plan(mounts=mounts) if isinstance(step, Bind) and step.path.startswith("/a")]
    assert paths == ["/a", "/a/b", "/a/b/c"]


def test_a_read_only_root_is_made_so_last():
    steps = plan(read_only=True)
    assert [step.path for step in steps[-4:] if isinstance(step, MakeReadOnly)] == ["/usr", "/etc", "/var", "/"]
    assert not any(isinstance(step, MakeReadOnly) for step in plan())


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/var/run/secrets/x", "/run/secrets/x"),
        ("/rel/x", "/run/x"),
        ("/up/x", "/etc/x"),
        ("/a/../../b", "/b"),
        ("/", "/"),
        ("/new/deep/file", "/new/deep/file"),
    ],
)
def test_links_are_followed_within_the_root(tmp_path, path, place):
    (tmp_path / "var").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "var" / "run").symlink_to("/run")
    (tmp_path / "rel").symlink_to("run")
    (tmp_path / "up").symlink_to("../../../etc")
    assert rootfs.resolve_in_root(str(tmp_path), path) == f"{tmp_path}{place}"


def test_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        rootfs.resolve_in_root(str(tmp_path), "/a/x")


def test_overlay_options_are_escaped():
    assert overlays.escape("/a:b,c\\d") == "/a\\:b\\,c\\\\d"


# --- logs --------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200_000), st.lists(st.integers(0, 200_000), max_size=4))
def test_every_byte_is_logged_in_order(data, cuts):
    splitter = crilog.LineSplitter("stdout")
    edges = [0, *sorted(cuts), len(data)]
    out = b"".join(splitter.feed(data[a:b], STAMP) for a, b in itertools.pairwise(edges))
    out += splitter.finish(STAMP)
    text = b""
    for line in out.split(b"\n")[:-1]:
        stamp, stream, tag, content = line.split(b" ", 3)
        assert (stamp.decode(), stream) == (STAMP, b"stdout")
        assert tag in (b"F", b"P")
        assert len(content) <= crilog.MAX_LINE_BYTES
        text += content + (b"\n" if tag == b"F" else b"")
    assert text == data or text == data + b"\n"


def test_times_have_nine_digits():
    assert crilog.format_time(1_000_000_000 * 86400 + 6) == "1970-01-02T00:00:00.000000006Z"


def test_rotation_keeps_a_few(tmp_path):
    log = crilog.LogFile(str(tmp_path / "d" / "0.log"), max_bytes=100, max_files=3)
    for number in range(20):
        log.write(b"%03d " % number + b"x" * 60 + b"\n")
    log.close()
    files = sorted((tmp_path / "d").iterdir())
    assert len(files) <= 3
    assert files[0].name == "0.log"
    assert b"017" in b"".join(path.read_bytes() for path in files)


def test_a_log_that_cannot_be_written_is_dropped(tmp_path):
    (tmp_path / "file").write_text("")
    log = crilog.LogFile(str(tmp_path / "file" / "0.log"))
    log.write(b"x\n")
    log.close()
    assert (tmp_path / "file").read_text() == ""


# --- records -----------------------------------------------------------------------------------------------------


def test_records_come_back_as_they_were(tmp_path):
    sandbox = SandboxConfig("p", "ns", "u", port_mappings=(PortMapping(80, 8080),), sysctls={"a": "b"})
    assert layout.decode_sandbox_config(layout.encode(sandbox)) == sandbox
    container = ContainerConfig(
        "c", "nginx", command=("a",), env=(("A", "1"),), mounts=(Mount("/a", "/b", read_only=True),), run_as_user=5
    )
    path = str(tmp_path / "x.json")
    layout.write_json(path, layout.encode(container))
    assert layout.decode_container_config(layout.read_json(path)) == container
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_a_field_of_another_version_is_ignored():
    data = layout.encode(SandboxConfig("p", "ns", "u")) | {"from_the_future": 1}
    assert layout.decode_sandbox_config(data) == SandboxConfig("p", "ns", "u")


def test_a_broken_record_is_none(tmp_path):
    (tmp_path / "x").write_text("{")
    assert layout.read_json(str(tmp_path / "x")) is None
    assert layout.read_json(str(tmp_path / "none")) is None


# --- from configuration to specification -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "command", "args", "argv"),
    [
        ("nginx", (), (), ("/docker-entrypoint.sh", "nginx", "-g", "daemon off;")),
        ("nginx", (), ("nginx-debug",), ("/docker-entrypoint.sh", "nginx-debug")),
        ("nginx", ("sh",), (), ("sh",)),
        ("nginx", ("sh",), ("-c", "x"), ("sh", "-c", "x")),
        ("busybox", (), (), ("sh",)),
        ("busybox", (), ("sleep", "1"), ("sleep", "1")),
        ("agnhost", (), (), ("/agnhost", "pause")),
        ("agnhost", (), ("netexec",), ("/agnhost", "netexec")),
    ],
)
def test_command_and_args(image, command, args, argv):
    config = ContainerConfig("c", image, command=command, args=args)
    assert spec.resolve_argv(config, catalogue.resolve(image)) == argv


def test_environment():
    config = ContainerConfig("c", "nginx", env=(("PATH", "/x"), ("A", "1"), ("A", "2")), tty=True)
    env = dict(spec.resolve_env(config, catalogue.resolve("nginx"), "web"))
    assert env["PATH"] == "/x"
    assert env["A"] == "2"
    assert (env["HOSTNAME"], env["HOME"], env["TERM"]) == ("web", "/root", "xterm")
    assert "NGINX_VERSION" in env


def test_build_spec(tmp_path):
    sandbox = SandboxConfig("web", "ns", "u", log_directory="/logs", share_process_namespace=True)
    files = layout.SandboxFiles.of(NodePaths(tmp_path / "s", tmp_path / "r"), "abc")
    config = ContainerConfig("c", "httpd", log_path="c/0.log", mounts=(Mount("/a/./b/", str(tmp_path)),))
    built = bundle.build_spec(sandbox, files, "id1", config, catalogue.resolve("httpd"), tmp_path / "l", "web")
    assert (built.log_path, built.cwd, built.share_pid, built.stop_signal) == (
        "/logs/c/0.log",
        "/usr/local/apache2",
        True,
        28,
    )
    assert built.root.mounts[0].container_path == "/a/b"
    assert built.root.layers == (str(tmp_path / "l/httpd"), str(tmp_path / "l/base"))
    assert spec.decode_spec(layout.encode(built) | {}) == built


@pytest.mark.parametrize("mount", [Mount("relative", "/"), Mount("/x", "/no/such/thing")])
def test_mounts_nobody_can_have_are_refused(mount):
    with pytest.raises(RuntimeServiceError) as refused:
        bundle.check_config(ContainerConfig("c", "x", mounts=(mount,)))
    assert refused.value.reason == "CreateContainerError"


def test_host_names_fit_the_kernel():
    assert spec.sandbox_hostname(SandboxConfig("web", "ns", "u")) == "web"
    assert spec.sandbox_hostname(SandboxConfig("web", "ns", "u", hostname="other")) == "other"
    assert spec.sandbox_hostname(SandboxConfig("a" * 62 + "-b", "ns", "u")) == "a" * 62


# --- users -------------------------------------------------------------------------------------------------------

ROOT_MAP = "         0          0 4294967295\n"
ONE_MAP = "         0       1000          1\n"


@pytest.mark.parametrize(
    ("uid", "gid", "id_map", "refused"),
    [
        (None, None, ROOT_MAP, False),
        (1000, 1000, ROOT_MAP, False),
        (0, 0, ONE_MAP, False),
        (None, None, ONE_MAP, False),
        (1000, None, ONE_MAP, True),
        (0, 5, ONE_MAP, True),
    ],
)
def test_users_a_user_namespace_does_not_have(uid, gid, id_map, refused):
    assert bool(credentials.refused_user(uid, gid, id_map)) is refused


@pytest.mark.parametrize(
    ("add", "drop", "has", "has_not"),
    [
        ((), (), {"NET_RAW", "CHOWN"}, {"SYS_ADMIN", "NET_ADMIN", "MKNOD"}),
        (("NET_ADMIN",), (), {"NET_ADMIN", "NET_RAW"}, {"SYS_ADMIN"}),
        (("CAP_NET_ADMIN",), ("ALL",), {"NET_ADMIN"}, {"CHOWN"}),
        (("ALL",), ("NET_RAW",), {"NET_ADMIN"}, {"NET_RAW", "SYS_ADMIN", "MKNOD"}),
        (("SYS_ADMIN",), (), {"CHOWN"}, {"SYS_ADMIN"}),
        (("NOT_ONE",), (), {"CHOWN"}, {"NOT_ONE"}),
    ],
)
def test_capabilities(add, drop, has, has_not):
    found = credentials.capability_set(add, drop)
    assert has <= found
    assert not has_not & found


# --- messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [20, 150], ids=["short", "longer than sun_path"])
def test_messages_and_descriptors(tmp_path, length):
    directory = tmp_path / ("d" * length)
    directory.mkdir()
    path = str(directory / "x.sock")
    with protocol.listen(path) as listener, protocol.connect(path) as client:
        server, _ = listener.accept()
        with server, socket.socket() as passed:
            protocol.send(client, {"op": "x"}, [passed.fileno()])
            message, descriptors = protocol.receive(server)
            assert message == {"op": "x"}
            assert len(descriptors) == 1
            protocol.close_all([*descriptors, -1])
            client.close()
            assert protocol.receive(server) == (None, [])
    with pytest.raises(OSError, match="refused"):
        protocol.connect(path)


def test_a_process_is_named_by_pid_and_start_time():
    start = process_start_time(os.getpid())
    assert is_alive(os.getpid(), start)
    assert not is_alive(os.getpid(), start + 1)
    assert not is_alive(0, 0)
    assert process_start_time(2**22 + 1) == 0
