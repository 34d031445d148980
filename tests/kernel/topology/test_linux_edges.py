"""The real kernel's edges: exec, nft contexts, and what must not be held on to."""

from __future__ import annotations

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from podnet.topology.doctor import run_doctor
from podnet.topology.kernel import AddAddress, AddBridge, AddVeth, DeleteLink, KernelError, LimitRate, SetLink
from podnet.topology.linux import LinuxKernel, nft
from podnet.topology.linux import exec as linux_exec
from podnet.topology.linux.ethtool import set_tx_checksum, tx_checksum
from podnet.topology.linux.syscalls import create_netns, delete_netns, in_netns

pytestmark = pytest.mark.kernel


def own_netns() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_thousand_calls_leak_no_descriptor_and_stay_home(room: LinuxKernel, tmp_path: Path) -> None:
    path = str(tmp_path / "ns")
    create_netns(path)
    try:
        home, before = own_netns(), len(open_files())
        for _ in range(300):
            room.apply(path, [SetLink("lo", up=True)])
            room.observe(path)
            room.sysctl(path, "net.ipv4.ip_forward")
            with pytest.raises(KernelError):
                room.apply(path, [DeleteLink("nope")])
        assert own_netns() == home
        assert len(open_files()) <= before
    finally:
        delete_netns(path)


def test_threads_do_not_disturb_one_another(room: LinuxKernel, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"ns{n}") for n in range(8)]
    for path in paths:
        create_netns(path)
    try:

        def work(number: int) -> set[str]:
            path = paths[number]
            for turn in range(10):
                room.apply(path, [AddVeth(f"v{number}-{turn}", f"p{turn}")])
                room.nft(path, f"add table ip t{number}_{turn}")
            names = {link.name for link in room.observe(path).links}
            listed = room.nft(path, "list tables")
            assert listed.count("table") == 10
            assert listed.count(f"table ip t{number}_") == 10
            return names

        with ThreadPoolExecutor(8) as pool:
            for number, names in enumerate(pool.map(work, range(8))):
                assert names == {"lo", *(f"v{number}-{t}" for t in range(10)), *(f"p{t}" for t in range(10))}
        assert [link.name for link in room.observe("").links] == ["lo"]
    finally:
        room.close()
        for path in paths:
            delete_netns(path)


def test_nft_is_one_transaction_with_nfts_own_words(room: LinuxKernel) -> None:
    with pytest.raises(KernelError) as caught:
        room.nft("", "add table ip a\nadd chain ip nowhere c")
    assert caught.value.is_not_found
    assert "No such file or directory" in str(caught.value)
    assert room.nft("", "list tables") == ""
    with pytest.raises(KernelError, match="syntax error"):
        room.nft("", "add tabel ip a")
    room.nft("", "add table ip a; add chain ip a c")
    with pytest.raises(KernelError) as caught:
        room.nft("", "create table ip a")
    assert caught.value.is_exists
    assert room.nft("", "list ruleset") == "table ip a {\n\tchain c {\n\t}\n}\n"
    with pytest.raises(KernelError, match="NUL"):
        room.nft("", "add table ip a\0b")


def test_nft_contexts_are_recycled_and_bounded(
    room: LinuxKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nft, "_USES_MAX", 3)
    monkeypatch.setattr(nft, "_CONTEXTS_MAX", 2)
    paths = [str(tmp_path / f"n{n}") for n in range(4)]
    for path in paths:
        create_netns(path)
    try:
        for turn in range(8):
            for path in paths:
                room.nft(path, f"add table ip t{turn}")
        assert all(room.nft(path, "list tables").count("table") == 8 for path in paths)
        assert len(room._nft._contexts) <= 2
    finally:
        room.close()
        for path in paths:
            delete_netns(path)


def test_nft_program_stands_in_for_the_library(room: LinuxKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "_library", lambda: None)
    room.nft("", "add table ip a")
    assert room.nft("", "list tables") == "table ip a\n"
    with pytest.raises(KernelError) as caught:
        room.nft("", "delete table ip b")
    assert caught.value.is_not_found
    with pytest.raises(KernelError) as caught:
        room.nft("/nowhere", "list tables")
    assert caught.value.is_not_found
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(KernelError, match="neither libnftables"):
        room.nft("", "list tables")


def test_exec_enters_namespaces_and_reports_failures(room: LinuxKernel, tmp_path: Path) -> None:
    path = str(tmp_path / "ns")
    create_netns(path)
    room.apply(path, [AddBridge("marker")])
    home = own_netns()
    with in_netns(path):
        holder = subprocess.Popen(["sleep", "60"])
    try:
        done = linux_exec.run(holder.pid, ["ip", "-br", "link", "show", "marker"])
        assert done.returncode == 0
        assert "marker" in done.stdout
        assert own_netns() == home
        with pytest.raises(FileNotFoundError):
            linux_exec.run(holder.pid, ["/no/such/program"])
        with pytest.raises(subprocess.TimeoutExpired):
            linux_exec.run(holder.pid, ["sleep", "30"], timeout_s=0.05)
        big = linux_exec.run(holder.pid, ["cat"], stdin="x" * 300_000)
        assert len(big.stdout) == 300_000
    finally:
        holder.kill()
        holder.wait()
        delete_netns(path)
    with pytest.raises(KernelError) as caught:
        linux_exec.run(holder.pid, ["true"])
    assert caught.value.is_not_found


def test_a_forgotten_namespace_goes_away(room: LinuxKernel, tmp_path: Path) -> None:
    path = str(tmp_path / "ns")
    create_netns(path)
    room.apply("", [AddVeth("near", "far", path)])
    room.nft(path, "add table ip t")
    room.observe(path)
    room.forget(path)
    room.forget("/nowhere")
    delete_netns(path)
    for _ in range(500):
        if room.observe("").link("near") is None:
            break
        threading.Event().wait(0.01)
    assert room.observe("").link("near") is None


def test_checksum_offload(room: LinuxKernel) -> None:
    room.apply("", [AddVeth("x", "y")])
    assert tx_checksum("", "x")
    set_tx_checksum("", "x", on=False)
    assert not tx_checksum("", "x")
    set_tx_checksum("", "x", on=True)
    assert tx_checksum("", "x")
    with pytest.raises(KernelError) as caught:
        set_tx_checksum("", "nope", on=False)
    assert caught.value.is_not_found


def test_the_rate_holds(room: LinuxKernel) -> None:
    room.apply("", [AddVeth("x", "y"), LimitRate("x", 100_000_000)])
    shown = subprocess.run(["tc", "qdisc", "show", "dev", "x"], capture_output=True, text=True, check=True).stdout
    assert "qdisc tbf" in shown
    assert "rate 100Mbit burst 50000b lat 25ms" in shown
    room.apply("", [LimitRate("x", 40_000_000_000)])
    shown = subprocess.run(["tc", "qdisc", "show", "dev", "x"], capture_output=True, text=True, check=True).stdout
    assert "rate 40Gbit" in shown


def test_new_addresses_have_a_broadcast_and_no_duplicate_detection(room: LinuxKernel) -> None:
    room.apply(
        "",
        [
            AddBridge("b"),
            AddAddress("b", ip_interface("10.0.0.1/24")),
            AddAddress("b", ip_interface("fd00::1/64")),
        ],
    )
    shown = subprocess.run(["ip", "addr", "show", "b"], capture_output=True, text=True, check=True).stdout
    assert "inet 10.0.0.1/24 brd 10.0.0.255" in shown
    assert "tentative" not in next(line for line in shown.splitlines() if "fd00::1" in line)
    assert ip_address("fd00::1") in [address.ip for _, address in room.observe("").addresses]


def foreign_mounts() -> list[str]:
    """Without those of tests that run beside this one: theirs come and go."""
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if "/pytest-of-" not in line]


def test_the_doctor_leaves_nothing_behind() -> None:
    home, mounts = own_netns(), foreign_mounts()
    names = {finding.name: finding for finding in run_doctor()}
    assert {"python", "user namespaces", "mnexec", "kubectl", "kernel: vxlan", "kernel: netem"} <= set(names)
    assert names["python"].status == "ok"
    assert own_netns() == home
    assert foreign_mounts() == mounts
    assert not list(Path("/tmp").glob("podnet-probe-*"))
