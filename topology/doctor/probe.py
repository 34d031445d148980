"""Trying things out: programs, settings, and kernel features in namespaces that vanish with the child that tries them.

As root the features are tried in plain namespaces, and user namespaces in a second child that has become an ordinary
user; as an ordinary user everything is tried inside a user namespace, which is where a cluster would run.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from podnet.topology.cgroups import group_name, make_cluster_cgroups, remove_groups
from podnet.topology.doctor.report import Probes
from podnet.topology.kernel import AddBridge, AddVeth, AddVxlan, KernelError, LimitRate, SetLink
from podnet.topology.linux import LinuxKernel
from podnet.topology.linux.nft import has_library
from podnet.topology.linux.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MNT_DETACH,
    MS_PRIVATE,
    MS_REC,
    mount,
    umount,
    unshare,
)

_ROOM = CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID
_NOBODY = 65534
_SYSCTLS = (
    "kernel.apparmor_restrict_unprivileged_userns",
    "kernel.unprivileged_userns_clone",
    "user.max_user_namespaces",
    "user.max_net_namespaces",
)
_PROGRAMS = ("mnexec", "nft", "ip", "ethtool", "ping", "kubectl", "ovs-vswitchd", "etcd")
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_KUBECTL_TIMEOUT_S = 10
_NAT = """table ip podnet_probe {
  chain incoming { type nat hook prerouting priority -100; fib daddr type local tcp dport 80 dnat to 192.0.2.1:80; }
  chain outgoing { type nat hook postrouting priority 100; masquerade; }
  chain track { type filter hook forward priority 0; ct state established accept; }
}
"""
_NUMGEN = """table ip podnet_probe_numgen {
  chain c { numgen random mod 2 vmap { 0 : drop, 1 : accept }; }
}
"""


def probe() -> Probes:
    """Look at this machine. Takes a few tenths of a second, most of it kubectl's."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), _SBIN])
    programs = {name: found for name in _PROGRAMS if (found := shutil.which(name, path=path))}
    failed = in_child(_try_features)
    if not Path("/sys/module/openvswitch").exists():
        failed["openvswitch"] = "the module is not loaded"
    userns = in_child(_try_user_namespace)
    cgroups = make_cluster_cgroups(group_name("doctor", str(os.getpid())))
    remove_groups(directory.path for directory in cgroups.directories)
    return Probes(
        python=sys.version_info[:3],
        root=os.geteuid() == 0,
        programs=programs,
        kubectl=kubectl_version(programs["kubectl"]) if "kubectl" in programs else None,
        libnftables=has_library(),
        packages=frozenset(name for name in ("os_ken",) if importlib.util.find_spec(name)),
        sysctls={key: value for key in _SYSCTLS if (value := _read_sysctl(key)) is not None},
        failed=failed,
        limits=cgroups.controllers,
        limits_problem=cgroups.problem,
        userns_error=userns.get("userns", ""),
        kernel=f"Linux {os.uname().release}",
    )


def kubectl_version(path: str) -> tuple[int, int] | None:
    """(major, minor) of a kubectl; None where it does not say."""
    try:
        done = subprocess.run(
            [path, "version", "--client", "-o", "json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_KUBECTL_TIMEOUT_S,
        )
        version = json.loads(done.stdout)["clientVersion"]
        return int(version["major"]), int(version["minor"].rstrip("+"))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError, AttributeError):
        return None


def _read_sysctl(key: str) -> str | None:
    try:
        return Path("/proc/sys", *key.split(".")).read_text().strip()
    except OSError:
        return None


def in_child(work: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Run it in a forked child, whose namespaces go with it; what it returned."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(readable)
            try:
                result = work()
            except Exception as error:  # a probe that fails is an answer: nothing may leave the child but this
                result = {"netns": f"the probe itself failed: {error!r}"}
            os.write(writable, json.dumps(result).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as answer:
        raw = answer.read()
    os.waitpid(pid, 0)
    return dict(json.loads(raw)) if raw else {"netns": "the probe died"}


def enter_user_namespace() -> None:
    """A user namespace in which the caller's own uid is 0, as podnet's room has it."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _try_user_namespace() -> dict[str, str]:
    """Whether an ordinary user gets a user namespace in which it may do networking.

    Ubuntu's AppArmor grants the namespace and withholds the capabilities, so a bridge is made as well.
    """
    try:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
            # A process that changed its uid may not write its own maps until it is dumpable again; a child may.
            return in_child(_user_namespace_result)
    except OSError as error:
        return {"userns": f"cannot become an ordinary user to try it: {error.strerror}"}
    return _user_namespace_result()


def _user_namespace_result() -> dict[str, str]:
    _set_dumpable()
    try:
        enter_user_namespace()
        unshare(_ROOM)
        LinuxKernel().apply("", [AddBridge("probe0")])
    except (OSError, KernelError) as error:
        words = getattr(error, "strerror", None) or str(error)
        return {"userns": f"refused: {words}"}
    return {}


def _set_dumpable() -> None:
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self belongs to its user again


def _try_features() -> dict[str, str]:
    """Everything a cluster needs of the kernel; names of what failed, with the reason."""
    tries = _kernel_tries()
    try:
        if os.geteuid() != 0:
            enter_user_namespace()
        unshare(_ROOM)
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
    except OSError as error:
        why = f"{error.strerror or error}"
        return dict.fromkeys(["netns", *tries], why)
    failed = {}
    for name, attempt in tries.items():
        try:
            attempt()
        except (OSError, KernelError) as error:
            failed[name] = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
    return failed


def _kernel_tries() -> dict[str, Callable[[], object]]:
    kernel = LinuxKernel()
    local = ip_address("192.0.2.1")
    return {
        "bridge": lambda: kernel.apply("", [AddBridge("probe0")]),
        "veth": lambda: kernel.apply("", [AddVeth("probe1", "probe2"), SetLink("probe2", up=True)]),
        "vxlan": lambda: kernel.apply("", [AddVxlan("probe3", 1, local, "")]),
        "br_netfilter": lambda: kernel.sysctl("", "net.bridge.bridge-nf-call-iptables"),
        "tbf": lambda: kernel.apply("", [LimitRate("probe1", 1_000_000)]),
        "netem": lambda: kernel.apply("", [LimitRate("probe1", 0, delay_ms=1)]),
        "nft_nat": lambda: kernel.nft("", _NAT),
        "nft_numgen": lambda: kernel.nft("", _NUMGEN),
        "overlayfs": _try_overlay,
    }


def _try_overlay() -> None:
    """A writable layer over /etc, as a container's root has them."""
    base = tempfile.mkdtemp(prefix="podnet-probe-")
    try:
        # The tmpfs lives in this child's mount namespace only; the directory outside stays empty.
        mount("tmpfs", base, "tmpfs")
        for name in ("upper", "work", "merged"):
            os.mkdir(f"{base}/{name}")
        mount("overlay", f"{base}/merged", "overlay", data=f"lowerdir=/etc,upperdir={base}/upper,workdir={base}/work")
        Path(base, "merged", "podnet-probe").touch()
    finally:
        # Detached first: the directory itself can then be removed.
        with contextlib.suppress(OSError):
            umount(base, MNT_DETACH)
        with contextlib.suppress(OSError):
            os.rmdir(base)
