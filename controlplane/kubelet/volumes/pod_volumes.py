"""Makes a pod's volumes on this node and keeps them up to date.

One directory per volume, where a kubelet has it: `pods/<uid>/volumes/kubernetes.io~<plugin>/<name>`. Setting up is
idempotent; it is done before the sandbox is made and on every sync after that, so updates of ConfigMaps, Secrets,
labels and tokens reach the files.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import (
    CONFIGMAPS,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    SECRETS,
    SERVICEACCOUNTS,
)
from podnet.controlplane.api.types import Object
from podnet.controlplane.client.types import Client
from podnet.controlplane.client.volume_binding import phase_of, pod_claims
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.config_cache import ConfigCache, Reference
from podnet.controlplane.kubelet.downward import ConfigError, PodFacts
from podnet.controlplane.kubelet.timestamps import SECOND_NS
from podnet.controlplane.kubelet.volumes.atomic import write_payload
from podnet.controlplane.kubelet.volumes.claims import (
    ClaimError,
    bound_volume,
    check_volume_modes,
    claim_names,
    claim_source,
)
from podnet.controlplane.kubelet.volumes.empty_dir import set_up_empty_dir, unmount_below
from podnet.controlplane.kubelet.volumes.host_path import prepare_host_path
from podnet.controlplane.kubelet.volumes.ownership import apply_fs_group
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
_OF_CLAIMS = frozenset({"persistentVolumeClaim", "ephemeral"})
_OF_NO_OBJECTS = _OF_CLAIMS | {"emptyDir", "hostPath"}
NO_LABELS: Mapping[str, str] = MappingProxyType({})
GROUP_MAY_READ = 0o040
REFRESH_SHARE = 0.8
"""A token is replaced when this much of its life has passed, as upstream's token manager does."""
RETRY_S = 10
"""After a new token was refused, while the old one is still good."""


class VolumeError(Exception):
    """A volume that cannot be set up: the FailedMount event's text."""

    def __init__(self, volume: str, why: str, stage: str = "SetUp") -> None:
        super().__init__(f'MountVolume.{stage} failed for volume "{volume}" : {why}')


class UnboundError(VolumeError):
    """A claim that cannot be mounted yet."""

    def __init__(self, volume: str, why: str) -> None:
        Exception.__init__(
            self,
            f"Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process "
            f"volumes=[{volume}]: {why}",
        )


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    refresh_at_ns: int
    expires_at_ns: int


class PodVolumes:
    """The volumes of one pod."""

    def __init__(self, client: Client, configs: ConfigCache, pods_dir: Path, uid: str) -> None:
        self._client = client
        self._configs = configs
        self._uid = uid
        self._directory = pods_dir / uid
        self._given: set[Path] = set()
        self._claimed: dict[str, Path] = {}
        self._tokens: dict[TokenRequest, _Token] = {}

    async def acquire(self, pod: Object, others: set[Reference]) -> None:
        """Hold what `set_up` reads through the config cache, and `others`. Claims come before the volumes they name."""
        config_maps, secrets = volume_references(pod)
        namespace = pod_spec.namespace_of(pod)
        claims = {Reference(PERSISTENTVOLUMECLAIMS, namespace, name) for name in claim_names(pod).values()}
        held = others | claims
        held |= {Reference(CONFIGMAPS, namespace, name) for name in config_maps}
        held |= {Reference(SECRETS, namespace, name) for name in secrets}
        named = [
            (claim["spec"].get("volumeName") or "") for claim in map(self._configs.get, claims) if claim is not None
        ]
        await self._configs.acquire(
            self._uid, held | {Reference(PERSISTENTVOLUMES, "", name) for name in named if name}
        )
        bound = {claim["spec"]["volumeName"] for claim in map(self._configs.get, claims) if claim and _is_bound(claim)}
        if not bound <= set(named):
            await self._configs.acquire(self._uid, held | {Reference(PERSISTENTVOLUMES, "", name) for name in bound})

    async def set_up(self, facts: PodFacts, now_ns: int, node_labels: Mapping[str, str] = NO_LABELS) -> dict[str, Path]:
        """The host side of every volume, by name; VolumeError for the first that fails, once all have been tried: one
        whose object is gone does not keep the others from following theirs."""
        volumes = facts.pod["spec"].get("volumes") or ()
        sources: VolumeSources | None = None
        paths: dict[str, Path] = {}
        problem: VolumeError | None = None
        for volume in volumes:
            try:
                if sources is None and not _OF_NO_OBJECTS & set(volume):
                    sources = await self._sources(facts.pod, now_ns)
                if _OF_CLAIMS & set(volume):
                    paths[volume["name"]] = self._set_up_claim(volume["name"], facts.pod, node_labels)
                else:
                    paths[volume["name"]] = self._set_up_one(volume, facts, sources or VolumeSources(), now_ns)
            except (ClaimError, ConfigError, OSError, StatusError) as error:
                problem = problem or _volume_error(volume["name"], error)
        if problem is not None:
            raise problem
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
        group = (facts.pod["spec"].get("securityContext") or {}).get("fsGroup")
        if payload is not None:
            if group is not None:
                payload = {path: replace(file, mode=file.mode | GROUP_MAY_READ) for path, file in payload.items()}
            if write_payload(directory, payload, now_ns) and group is not None:
                apply_fs_group(directory, int(group), "Always", read_only=True)
        else:
            set_up_empty_dir(directory, volume["emptyDir"])
            self._give_to_group(directory, facts.pod)
        return directory

    def _set_up_claim(self, volume: str, pod: Object, node_labels: Mapping[str, str]) -> Path:
        """Once: a pod that has its data keeps it, also when the claim is told to go (it waits for the pod)."""
        if volume in self._claimed:
            return self._claimed[volume]
        namespace = pod_spec.namespace_of(pod)
        name, ephemeral = next((claim, ephemeral) for found, claim, ephemeral in pod_claims(pod) if found == volume)
        claim = self._configs.get(Reference(PERSISTENTVOLUMECLAIMS, namespace, name))
        bound = bound_volume(pod, name, claim, ephemeral=ephemeral)
        assert claim is not None  # bound_volume has refused that
        found = self._configs.get(Reference(PERSISTENTVOLUMES, "", bound))
        source = claim_source(claim, found, str(pod["spec"].get("nodeName") or ""), node_labels)
        check_volume_modes(pod, volume, claim["spec"].get("volumeMode") or "Filesystem")
        path = Path(source.path)
        if source.host_path_type is not None:
            prepare_host_path(path, source.host_path_type)
        elif not path.exists():
            raise ClaimError(f'path "{path}" does not exist', "NewMounter initialization", source.volume)
        else:
            self._give_to_group(path, pod)  # a hostPath stays as its owner made it
        self._claimed[volume] = path
        return path

    def _give_to_group(self, path: Path, pod: Object) -> None:
        """Once for each pod: what containers make in it has the group by then."""
        security = pod["spec"].get("securityContext") or {}
        if security.get("fsGroup") is None or path in self._given:
            return
        apply_fs_group(path, int(security["fsGroup"]), security.get("fsGroupChangePolicy") or "Always")
        self._given.add(path)

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
        except StatusError:
            # The old token is still good for a fifth of its life, and the API server may be away for a while.
            if held is None or now_ns >= held.expires_at_ns:
                raise
            self._tokens[request] = replace(held, refresh_at_ns=now_ns + RETRY_S * SECOND_NS)
            return held.value
        value = str(answer["status"]["token"])
        life_ns = request.expiration_s * SECOND_NS
        self._tokens[request] = _Token(value, now_ns + int(life_ns * REFRESH_SHARE), now_ns + life_ns)
        return value


def _volume_error(volume: str, error: ClaimError | ConfigError | OSError | StatusError) -> VolumeError:
    found: VolumeError
    if isinstance(error, ClaimError):
        found = VolumeError(error.volume, str(error), error.stage) if error.stage else UnboundError(volume, str(error))
    elif isinstance(error, StatusError):
        found = VolumeError(volume, f"failed to fetch token: {error.message}")
    else:
        found = VolumeError(volume, str(error))
    found.__cause__ = error
    return found


def _is_bound(claim: Object) -> bool:
    return phase_of(claim) == "Bound" and bool(claim["spec"].get("volumeName"))


def read_only_volumes(pod: Object) -> set[str]:
    """The volumes that no container may write to: what the kubelet writes itself, and claims used as readOnly."""
    return {
        volume["name"]
        for volume in pod["spec"].get("volumes") or ()
        if {"configMap", "secret", "downwardAPI", "projected"} & set(volume)
        or (volume.get("persistentVolumeClaim") or {}).get("readOnly")
    }


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
    for directory in reversed([place for place in (target, *target.parents) if not place.exists()]):
        directory.mkdir(exist_ok=True)
        # What the volume allows is allowed here too: a pod whose user is not root may write where its group may.
        directory.chmod(stat.S_IMODE(root.stat().st_mode))
    return target
