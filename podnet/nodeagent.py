"""The node agent: kubelet, CNI daemon and overlay of one node in one process, as k3s does and for the same reason.

It lives in its node's network, mount and UTS namespaces. Its pods do not depend on it: their shims are children of
the room's PID 1, and a new agent finds them by their files.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass

from podnet.cni.daemon import CNIDaemonConfig, run_cni_daemon
from podnet.cni.install import install_cni
from podnet.controlplane.client.rest import RestClient
from podnet.controlplane.kubelet.config import KubeletConfig
from podnet.controlplane.kubelet.kubelet import run_kubelet
from podnet.controlplane.kubelet.libcni import CNIRuntime
from podnet.controlplane.kubelet.runtime.runtime import PodRuntime
from podnet.controlplane.kubelet.runtime.zygote import Zygote, start_zygote
from podnet.overlay.agent import OverlayConfig, run_overlay_agent
from podnet.topology.linux import LinuxKernel


@dataclass(frozen=True, slots=True)
class NodeAgentConfig:
    """What the three parts are told."""

    kubelet: KubeletConfig
    overlay: OverlayConfig


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
    cni = CNIRuntime(paths.cni_conf_dir, [paths.cni_bin_dir], paths.cni_state_dir / "results")
    runtime = PodRuntime(paths, zygote, cni)
    client = RestClient(config.kubelet.endpoint)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(run_cni_daemon(CNIDaemonConfig(paths)))
            group.create_task(run_overlay_agent(config.overlay, client, LinuxKernel()))
            group.create_task(run_kubelet(config.kubelet, client, runtime))
            group.create_task(_raise_on(stop))
    except* _StopRequested:
        pass
    finally:
        await runtime.close()
        await client.close()


async def _raise_on(stop: asyncio.Event) -> None:
    await stop.wait()
    raise _StopRequested
