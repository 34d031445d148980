"""Makes a pod's volumes on this node and keeps them up to date.

One directory per volume, where a kubelet has it: `pods/<uid>/volumes/kubernetes.io~<plugin>/<name>`. Setting up is
idempotent; it is done before the sandbox is made and on every sync after that, so updates of ConfigMaps, Secrets,
labels and tokens reach the files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import CONFIGMAPS, SECRETS, SERVICEACCOUNTS
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.types import Client
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.config_cache import ConfigCache, Reference
from podnet.controlplane.kubelet.downward import ConfigError, PodFacts
from podnet.controlplane.kubelet.timestamps import SECOND_NS
from podnet.controlplane.kubelet.volumes.atomic import write_payload
from podnet.controlplane.kubelet.volumes.empty_dir import set_up_empty_dir, unmount_below
from podnet.controlplane.kubelet.volumes.host_path import prepare_host_path
from podnet.controlplane.kubelet.volumes.payload import (
    TokenRequest,
    VolumeSources,
    render_volume,
    token_requests,
    volume_references,
)

_PLUGINS = {
    "emptyDir": "empty-dir",
    "configMap": "configmap",
    "secret": "secret",
    "projected": "projected",
    "downwardAPI": "downward-api",
}
REFRESH_SHARE = 0.8
"""A token is replaced when this much of its life has passed, as upstream's token manager does."""


class VolumeError(Exception):
    """A volume that cannot be set up: the FailedMount event's text."""

    def __init__(self, volume: str, why: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {why}')


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    refresh_at_ns: int


class PodVolumes:
    """The volumes of one pod."""

    def __init__(self, client: Client, configs: ConfigCache, pods_dir: Path, uid: str) -> None:
        self._client = client
        self._configs = configs
        self._directory = pods_dir / uid
        self._tokens: dict[TokenRequest, _Token] = {}

    def references(self, pod: Object) -> set[Reference]:
        """What `set_up` reads through the config cache."""
        config_maps, secrets = volume_references(pod)
        namespace = pod_spec.namespace_of(pod)
        return {Reference(CONFIGMAPS, namespace, name) for name in config_maps} | {
            Reference(SECRETS, namespace, name) for name in secrets
        }

    async def set_up(self, facts: PodFacts, now_ns: int) -> dict[str, Path]:
        """The host side of every volume, by name; VolumeError for the first that fails."""
        volumes = facts.pod["spec"].get("volumes") or ()
        sources: VolumeSources | None = None
        paths: dict[str, Path] = {}
        for volume in volumes:
            try:
                if sources is None and not {"emptyDir", "hostPath"} & set(volume):
                    sources = await self._sources(facts.pod, now_ns)
                paths[volume["name"]] = self._set_up_one(volume, facts, sources or VolumeSources(), now_ns)
            except (ConfigError, OSError) as error:
                raise VolumeError(volume["name"], str(error)) from error
            except StatusError as error:
                raise VolumeError(volume["name"], f"failed to fetch token: {error.message}") from error
        return paths

    def refresh_at_ns(self) -> int:
        """When the first token wants replacing; 0 when there is none."""
        return min((token.refresh_at_ns for token in self._tokens.values()), default=0)

    def tear_down(self) -> None:
        """Remove the pod's directory. What a hostPath volume shows is not in it."""
        self._tokens.clear()
        remove_pod_directory(self._directory)

    def _set_up_one(self, volume: Mapping[str, Any], facts: PodFacts, sources: VolumeSources, now_ns: int) -> Path:
        if "hostPath" in volume:
            path = Path(str(volume["hostPath"]["path"]))
            prepare_host_path(path, volume["hostPath"].get("type") or "")
            return path
        kind = next((kind for kind in _PLUGINS if kind in volume), "")
        if not kind:
            source = next((key for key in volume if key != "name"), "none")
            raise ConfigError(f"no volume plugin matched: volume source {source} is not served on this node")
        directory: Path = self._directory / "volumes" / f"kubernetes.io~{_PLUGINS[kind]}" / volume["name"]
        payload = render_volume(volume, facts, sources)
        if payload is not None:
            write_payload(directory, payload, now_ns)
        else:
            set_up_empty_dir(directory, volume["emptyDir"])
        return directory

    async def _sources(self, pod: Object, now_ns: int) -> VolumeSources:
        namespace = pod_spec.namespace_of(pod)
        config_maps, secrets = volume_references(pod)
        found_maps = {name: self._configs.get(Reference(CONFIGMAPS, namespace, name)) for name in config_maps}
        found_secrets = {name: self._configs.get(Reference(SECRETS, namespace, name)) for name in secrets}
        return VolumeSources(
            {name: found for name, found in found_maps.items() if found is not None},
            {name: found for name, found in found_secrets.items() if found is not None},
            {request: await self._token(pod, request, now_ns) for request in token_requests(pod)},
        )

    async def _token(self, pod: Object, request: TokenRequest, now_ns: int) -> str:
        held = self._tokens.get(request)
        if held is not None and now_ns < held.refresh_at_ns:
            return held.value
        account = pod["spec"].get("serviceAccountName") or "default"
        body: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"namespace": pod_spec.namespace_of(pod)},
            "spec": {
                "audiences": [request.audience] if request.audience else [],
                "expirationSeconds": request.expiration_s,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": pod_spec.name_of(pod),
                    "uid": pod_spec.uid(pod),
                },
            },
        }
        try:
            answer = await self._client.create(SERVICEACCOUNTS, body, subresource="token", name=account)
        except StatusError as error:
            # The old token is still good for a fifth of its life.
            if held is not None and error.code in {429, 503}:
                return held.value
            raise
        value = str(answer["status"]["token"])
        life_ns = int(request.expiration_s * REFRESH_SHARE) * SECOND_NS
        self._tokens[request] = _Token(value, now_ns + life_ns)
        return value


def remove_pod_directory(directory: Path) -> None:
    """Unmount and remove a pod's directory; harmless when it is not there."""
    unmount_below(directory)
    shutil.rmtree(directory, ignore_errors=True)


def resolve_sub_path(volume: Path, sub_path: str) -> Path:
    """The place inside a volume that a container gets; made as a directory when it is not there. ConfigError when it
    leads out of the volume, by name or by symbolic link."""
    if sub_path.startswith("/") or ".." in sub_path.split("/"):
        raise ConfigError(f"subPath must be a relative path within the volume path: {sub_path}")
    root = Path(os.path.realpath(volume))
    target = Path(os.path.realpath(root / sub_path))
    if target != root and root not in target.parents:
        raise ConfigError(f'failed to prepare subPath for volumeMount: "{sub_path}" is outside of the volume')
    if not target.exists():
        target.mkdir(parents=True)
    return target
