"""One cluster inside its room: the only place that knows every room of the house and puts them together.

`run_cluster` is PID 1's program. It builds the underlay, writes the certificates, starts the components in their
nodes' namespaces and then is the supervisor. `control.py` has what the command line may ask of it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal, NoReturn, cast

from podnet import __version__
from podnet.boot import BootCheck, DNSCheck, last_log_line, run_boot_check
from podnet.cni.install import launcher_program
from podnet.components import ComponentSpec
from podnet.control import ControlVerbs
from podnet.controlplane import pki
from podnet.controlplane.api.resources import STORAGECLASSES
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.config import APIServerConfig
from podnet.controlplane.client.endpoint import Endpoint
from podnet.controlplane.controllers.config import ControllerManagerConfig
from podnet.controlplane.kubelet.config import KubeletConfig
from podnet.controlplane.kubelet.images.programs.launch import preload as preload_programs
from podnet.controlplane.kubelet.provisioner.plan import storage_class
from podnet.controlplane.kubelet.timestamps import rfc3339
from podnet.controlplane.scheduler.config import SchedulerConfig
from podnet.dns import addon
from podnet.dns.addon import dns_addon
from podnet.dns.preload import preload as preload_dns
from podnet.etcd import FIX as ETCD_FIX
from podnet.etcd import client_endpoints, cluster_members, find_etcd, member_main, write_members
from podnet.internet import InternetConfig, resolv_conf, serve_internet, write_files
from podnet.overlay.agent import OverlayConfig
from podnet.proxy.agent import ProxyConfig
from podnet.supervisor import Supervisor, component_key
from podnet.topology.cgroups import ClusterCgroups
from podnet.topology.kernel import AddBridge, AddVxlan, DeleteLink, Kernel, KernelError, Op
from podnet.topology.linux import LinuxKernel
from podnet.topology.paths import ClusterPaths
from podnet.topology.spec import ClusterSpec, NodeSpec
from podnet.topology.underlay import Underlay

API_PORT = 6443
KUBELET_PORT = 10250


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """All that PID 1 needs, made before it entered the room."""

    spec: ClusterSpec
    paths: ClusterPaths
    api_socket: socket.socket
    control_socket: socket.socket
    lock_fd: int
    began: float
    cgroups: ClusterCgroups = field(default_factory=ClusterCgroups)
    on_abandoned: Callable[[], None] | None = None  # what forgets the cluster when whoever boots it was killed

    @property
    def api_port(self) -> int:
        """The API server's port on the host's 127.0.0.1."""
        return int(self.api_socket.getsockname()[1])


def run_cluster(config: ClusterConfig) -> NoReturn:
    """PID 1: boot, then supervise until a stop. Never returns; a boot that fails is told on the control socket."""
    _redirect_output(config.paths)
    supervisor = Supervisor(config.control_socket, keep_fds=frozenset({config.lock_fd, config.api_socket.fileno()}))
    supervisor.on_abandoned = config.on_abandoned
    try:
        Cluster(config, supervisor).boot()
    except Exception as err:
        with contextlib.suppress(OSError):  # the log may be what is full
            os.write(2, traceback.format_exc().encode(errors="replace"))
        supervisor.report({"done": True, "error": _reason(err)})
    supervisor.run()


# How often a component may die while booting before `up` gives up: a few seconds of back-off.
CRASH_LOOP = 6
FOLLOWED_WITHIN_S = 30.0  # `up` follows its boot within milliseconds, unless it was killed before it could


class BootError(Exception):
    """A reason, in one line, why this machine cannot run the cluster."""


def check_kernel(kernel: Kernel, overlay_mode: str) -> None:
    """Fail now, and clearly, over what would only be felt much later as nodes that do not become Ready."""
    wanted: dict[str, list[Op]] = {"bridge": [AddBridge("probe0"), DeleteLink("probe0")]}
    if overlay_mode.startswith("vxlan"):
        wanted["vxlan"] = [AddVxlan("probe0", 1, IPv4Address("127.0.0.1"), ""), DeleteLink("probe0")]
    for name, ops in wanted.items():
        try:
            kernel.apply("", ops)
        except KernelError as err:
            raise BootError(f"this kernel has no {name}: {err} (podnet doctor says what else is missing)") from err


class Cluster:
    """The parts of one running cluster."""

    def __init__(self, config: ClusterConfig, supervisor: Supervisor) -> None:
        self.config = config
        self.spec = config.spec
        self.paths = config.paths
        self.supervisor = supervisor
        self.resolv_conf = config.paths.state / "resolv.conf"
        self.underlay = Underlay(config.spec, LinuxKernel(), config.paths.run, self.resolv_conf)
        self.control_plane_node = config.spec.control_plane
        self.etcd_members = cluster_members(config.spec, config.paths)
        self._boot_over = False

    # --- boot ---------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Everything up to the start of the last component; readiness is then awaited beside the supervisor."""
        self.supervisor.report({"phase": "room", "seconds": time.monotonic() - self.config.began, "detail": ""})
        check_kernel(LinuxKernel(), self.spec.overlay.mode)
        if self.etcd_members and find_etcd() is None:
            raise BootError(f"etcd is not installed: {ETCD_FIX}")
        with self._phase("underlay") as detail:
            self._start_underlay()
            counts = (len(self.spec.nodes), len(self.spec.hosts), len(self.spec.switches))
            detail.append("nodes {}, outside hosts {}, switches {}".format(*counts))
            detail.extend(self.underlay.warnings)
        with self._phase("certificates"):
            self._write_certificates()
        ControlVerbs(self).install(self.supervisor.handlers)
        self.supervisor.on_stop.append(self.underlay.stop)
        if any(switch.kind == "openflow" for switch in self.spec.switches):
            self.supervisor.every_second.append(self.underlay.revive)
        specs = self.component_specs()  # imports what the components need
        preload_programs()  # what containers of the catalogue run: imported once, not by every node's zygote
        preload_dns()  # and what coredns containers run
        launcher_program()  # compiled once, here, and not by every node at the same time
        gc.collect()
        gc.freeze()  # forked children share these pages; a collector that touched them would copy them all
        for spec in specs:
            self.supervisor.add(spec)
        self.supervisor.every_second += [self._give_up_on_crash_loop, self._give_up_unfollowed]
        self._start_boot_check()

    def _start_underlay(self) -> None:
        for directory in (self.paths.logs_dir, self.paths.store_dir, self.paths.run / "nodes"):
            directory.mkdir(parents=True, exist_ok=True)
        self.resolv_conf.write_text(resolv_conf(self.spec), encoding="utf-8")
        self.underlay.start()
        for node in self.spec.nodes:
            self.make_node_directories(node)
        self.keep_spec()

    def make_node_directories(self, node: NodeSpec) -> None:
        """What a node's agent expects to find."""
        paths = self.paths.node(node.name)
        paths.state.mkdir(parents=True, exist_ok=True)
        paths.run.mkdir(parents=True, exist_ok=True)
        paths.proxy_mode_file.unlink(missing_ok=True)  # the rules went with the node's last life

    def keep_spec(self) -> None:
        """Write down what the cluster is made of: the next `podnet up` of this name without a file starts the same."""
        file = self.paths.spec_file
        new = file.with_suffix(".new")
        new.write_text(self.spec.to_yaml(), encoding="utf-8")
        new.replace(file)

    @property
    def booted(self) -> bool:
        """Whether the boot is over, well or not."""
        return self._boot_over

    def _write_certificates(self) -> None:
        service_ip = str(next(self.spec.service_cidr.hosts()))
        pki.ensure_pki(
            self.paths.pki_dir,
            advertise_address=str(self.control_plane_node.ip),
            service_ip=service_ip,
            cluster_domain=self.spec.cluster_domain,
        )
        for node in self.spec.nodes:
            pki.ensure_kubelet_certs(self.paths.pki_dir, node.name, str(node.ip))
        if self.etcd_members:
            pki.ensure_etcd_certs(self.paths.pki_dir, {member.name: member.ip for member in self.etcd_members})
            write_members(self.etcd_members, self.paths.pki_dir)
        pki.write_kubeconfig(
            self.paths.kubeconfig,
            cluster_name=self.spec.name,
            server=f"https://127.0.0.1:{self.config.api_port}",
            pki_dir=self.paths.pki_dir,
        )

    @contextmanager
    def _phase(self, name: str) -> Iterator[list[str]]:
        began = time.monotonic()
        detail: list[str] = []
        yield detail
        self.supervisor.report({"phase": name, "seconds": time.monotonic() - began, "detail": ", ".join(detail)})

    def _start_boot_check(self) -> None:
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        nodes = tuple(node.name for node in self.spec.nodes)
        addons, dns = self._dns_addon()
        # To the second, as a node's heartbeat: Ready of the cluster's last life stands in the store until it says so again.
        since = rfc3339(time.time_ns() - int((time.monotonic() - self.config.began) * 1e9))
        check = BootCheck(self.endpoint("admin"), nodes, since, (*addons, (STORAGECLASSES, storage_class())), dns)
        spec = ComponentSpec(
            "podnet-boot",
            lambda: run_boot_check(check, write_fd),
            node=self.control_plane_node.name,
            node_pid=lambda: self.node_pid(self.control_plane_node.name),
            log=self.paths.logs_dir / "podnet-boot.log",
            once=True,
        )
        self.supervisor.keep_fds |= {write_fd}
        self.supervisor.add(spec)
        self.supervisor.keep_fds -= {write_fd}
        os.close(write_fd)
        buffer = bytearray()
        self.supervisor.watch_fd(read_fd, lambda: self._on_boot_report(read_fd, buffer))

    def _dns_addon(self) -> tuple[tuple[tuple[Resource, Object], ...], DNSCheck | None]:
        """The objects of the cluster's DNS, and what the boot waits for."""
        dns = self.spec.dns
        if not dns.enabled:
            return (), None
        # Without Services the pods cannot reach the API server: whoever brings another proxy makes them ready.
        waits = self.spec.proxy.mode != "none"
        objects = tuple(dns_addon(str(dns.cluster_ip), self.spec.cluster_domain, node_names=dns.node_names))
        name = f"kubernetes.default.svc.{self.spec.cluster_domain}"
        check = DNSCheck(addon.NAMESPACE, addon.DEPLOYMENT, str(dns.cluster_ip), name)
        return objects, check if waits else None

    def _on_boot_report(self, fd: int, buffer: bytearray) -> bool:
        chunk = os.read(fd, 65536)
        buffer += chunk
        while b"\n" in buffer:
            line, _, rest = bytes(buffer).partition(b"\n")
            buffer[:] = rest
            event = json.loads(line)
            self._boot_over = self._boot_over or bool(event.get("done"))
            if event.get("error"):
                event["error"] = "\n  ".join([event["error"], *self._who_keeps_dying()])
            elif event.get("done"):
                event["seconds"] = time.monotonic() - self.config.began
            self.supervisor.report(event)
        return bool(chunk)

    def _give_up_unfollowed(self) -> None:
        if time.monotonic() - self.config.began > FOLLOWED_WITHIN_S:
            self.supervisor.give_up_unfollowed()

    def _give_up_on_crash_loop(self) -> None:
        """A component that dies again and again will not be there at the deadline either: say so now."""
        if not self._boot_over and any(c.restarts >= CRASH_LOOP for c in self.supervisor.components.values()):
            self._boot_over = True
            self.supervisor.report({"done": True, "error": "\n  ".join(self._who_keeps_dying())})

    def _who_keeps_dying(self) -> list[str]:
        """Components that were restarted, the worst first, with their last words: usually the reason for everything else."""
        restarted = [(key, c) for key, c in self.supervisor.components.items() if c.restarts]
        return [
            f"{key} keeps dying ({c.last_exit}, {c.restarts} times): {last_log_line(c.spec.log) or _why_silent(c.spec.log)}"
            for key, c in sorted(restarted, key=lambda item: -item[1].restarts)
        ]

    # --- components ---------------------------------------------------------------------------------------------

    def component_specs(self) -> list[ComponentSpec]:
        """Every component of the cluster, in the order in which they start."""
        specs = self._control_plane_specs()
        specs += [self.node_agent_spec(node) for node in self.spec.nodes]
        return self._internet_specs() + specs

    def _internet_specs(self) -> list[ComponentSpec]:
        """The outside world, where the cluster has one. First, so that nobody waits for its names."""
        host = self.spec.internet
        if host is None:
            return []
        config = InternetConfig(self.paths.state / "internet", host.ip, self.spec.underlay.gateway)
        write_files(config)
        spec = ComponentSpec(
            "podnet-internet",
            lambda: serve_internet(config),
            node=host.name,
            node_pid=lambda: int(self.underlay.hosts[host.name].pid),
            log=self.paths.logs_dir / "podnet-internet.log",
            stop_timeout_s=0.5,
        )
        return [spec]

    def _control_plane_specs(self) -> list[ComponentSpec]:
        from podnet.controlplane.apiserver.main import serve_apiserver
        from podnet.controlplane.controllers.main import serve_controller_manager
        from podnet.controlplane.scheduler.main import serve_scheduler

        api = APIServerConfig(
            pki_dir=self.paths.pki_dir,
            store_dir=self.paths.store_dir,
            store_driver=cast(Literal["sqlite", "memory", "etcd"], self.spec.store.driver),
            etcd=client_endpoints(self.etcd_members, self.paths.pki_dir) if self.etcd_members else None,
            bind=((str(self.control_plane_node.ip), API_PORT),),
            inherited_fds=(self.config.api_socket.fileno(),),
            advertise_address=str(self.control_plane_node.ip),
            pod_cidr=str(self.spec.pod_cidr),
            service_cidr=str(self.spec.service_cidr),
            cluster_domain=self.spec.cluster_domain,
            default_toleration_s=self.spec.timing.default_toleration_s,
        )
        timing = self.spec.timing
        controllers = ControllerManagerConfig(
            endpoint=self.endpoint("kube-controller-manager"),
            root_ca_file=self.paths.pki_dir / "ca.crt",
            pod_cidr=str(self.spec.pod_cidr),
            service_cidr=str(self.spec.service_cidr),
            node_cidr_mask_size=self.spec.node_cidr_mask_size,
            node_monitor_period_s=timing.node_monitor_period_s,
            node_monitor_grace_period_s=timing.node_monitor_grace_period_s,
        )
        scheduler = SchedulerConfig(endpoint=self.endpoint("kube-scheduler"))
        return [
            *self._etcd_specs(),
            self._on_control_plane("kube-apiserver", lambda: serve_apiserver(api), stop_rank=1),
            self._on_control_plane("kube-controller-manager", lambda: serve_controller_manager(controllers)),
            self._on_control_plane("kube-scheduler", lambda: serve_scheduler(scheduler)),
        ]

    def _etcd_specs(self) -> list[ComponentSpec]:
        """One component for each member of etcd, on its node; they outlive the API server, which still has something to write."""
        return [
            ComponentSpec(
                "etcd",
                member_main(member, self.etcd_members),
                node=member.name,
                node_pid=lambda name=member.name: self.node_pid(name),  # type: ignore[misc]
                log=self.paths.logs_dir / f"etcd-{member.name}.log",
                stop_rank=2,
                stop_timeout_s=1.0,
            )
            for member in self.etcd_members
        ]

    def _on_control_plane(self, name: str, main: Callable[[], None], *, stop_rank: int = 0) -> ComponentSpec:
        node = self.control_plane_node.name
        return ComponentSpec(
            name,
            main,
            node=node,
            node_pid=lambda: self.node_pid(node),
            log=self.paths.logs_dir / f"{name}.log",
            stop_rank=stop_rank,
            stop_timeout_s=1.0,
        )

    def node_agent_spec(self, node: NodeSpec) -> ComponentSpec:
        """The node agent of one node."""
        from podnet.nodeagent import NodeAgentConfig, run_node_agent

        paths = self.paths.node(node.name)
        pki_dir = self.paths.pki_dir
        kubelet = KubeletConfig(
            node_name=node.name,
            node_ip=str(node.ip),
            endpoint=self.endpoint(f"kubelet-{node.name}"),
            paths=paths,
            client_ca_file=pki_dir / "ca.crt",
            server_cert_file=pki_dir / f"kubelet-{node.name}.crt",
            server_key_file=pki_dir / f"kubelet-{node.name}.key",
            port=KUBELET_PORT,
            labels={**role_labels(node), **node.labels},
            taints=tuple(taint.to_dict() for taint in node.taints),
            cluster_dns=str(self.spec.dns.cluster_ip) if self.spec.dns.enabled else "",
            cluster_domain=self.spec.cluster_domain,
            resolv_conf=self.resolv_conf,
            lease_duration_s=self.spec.timing.node_lease_duration_s,
            node_status_update_frequency_s=self.spec.timing.node_status_update_frequency_s,
            limits_problem=self.config.cgroups.problem,
        )
        overlay = OverlayConfig(
            node_name=node.name,
            node_ip=str(node.ip),
            paths=paths,
            mode=self.spec.overlay.mode,
            vni=self.spec.overlay.vni,
            port=self.spec.overlay.port,
            mtu=self.spec.overlay.mtu,
            pod_cidr=str(self.spec.pod_cidr),
            device="eth0",
        )
        proxy = None
        if self.spec.proxy.mode != "none":
            proxy = ProxyConfig(
                node_name=node.name,
                node_ip=str(node.ip),
                paths=paths,
                mode=self.spec.proxy.mode,
                pod_cidr=str(self.spec.pod_cidr),
                service_cidr=str(self.spec.service_cidr),
                masquerade_all=self.spec.proxy.masquerade_all,
            )
        config = NodeAgentConfig(kubelet, overlay, proxy, tuple(d.in_room() for d in self.config.cgroups.directories))
        return ComponentSpec(
            "podnet-node",
            lambda: run_node_agent(config),
            node=node.name,
            node_pid=lambda: self.node_pid(node.name),
            log=self.paths.logs_dir / f"podnet-node-{node.name}.log",
            stop_timeout_s=0.5,
        )

    def set_proxy_mode(self, mode: str) -> None:
        """Give every node agent the new mode and start it anew; it takes the other modes' rules away after its own."""
        self.spec = replace(self.spec, proxy=replace(self.spec.proxy, mode=mode))
        for node in self.spec.nodes:
            spec = self.node_agent_spec(node)
            component = self.supervisor.components.get(component_key(spec))
            if component is None:
                continue
            component.spec = spec
            if component.pid:
                os.kill(component.pid, signal.SIGTERM)
        self.keep_spec()

    def endpoint(self, user: str) -> Endpoint:
        """How a component reaches the API server: over the underlay, so that a cut link is felt."""
        pki_dir = self.paths.pki_dir
        return Endpoint(
            server=f"https://{self.control_plane_node.ip}:{API_PORT}",
            ca_file=pki_dir / "ca.crt",
            cert_file=pki_dir / f"{user}.crt",
            key_file=pki_dir / f"{user}.key",
            user_agent=f"{user}/{__version__}",
        )

    def node_pid(self, name: str) -> int:
        """The process that holds a node's namespaces; 0 while the node is switched off."""
        node = self.underlay.nodes.get(name)
        return int(node.pid) if node is not None else 0

    def processes(self) -> dict[str, dict[str, int]]:
        """Kind → name → pid whose namespaces to enter; switches live in the room's own."""
        return {
            "node": {name: node.pid for name, node in self.underlay.nodes.items()},
            "host": {name: host.pid for name, host in self.underlay.hosts.items()},
            "switch": dict.fromkeys(self.underlay.switches, 0),
        }


def role_labels(node: NodeSpec) -> dict[str, str]:
    """The label from which kubectl reads a node's role, as kubeadm sets it."""
    return {"node-role.kubernetes.io/control-plane": ""} if node.role == "control-plane" else {}


def _reason(error: Exception) -> str:
    """One line for the user: of a system call what failed on which file, without its number."""
    if isinstance(error, OSError) and error.strerror:
        file = error.filename2 or error.filename  # of a rename where to: the other was a temporary file
        return f"{file}: {error.strerror}" if file else error.strerror
    return str(error) or type(error).__name__


def _why_silent(log: Path) -> str:
    """What kept a component from saying in its log why it died, as far as that can be known."""
    with contextlib.suppress(OSError):
        if os.statvfs(log.parent).f_bavail < 4:
            return f"it could not say why: no space left at {log.parent}"
    return "without a word in its log"


def _redirect_output(paths: ClusterPaths) -> None:
    """PID 1 has no terminal: what it prints goes to its log."""
    paths.logs_dir.mkdir(parents=True, exist_ok=True)
    log = os.open(paths.logs_dir / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
    os.close(null)
    os.close(log)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
