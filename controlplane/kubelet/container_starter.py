"""Starts one container: image, configuration, create, start, postStart; every step has its event.

A failure comes back as a `StartFailure` with the waiting reason; nothing is retried here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podnet.controlplane.api.resources import CONFIGMAPS, SECRETS
from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.config_cache import Reference
from podnet.controlplane.kubelet.container_config import container_config
from podnet.controlplane.kubelet.cri import ContainerConfig, RuntimeServiceError, SandboxStatus
from podnet.controlplane.kubelet.downward import ConfigError, PodFacts
from podnet.controlplane.kubelet.env import EnvSources, config_references, render_env, service_env
from podnet.controlplane.kubelet.hooks import POST_START_TIMEOUT_S, HookError, run_hook
from podnet.controlplane.kubelet.hosts import render_hosts, sandbox_hostname
from podnet.controlplane.kubelet.lane import wait_unbroken
from podnet.controlplane.kubelet.mounts import container_mounts, write_etc_files
from podnet.controlplane.kubelet.pod_actions import ContainerStart, StartFailure
from podnet.controlplane.kubelet.resolv import MISSING_CLUSTER_DNS, pod_resolv_conf, wants_cluster_dns
from podnet.controlplane.kubelet.static_manifest import is_static
from podnet.controlplane.kubelet.volumes.pod_volumes import read_only_volumes
from podnet.controlplane.kubelet.worker_context import WorkerContext

CONFIG_RETRY_REASONS = frozenset({"CreateContainerConfigError", "ErrImageNeverPull"})
HOOK_FAILED = "PostStartHookError"


@dataclass(frozen=True, slots=True)
class StartRequest:
    """One container to start in a sandbox that stands."""

    pod: Object
    container: Mapping[str, Any]
    start: ContainerStart
    sandbox: SandboxStatus
    volumes: Mapping[str, Path]


class ContainerStarter:
    """The steps; holds nothing of its own."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    async def start(self, request: StartRequest) -> StartFailure | None:
        """Start it; None when it runs. `message` of a failed postStart is the hook's."""
        failed = await self._pull(request)
        if failed is not None:
            return failed
        try:
            config = await self._configure(request)
        except ConfigError as error:
            self._say(request, "Warning", "Failed", f"Error: {error}")
            return self._failure(request, "CreateContainerConfigError", str(error))
        runtime = self._context.runtime
        try:
            if request.start.replaces:
                await runtime.remove_container(request.start.replaces)
            container_id = await wait_unbroken(self._create_and_start(request, config))
        except RuntimeServiceError as error:
            self._say(request, "Warning", "Failed", f"Error: {error.message}")
            reason = error.reason if error.reason.endswith("Error") else "CreateContainerError"
            return self._failure(request, reason, error.message)
        return await self._post_start(request, container_id)

    async def _create_and_start(self, request: StartRequest, config: ContainerConfig) -> str:
        runtime, name = self._context.runtime, request.container["name"]
        container_id = await runtime.create_container(request.sandbox.id, config)
        self._say(request, "Normal", "Created", f"Created container: {name}")
        await runtime.start_container(container_id)
        self._say(request, "Normal", "Started", f"Started container {name}")
        return container_id

    async def _pull(self, request: StartRequest) -> StartFailure | None:
        image = request.container.get("image", "")
        policy = request.container.get("imagePullPolicy") or "IfNotPresent"
        begun_ns = self._context.clock()
        try:
            await self._context.runtime.pull_image(image)
        except RuntimeServiceError as error:
            if error.reason == "InvalidImageName":
                message = f'Failed to apply default image tag "{image}": {error.message}'
                self._say(request, "Warning", "InspectFailed", message)
                self._say(request, "Warning", "Failed", f"Error: {error.reason}")
                return self._failure(request, error.reason, message)
            if policy == "Never":
                message = f'Container image "{image}" is not present with pull policy of Never'
                self._say(request, "Warning", "ErrImageNeverPull", message)
                self._say(request, "Warning", "Failed", "Error: ErrImageNeverPull")
                return self._failure(request, "ErrImageNeverPull", message)
            self._say(request, "Normal", "Pulling", f'Pulling image "{image}"')
            self._say(request, "Warning", "Failed", f'Failed to pull image "{image}": {error.message}')
            self._say(request, "Warning", "Failed", f"Error: {error.reason}")
            return self._failure(request, error.reason, error.message)
        if policy == "Always":
            self._say(request, "Normal", "Pulling", f'Pulling image "{image}"')
            took = f"{(self._context.clock() - begun_ns) // 1_000_000}ms"
            pulled = f'Successfully pulled image "{image}" in {took} ({took} including waiting). Image size: 0 bytes.'
            self._say(request, "Normal", "Pulled", pulled)
        else:
            self._say(request, "Normal", "Pulled", f'Container image "{image}" already present on machine')
        return None

    async def _configure(self, request: StartRequest) -> ContainerConfig:
        context, pod, container = self._context, request.pod, request.container
        ips = request.sandbox.ips or (context.config.node_ip,)
        facts = PodFacts(pod, context.config.node_ip, ips, context.allocatable)
        environment = render_env(container, facts, self._sources(pod))
        for message in environment.skipped:
            context.recorder.event(pod, "Warning", "InvalidEnvironmentVariableNames", message)
        pod_dir = context.config.paths.pods_dir / pod_spec.uid(pod)
        self._write_etc(pod, ips, pod_dir)
        mounts = container_mounts(container, request.volumes, environment, pod_dir, read_only=read_only_volumes(pod))
        return container_config(pod, container, request.start.attempt, environment, mounts)

    def _write_etc(self, pod: Object, ips: tuple[str, ...], pod_dir: Path) -> None:
        context = self._context
        domain = context.config.cluster_domain
        cluster_dns = (context.config.cluster_dns,) if context.config.cluster_dns else ()
        if wants_cluster_dns(pod) and not cluster_dns:
            context.recorder.event(pod, "Warning", "MissingClusterDNS", MISSING_CLUSTER_DNS)
        resolv, limits = pod_resolv_conf(pod, context.node_resolv, cluster_dns, domain)
        for message in limits:
            context.recorder.event(pod, "Warning", "DNSConfigForming", message)
        hostname = sandbox_hostname(pod, domain, context.names.node_hostname)
        write_etc_files(pod_dir, render_hosts(pod, ips, domain, context.node_hosts), hostname, resolv.render())

    def _sources(self, pod: Object) -> EnvSources:
        context, namespace = self._context, pod_spec.namespace_of(pod)
        services = context.services()
        if services is None and is_static(pod):
            services = []  # it runs without an API server
        if services is None:
            raise ConfigError("services have not yet been read at least once, cannot construct envvars")
        maps, secrets = config_references(pod)
        found_maps = {name: context.configs.get(Reference(CONFIGMAPS, namespace, name)) for name in maps}
        found_secrets = {name: context.configs.get(Reference(SECRETS, namespace, name)) for name in secrets}
        return EnvSources(
            {name: found for name, found in found_maps.items() if found is not None},
            {name: found for name, found in found_secrets.items() if found is not None},
            service_env(services, namespace, links=pod["spec"].get("enableServiceLinks") is not False),
        )

    async def _post_start(self, request: StartRequest, container_id: str) -> StartFailure | None:
        handler = (request.container.get("lifecycle") or {}).get("postStart")
        if not handler:
            return None
        ip = request.sandbox.ips[0] if request.sandbox.ips else self._context.config.node_ip
        try:
            await run_hook(self._context.runtime, handler, request.container, container_id, ip, POST_START_TIMEOUT_S)
        except (HookError, TimeoutError) as error:
            self._say(request, "Warning", "FailedPostStartHook", f"PostStartHook failed: {error}")
            return self._failure(request, HOOK_FAILED, str(error))
        return None

    def _failure(self, request: StartRequest, reason: str, message: str) -> StartFailure:
        return StartFailure(request.start.attempt, self._context.clock(), reason, message)

    def _say(self, request: StartRequest, type_: Any, reason: str, message: str) -> None:
        self._context.recorder.event(
            request.pod, type_, reason, message, field_path=field_path(request.pod, request.container["name"])
        )


def field_path(pod: Object, name: str) -> str:
    """`spec.containers{web}`: the part of the pod that an event is about."""
    for key in ("containers", "initContainers", "ephemeralContainers"):
        if any(container["name"] == name for container in pod["spec"].get(key) or ()):
            return f"spec.{key}{{{name}}}"
    return ""
