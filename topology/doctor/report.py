"""From what was probed to what to say about it: one row each, with consequence and fix. Pure.

`missing` is what podnet cannot run without, `warn` what some part of it does without. Fixes are one line, for Debian and
Ubuntu, where podnet is at home.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["ok", "warn", "missing"]

PYTHON_MIN = (3, 11)
KUBECTL_MIN = (1, 27)


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the doctor's table."""

    name: str
    status: Status
    found: str
    consequence: str = ""
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """For `-o json`."""
        return {
            "name": self.name,
            "status": self.status,
            "found": self.found,
            "consequence": self.consequence,
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True)
class Probes:
    """What was seen.

    `programs` maps names to paths, `failed` the kernel features that did not work to the reason; `userns_error` is why
    an ordinary user cannot have a user namespace, empty where it can; `limits` what control groups can limit here.
    """

    python: tuple[int, int, int]
    root: bool
    programs: Mapping[str, str] = field(default_factory=dict)
    kubectl: tuple[int, int] | None = None
    libnftables: bool = False
    packages: frozenset[str] = frozenset()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    userns_error: str = ""
    kernel: str = ""
    limits: tuple[str, ...] = ("memory", "cpu")
    limits_problem: str = ""


@dataclass(frozen=True, slots=True)
class _Feature:
    """A kernel feature that was tried in a throwaway namespace."""

    probe: str
    name: str
    status: Status
    consequence: str
    fix: str


_FEATURES = (
    _Feature("netns", "kernel: namespaces", "missing", "no cluster can start", "use a kernel with CONFIG_NET_NS"),
    _Feature("bridge", "kernel: bridge", "missing", "no switch and no pod network", "sudo modprobe bridge"),
    _Feature("veth", "kernel: veth", "missing", "nothing can be plugged in", "sudo modprobe veth"),
    _Feature("vxlan", "kernel: vxlan", "missing", "pods on different nodes cannot meet", "sudo modprobe vxlan"),
    _Feature(
        "br_netfilter",
        "kernel: br_netfilter",
        "warn",
        "a Service reply between two pods of one node is never un-NATed: such connections hang",
        "sudo modprobe br_netfilter && echo br_netfilter | sudo tee /etc/modules-load.d/podnet.conf",
    ),
    _Feature(
        "nft_nat",
        "kernel: nftables nat",
        "missing",
        "Services cannot be programmed",
        "sudo modprobe -a nft_nat nft_masq",
    ),
    _Feature(
        "nft_numgen",
        "kernel: nftables numgen",
        "missing",
        "Services cannot choose among endpoints; links cannot lose packets",
        "sudo modprobe nft_numgen",
    ),
    _Feature(
        "overlayfs",
        "kernel: overlayfs here",
        "missing",
        "pods cannot have a writable root file system",
        "use a kernel of at least 5.11 with CONFIG_OVERLAY_FS (sudo modprobe overlay)",
    ),
    _Feature("tbf", "kernel: tbf", "warn", "links have no rate limit (`rate:` is refused)", "sudo modprobe sch_tbf"),
    _Feature(
        "netem",
        "kernel: netem",
        "warn",
        "links have no delay (`delay:` is refused); loss works through nftables",
        "sudo apt install linux-modules-extra-$(uname -r) && sudo modprobe sch_netem",
    ),
    _Feature(
        "openvswitch",
        "kernel: openvswitch",
        "warn",
        "`kind: openflow` switches run in user space, at about a tenth of the speed",
        "sudo modprobe openvswitch",
    ),
)

_PROGRAMS = (
    ("mnexec", "missing", "Mininet hosts cannot start", "sudo apt install mininet"),
    ("ip", "warn", "`podnet exec … -- ip` and many labs need it", "sudo apt install iproute2"),
    ("ethtool", "warn", "labs that look at offloads need it (podnet itself does not)", "sudo apt install ethtool"),
    ("ping", "warn", "`podnet ping` and the labs need it", "sudo apt install iputils-ping"),
    (
        "ovs-vswitchd",
        "warn",
        "`kind: openflow` switches cannot start",
        "sudo apt install openvswitch-switch",
    ),
    ("etcd", "warn", "`store: {driver: etcd}` cannot start", "sudo apt install etcd-server etcd-client"),
)


def report(probes: Probes) -> list[Finding]:
    """All rows, in the order in which one would mend them."""
    rows: list[Callable[[Probes], Finding | list[Finding]]] = [
        _python,
        _user_namespaces,
        _programs,
        _nft,
        _kubectl,
        _os_ken,
        _limits,
        _features,
    ]
    findings: list[Finding] = []
    for row in rows:
        found = row(probes)
        findings += found if isinstance(found, list) else [found]
    return findings


def _python(probes: Probes) -> Finding:
    version = ".".join(map(str, probes.python))
    if probes.python[:2] >= PYTHON_MIN:
        return Finding("python", "ok", version)
    wanted = ".".join(map(str, PYTHON_MIN))
    return Finding(
        "python", "missing", version, f"podnet needs Python {wanted}", "uv python install 3.11 && make setup"
    )


def _user_namespaces(probes: Probes) -> Finding:
    name = "user namespaces"
    if not probes.userns_error:
        return Finding(name, "ok", "an ordinary user can have a cluster")
    status: Status = "warn" if probes.root else "missing"
    consequence = "only root can have a cluster" if probes.root else "podnet must run as root (sudo) on this machine"
    return Finding(name, status, probes.userns_error, consequence, _userns_fix(probes))


def _userns_fix(probes: Probes) -> str:
    """What distributions do to user namespaces, each with the setting that undoes it."""
    if probes.sysctls.get("user.max_user_namespaces") == "0":
        return "sudo sysctl -w user.max_user_namespaces=15000"
    if probes.sysctls.get("kernel.unprivileged_userns_clone") == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if probes.sysctls.get("kernel.apparmor_restrict_unprivileged_userns", "0") != "0":
        return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    if probes.sysctls.get("user.max_net_namespaces") == "0":
        return "sudo sysctl -w user.max_net_namespaces=15000"
    return "run podnet as root, or use a kernel with CONFIG_USER_NS (containers: allow unshare in the seccomp profile)"


def _programs(probes: Probes) -> list[Finding]:
    rows = []
    for name, status, consequence, fix in _PROGRAMS:
        path = probes.programs.get(name, "")
        rows.append(
            Finding(name, "ok", path) if path else Finding(name, status, "not found", consequence, fix)  # type: ignore[arg-type]
        )
    return rows


def _nft(probes: Probes) -> Finding:
    program = probes.programs.get("nft", "")
    if probes.libnftables:
        return Finding("nftables", "ok", f"libnftables.so.1{f', {program}' if program else ''}")
    if program:
        slow = "each change of a Service starts a program: about 2 ms more"
        return Finding("nftables", "warn", f"{program}, no libnftables.so.1", slow, "sudo apt install libnftables1")
    return Finding("nftables", "missing", "not found", "Services cannot be programmed", "sudo apt install nftables")


def _kubectl(probes: Probes) -> Finding:
    get_it = "https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/ (one file, put it on PATH)"
    instead = "labs use podnet's own small client: apply, get, delete, logs"
    path = probes.programs.get("kubectl", "")
    if not path:
        return Finding("kubectl", "warn", "not found", instead, get_it)
    if probes.kubectl is None:
        return Finding("kubectl", "warn", f"{path}, but it does not tell its version", instead, get_it)
    version = "v{}.{}".format(*probes.kubectl)
    if probes.kubectl < KUBECTL_MIN:
        return Finding("kubectl", "warn", f"{path} {version}", "1.27 or newer is needed; " + instead, get_it)
    return Finding("kubectl", "ok", f"{path} {version}")


def _os_ken(probes: Probes) -> Finding:
    if "os_ken" in probes.packages:
        return Finding("os-ken", "ok", "the controller of OpenFlow switches")
    return Finding(
        "os-ken", "warn", "not installed", "`kind: openflow` switches cannot start", "pip install 'podnet[sdn]'"
    )


def _limits(probes: Probes) -> Finding:
    name = "control groups"
    if not probes.limits_problem:
        return Finding(name, "ok", f"{' and '.join(probes.limits)} limits of containers are enforced")
    fix = (
        "use a machine with cgroup version 2 mounted read-write at /sys/fs/cgroup"
        if probes.root
        else "run podnet in a scope of your own: systemd-run --user --scope -p Delegate=yes podnet up; or run it as root"
    )
    return Finding(name, "warn", probes.limits_problem, "resources.limits of containers are not enforced", fix)


def _features(probes: Probes) -> list[Finding]:
    rows = []
    no_namespace = probes.failed.get("netns", "")
    for feature in _FEATURES:
        why = probes.failed.get(feature.probe)
        if why is None:
            rows.append(Finding(feature.name, "ok", probes.kernel))
        elif no_namespace and feature.probe != "netns" and why == no_namespace:
            rows.append(Finding(feature.name, "warn", "not tried: no namespace to try it in", "unknown", "see above"))
        else:
            rows.append(Finding(feature.name, feature.status, why, feature.consequence, feature.fix))
    return rows
