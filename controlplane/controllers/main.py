"""The controller manager: all controllers in one process, each in a loop of its own that is started again if it crashes.

    RestClient ──▶ InformerSet (one watch per resource) ──▶ controllers ──▶ writes
                                                        └─▶ EventRecorder

Source: kubernetes cmd/kube-controller-manager.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from podnet.controlplane.api.resources import REPLICATIONCONTROLLERS
from podnet.controlplane.client.events import EventRecorder
from podnet.controlplane.client.informer import InformerSet
from podnet.controlplane.client.reconcile import run_until_signal, supervise
from podnet.controlplane.client.rest import RestClient
from podnet.controlplane.client.types import Client
from podnet.controlplane.controllers.config import ControllerManagerConfig
from podnet.controlplane.controllers.context import ControllerContext
from podnet.controlplane.controllers.cronjob.controller import CronJobController
from podnet.controlplane.controllers.daemonset.controller import DaemonSetController
from podnet.controlplane.controllers.deployment.controller import DeploymentController
from podnet.controlplane.controllers.disruption.controller import DisruptionController
from podnet.controlplane.controllers.endpointslice.controller import EndpointSliceController
from podnet.controlplane.controllers.endpointslice.mirroring import EndpointSliceMirroringController
from podnet.controlplane.controllers.garbage.controller import GarbageCollector
from podnet.controlplane.controllers.job.controller import JobController
from podnet.controlplane.controllers.namespace import NamespaceController
from podnet.controlplane.controllers.nodeipam.controller import NodeIPAMController
from podnet.controlplane.controllers.nodelifecycle.controller import NodeLifecycleController
from podnet.controlplane.controllers.nodelifecycle.eviction import TaintEvictionController
from podnet.controlplane.controllers.persistentvolume.controller import PersistentVolumeController
from podnet.controlplane.controllers.persistentvolume.ephemeral import EphemeralVolumeController
from podnet.controlplane.controllers.persistentvolume.expand import ExpansionController
from podnet.controlplane.controllers.persistentvolume.protection import (
    ClaimProtectionController,
    VolumeProtectionController,
)
from podnet.controlplane.controllers.podgc import PodGCController
from podnet.controlplane.controllers.replicaset.controller import ReplicaSetController
from podnet.controlplane.controllers.resourcequota.controller import ResourceQuotaController
from podnet.controlplane.controllers.serviceaccount import run_root_ca, run_service_account
from podnet.controlplane.controllers.servicecidr import ServiceCIDRController
from podnet.controlplane.controllers.statefulset.controller import StatefulSetController

log = logging.getLogger(__name__)

Start = Callable[[ControllerContext], Awaitable[None]]

CONTROLLERS: Mapping[str, Start] = {
    "serviceaccount": run_service_account,
    "root-ca": run_root_ca,
    "namespace": lambda context: NamespaceController(context).run(),
    "nodeipam": lambda context: NodeIPAMController(context).run(),
    "replicaset": lambda context: ReplicaSetController(context).run(),
    "replicationcontroller": lambda context: ReplicaSetController(context, REPLICATIONCONTROLLERS).run(),
    "deployment": lambda context: DeploymentController(context).run(),
    "statefulset": lambda context: StatefulSetController(context).run(),
    "job": lambda context: JobController(context).run(),
    "cronjob": lambda context: CronJobController(context).run(),
    "disruption": lambda context: DisruptionController(context).run(),
    "resourcequota": lambda context: ResourceQuotaController(context).run(),
    "daemonset": lambda context: DaemonSetController(context).run(),
    "nodelifecycle": lambda context: NodeLifecycleController(context).run(),
    "taint-eviction": lambda context: TaintEvictionController(context).run(),
    "podgc": lambda context: PodGCController(context).run(),
    "endpointslice": lambda context: EndpointSliceController(context).run(),
    "endpointslicemirroring": lambda context: EndpointSliceMirroringController(context).run(),
    "persistentvolume-binder": lambda context: PersistentVolumeController(context).run(),
    "persistentvolume-expander": lambda context: ExpansionController(context).run(),
    "persistentvolumeclaim-protection": lambda context: ClaimProtectionController(context).run(),
    "persistentvolume-protection": lambda context: VolumeProtectionController(context).run(),
    "ephemeral-volume": lambda context: EphemeralVolumeController(context).run(),
    "servicecidr": lambda context: ServiceCIDRController(context).run(),
    "garbage-collector": lambda context: GarbageCollector(context).run(),
}
"""Every controller by name; a new one is a new line."""


async def run_controllers(context: ControllerContext, controllers: Mapping[str, Start] = CONTROLLERS) -> None:
    """Run them all until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(supervise("informers", context.informers.run), name="informers")
        group.create_task(supervise("events", context.recorder.run), name="events")
        for name, start in controllers.items():
            group.create_task(supervise(name, _bind(start, context)), name=name)


def _bind(start: Start, context: ControllerContext) -> Callable[[], Awaitable[None]]:
    return lambda: start(context)


def new_context(client: Client, config: ControllerManagerConfig) -> ControllerContext:
    """A context around a client, as the controller manager makes it."""
    recorder = EventRecorder(client, "kube-controller-manager")
    return ControllerContext(client, InformerSet(client), recorder, config)


def serve_controller_manager(config: ControllerManagerConfig) -> None:
    """Run the controller manager in this process until SIGTERM."""
    import uvloop  # the only place that needs it

    async def work() -> None:
        async with RestClient(config.endpoint) as client:
            await run_controllers(new_context(client, config))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_until_signal(work))
    log.info("controller manager stopped")
