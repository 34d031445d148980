"""What launcher and daemon say to each other, the order of calls, and what is installed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.cni.install import install_cni, launcher_program, shim_program
from podnet.cni.plan import Attachment, host_mac, host_veth, link_alias, parse_alias
from podnet.cni.request import Request, Response
from podnet.cni.subnet import parse_subnet_env
from podnet.cni.wire import parse_request, parse_response, render_request, render_response
from podnet.topology.gate import Gate
from podnet.topology.paths import NodePaths

words = st.text(st.characters(codec="utf-8", exclude_characters="\0="), min_size=1, max_size=10)
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(st.dictionaries(words, values, max_size=5), st.binary(max_size=200))
def test_a_request_survives_the_wire(env, stdin):
    assert parse_request(render_request(Request(env, stdin))) == Request(env, stdin)


@given(st.dictionaries(words, values, max_size=3), st.binary(max_size=5), st.data())
def test_a_request_that_is_cut_short_never_becomes_another_environment(env, stdin, data):
    whole = render_request(Request(env, stdin))
    cut = data.draw(st.integers(0, max(len(whole) - len(stdin) - 1, 0)))
    with pytest.raises(ValueError):
        parse_request(whole[:cut])


@pytest.mark.parametrize("response", [Response(), Response(1, b"{}"), Response(0, stderr=b"about")])
def test_a_response_survives_the_wire(response):
    assert parse_response(render_response(response)) == response


@pytest.mark.parametrize("data", [b"", b"\0"])
def test_no_answer(data):
    with pytest.raises(ValueError):
        parse_response(data)


def test_names_follow_from_the_attachment():
    name = host_veth("podnet", "c1", "eth0")
    assert len(name) == 12
    assert name == host_veth("podnet", "c1", "eth0")
    assert len({host_veth("podnet", f"c{n}", "eth0") for n in range(2000)}) == 2000
    assert int(host_mac("podnet", "c1", "eth0")[:2], 16) & 3 == 2


@given(st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", fullmatch=True))
def test_the_alias_gives_the_owner_back(container_id):
    alias = link_alias("podnet", Attachment(container_id, "eth0", pod="default/web-1"))
    assert len(alias) <= 255
    assert parse_alias(alias) == ("podnet", container_id, "eth0")


@pytest.mark.parametrize("alias", ["", "uplink", "podnet:", "podnet:a/b"])
def test_foreign_aliases(alias):
    assert parse_alias(alias) is None


def test_subnet_env():
    parsed = parse_subnet_env("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\n")
    assert (parsed.subnets, parsed.mtu) == (("10.244.3.0/24",), 1450)
    for broken in ("", "FLANNEL_SUBNET=\n", "FLANNEL_SUBNET=x\n", "FLANNEL_SUBNET=10.0.0.1/24\nFLANNEL_MTU=big\n"):
        with pytest.raises(ValueError):
            parse_subnet_env(broken)


async def test_one_container_at_a_time_and_others_side_by_side():
    gate, order = Gate(), []

    async def hold(key, tag):
        async with gate.one(key):
            order.append(f"+{tag}")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append(f"-{tag}")

    await asyncio.gather(hold("a", "a1"), hold("a", "a2"), hold("b", "b1"))
    assert order.index("-a1") < order.index("+a2")
    assert order.index("+b1") < order.index("-a1")


async def test_gc_is_alone():
    gate, running, overlaps = Gate(), [], []

    async def one(key):
        async with gate.one(key):
            running.append(key)
            await asyncio.sleep(0.001)
            running.remove(key)

    async def alone():
        async with gate.alone():
            overlaps.append(list(running))
            await asyncio.sleep(0.001)
            overlaps.append(list(running))

    await asyncio.gather(
        *(one(f"c{n}") for n in range(5)), alone(), *(one(f"d{n}") for n in range(5)), alone(), one("")
    )
    assert overlaps == [[], [], [], []]


async def test_a_cancelled_waiter_holds_nothing():
    gate = Gate()
    async with gate.one("a"):
        waiting = [asyncio.create_task(_enter(gate.one("a"))), asyncio.create_task(_enter(gate.alone()))]
        await asyncio.sleep(0.001)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(1), gate.alone():
        pass
    async with asyncio.timeout(1), gate.one("a"):
        pass


async def _enter(context):
    async with context:
        pass


# --- installation -------------------------------------------------------------------------------------------------------


def _run(paths, verb="", stdin=b"", **env):
    return subprocess.run(
        [paths.cni_bin_dir / "podnet-bridge"],
        input=stdin,
        capture_output=True,
        env={"CNI_COMMAND": verb} | env,
        check=False,
    )


@pytest.fixture(params=["c", "python"])
def installed(request, tmp_path):
    if request.param == "c" and not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("no C compiler (cc) here")
    paths = NodePaths(tmp_path / "state", tmp_path / "run")
    install_cni(paths, launcher=request.param)
    return paths


def test_the_configuration_list(installed):
    conf = json.loads((installed.cni_conf_dir / "10-podnet.conflist").read_text())
    assert conf["cniVersion"] == "1.1.0"
    assert conf["plugins"][0]["type"] == "podnet-bridge"
    assert conf["plugins"][0]["capabilities"] == {"mac": True, "ips": True}
    assert conf["plugins"][1] == {"type": "podnet-portmap", "capabilities": {"portMappings": True}}
    assert os.access(installed.cni_bin_dir / "podnet-bridge", os.X_OK)


@pytest.mark.parametrize(("verb", "code", "exit_code"), [("ADD", 11, 1), ("STATUS", 50, 1), ("DEL", None, 0)])
def test_the_executable_without_a_daemon(installed, verb, code, exit_code):
    conf = b'{"cniVersion": "1.1.0", "name": "podnet", "type": "podnet-bridge"}'
    env = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/gone", "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
    done = _run(installed, verb, conf, **env)
    assert done.returncode == exit_code, done
    assert (json.loads(done.stdout)["code"] if done.stdout else None) == code


def test_the_executable_relays_both_ways(installed):
    """A listener in place of the daemon sees the environment and input as they were, large ones too."""
    import socket
    import threading

    received = []
    listener = socket.socket(socket.AF_UNIX)
    installed.cni_socket.parent.mkdir(parents=True, exist_ok=True)
    listener.bind(str(installed.cni_socket))
    listener.listen()
    answer = b'{"x": "' + b"y" * 300_000 + b'"}'

    def serve():
        connection, _ = listener.accept()
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
        received.append(data)
        connection.sendall(render_response(Response(3, answer)))
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    stdin = b"{" + b" " * 200_000 + b"}"
    done = _run(installed, "CHECK", stdin, CNI_ARGS="K=V;L=ü", OTHER="not sent")
    thread.join()
    listener.close()
    assert (done.returncode, done.stdout) == (3, answer)
    request = parse_request(received[0])
    assert request.stdin == stdin
    assert dict(request.env) == {"CNI_COMMAND": "CHECK", "CNI_ARGS": "K=V;L=ü"}


def _hang_up(listener):
    connection, _ = listener.accept()
    connection.close()


def test_a_daemon_that_dies_before_it_answers(installed):
    import socket
    import threading

    listener = socket.socket(socket.AF_UNIX)
    installed.cni_socket.parent.mkdir(parents=True, exist_ok=True)
    listener.bind(str(installed.cni_socket))
    listener.listen()
    thread = threading.Thread(target=lambda: _hang_up(listener))
    thread.start()
    conf = b'{"cniVersion": "1.1.0", "name": "podnet", "type": "podnet-bridge"}'
    done = _run(installed, "ADD", conf, CNI_CONTAINERID="c", CNI_NETNS="/n", CNI_IFNAME="e", CNI_PATH="/x")
    thread.join()
    listener.close()
    assert json.loads(done.stdout)["code"] == 11


def test_by_hand_it_says_what_it_is(installed):
    done = _run(installed)
    assert done.returncode == 0
    assert b"CNI plugin of podnet" in done.stderr


def test_installing_again_replaces_the_files(installed):
    before = (installed.cni_bin_dir / "podnet-bridge").stat().st_ino
    install_cni(installed, network_name="other", launcher="python")
    assert (installed.cni_bin_dir / "podnet-bridge").stat().st_ino != before
    assert json.loads((installed.cni_conf_dir / "10-podnet.conflist").read_text())["name"] == "other"
    assert sorted(path.name for path in installed.cni_bin_dir.iterdir()) == [
        ".podnet-bridge",
        "podnet-bridge",
        "podnet-portmap",
    ]


def test_without_a_compiler_the_shim_is_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert launcher_program("auto").startswith(b"#!")
    with pytest.raises(OSError, match="C compiler"):
        launcher_program("c")


def test_an_interpreter_in_a_long_place_with_spaces(tmp_path):
    directory = tmp_path / ("long " * 40) / ("and 'quoted' " * 10)
    directory.mkdir(parents=True)
    python = directory / "python3"
    python.symlink_to(sys.executable)
    program = tmp_path / "program"
    program.write_bytes(shim_program(str(python), "import sys\nprint('ran', sys.flags.isolated)\n"))
    program.chmod(0o755)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "ran 1\n"
