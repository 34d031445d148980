"""The node agent: kubelet, CNI daemon, overlay and proxy of one node in one process, as in k3s and for the same reason.

It lives in its node's network, mount and UTS namespaces. Its pods do not depend on it: their shims are children of
the room's PID 1, and a new agent finds them by their files.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from podnet.cni.daemon import CNIDaemonConfig, run_cni_daemon
from podnet.cni.install import install_cni
from podnet.controlplane.client.rest import RestClient
from podnet.controlplane.kubelet.config import KubeletConfig
from podnet.controlplane.kubelet.kubelet import run_kubelet
from podnet.controlplane.kubelet.libcni import CNIRuntime, CNIRuntimeError
from podnet.controlplane.kubelet.runtime.runtime import PodRuntime
from podnet.controlplane.kubelet.runtime.zygote import Zygote, start_zygote
from podnet.overlay.agent import OverlayConfig, run_overlay_agent
from podnet.proxy.agent import ProxyConfig, remove_rules, run_proxy_agent
from podnet.topology.cgroups import CgroupDirectory
from podnet.topology.linux import LinuxKernel
from podnet.topology.paths import NodePaths


@dataclass(frozen=True, slots=True)
class NodeAgentConfig:
    """What the parts are told; `proxy` None: somebody else serves Services; `cgroups`: where limits can be set."""

    kubelet: KubeletConfig
    overlay: OverlayConfig
    proxy: ProxyConfig | None = None
    cgroups: tuple[CgroupDirectory, ...] = ()


CNI_BIN_DIRS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
"""Where other people's plugins are, for configurations that chain them."""
CNI_START_TIMEOUT_S = 5.0
log = logging.getLogger(__name__)


class _StopRequested(Exception):
    """SIGTERM came."""


def run_node_agent(config: NodeAgentConfig) -> None:
    """Run until SIGTERM. The zygote is forked first, while there is one thread and no loop."""
    zygote = start_zygote()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(config, zygote))


async def _run(config: NodeAgentConfig, zygote: Zygote) -> None:
    paths = config.kubelet.paths
    for directory in (paths.state, paths.run, paths.netns_dir, paths.pods_dir, paths.sandboxes_dir, paths.pod_logs_dir):
        directory.mkdir(parents=True, exist_ok=True)
    install_cni(paths)
    cni = CNIRuntime(paths.cni_conf_dir, [paths.cni_bin_dir, *CNI_BIN_DIRS], paths.cni_state_dir / "results")
    zygote.watch()
    runtime = PodRuntime(paths, zygote, cni, config.cgroups)
    client = RestClient(config.kubelet.endpoint)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_cni_daemon(CNIDaemonConfig(paths)))
            group.create_task(run_overlay_agent(config.overlay, client, LinuxKernel()))
            if config.proxy is not None:
                group.create_task(run_proxy_agent(config.proxy, client, LinuxKernel()))
            else:
                await asyncio.to_thread(remove_rules, paths, LinuxKernel())
            await _release_lost_attachments(paths, cni, runtime)  # before the kubelet makes new ones
            group.create_task(run_kubelet(config.kubelet, client, runtime))
            group.create_task(_raise_on(stop))
    except* _StopRequested:
        pass
    finally:
        await runtime.close()
        await client.close()


async def _release_lost_attachments(paths: NodePaths, cni: CNIRuntime, runtime: PodRuntime) -> None:
    """CNI GC: what an agent that was killed in the middle of an ADD or DEL left, links and addresses, is given back.

    Failing costs an address until the next start, so it is told and not repeated.
    """
    if not any((paths.cni_state_dir / "results").glob("*")):
        return
    deadline = time.monotonic() + CNI_START_TIMEOUT_S
    while not paths.cni_socket.exists() and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    living = [(sandbox.id, "eth0") for sandbox in await runtime.list_pod_sandboxes()]
    try:
        await cni.gc(living)
    except CNIRuntimeError as error:
        log.warning("CNI GC: %s", error)


async def _raise_on(stop: asyncio.Event) -> None:
    await stop.wait()
    raise _StopRequested
