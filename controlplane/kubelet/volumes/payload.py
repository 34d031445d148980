"""The files of a ConfigMap, Secret, downward API or projected volume, as values.

Pure: objects and tokens in, `{relative path: FilePayload}` out. Source: kubernetes.io/docs/concepts/storage/volumes and
projected-volumes; messages are upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet.downward import ConfigError, PodFacts, field_value, resource_value
from podnet.controlplane.kubelet.env import config_map_bytes, secret_bytes

DEFAULT_MODE = 0o644
DEFAULT_TOKEN_EXPIRATION_S = 3600


@dataclass(frozen=True, slots=True)
class FilePayload:
    """One file."""

    data: bytes
    mode: int = DEFAULT_MODE


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A service account token that a projected volume needs."""

    audience: str
    expiration_s: int


@dataclass(frozen=True, slots=True)
class VolumeSources:
    """What volumes of one pod may refer to: objects by name, tokens by request."""

    config_maps: Mapping[str, Object] = field(default_factory=dict)
    secrets: Mapping[str, Object] = field(default_factory=dict)
    tokens: Mapping[TokenRequest, str] = field(default_factory=dict)


def volume_references(pod: Object) -> tuple[set[str], set[str]]:
    """(ConfigMap names, Secret names) that the pod's volumes mention."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            if source.get("configMap", {}).get("name"):
                config_maps.add(source["configMap"]["name"])
            secret = source.get("secret") or {}
            if secret.get("secretName") or secret.get("name"):
                secrets.add(secret.get("secretName") or secret["name"])
    return config_maps, secrets


def token_requests(pod: Object) -> set[TokenRequest]:
    """The tokens that the pod's projected volumes need."""
    return {
        _token_request(source["serviceAccountToken"])
        for volume in pod["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if "serviceAccountToken" in source
    }


def render_volume(volume: Mapping[str, Any], facts: PodFacts, sources: VolumeSources) -> dict[str, FilePayload] | None:
    """The files of a volume made of objects; None for any other kind. ConfigError when something is missing."""
    if "configMap" in volume:
        return _config_map(volume["configMap"], sources, _mode(volume["configMap"]))
    if "secret" in volume:
        source = volume["secret"]
        return _secret({**source, "name": source.get("secretName", "")}, sources, _mode(source))
    if "downwardAPI" in volume:
        return _downward(volume["downwardAPI"], facts, _mode(volume["downwardAPI"]))
    if "projected" in volume:
        return _projected(volume["projected"], facts, sources)
    return None


def _mode(source: Mapping[str, Any]) -> int:
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


def _projected(volume: Mapping[str, Any], facts: PodFacts, sources: VolumeSources) -> dict[str, FilePayload]:
    mode = _mode(volume)
    files: dict[str, FilePayload] = {}
    for source in volume.get("sources") or ():
        if "configMap" in source:
            files |= _config_map(source["configMap"], sources, mode)
        elif "secret" in source:
            files |= _secret(source["secret"], sources, mode)
        elif "downwardAPI" in source:
            files |= _downward(source["downwardAPI"], facts, mode)
        elif "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            token = sources.tokens.get(_token_request(wanted))
            if token is None:
                raise ConfigError("failed to fetch token: it has not been issued yet")
            files[_clean(wanted["path"])] = FilePayload(token.encode(), mode)
    return files


def _token_request(source: Mapping[str, Any]) -> TokenRequest:
    return TokenRequest(
        source.get("audience") or "", int(source.get("expirationSeconds") or DEFAULT_TOKEN_EXPIRATION_S)
    )


def _config_map(source: Mapping[str, Any], sources: VolumeSources, mode: int) -> dict[str, FilePayload]:
    found = sources.config_maps.get(source.get("name", ""))
    return _pick(source, None if found is None else config_map_bytes(found), "configmap", mode)


def _secret(source: Mapping[str, Any], sources: VolumeSources, mode: int) -> dict[str, FilePayload]:
    found = sources.secrets.get(source.get("name", ""))
    return _pick(source, None if found is None else secret_bytes(found), "secret", mode)


def _pick(source: Mapping[str, Any], data: Mapping[str, bytes] | None, kind: str, mode: int) -> dict[str, FilePayload]:
    optional = bool(source.get("optional"))
    if data is None:
        if optional:
            return {}
        raise ConfigError(f'{kind} "{source.get("name", "")}" not found')
    if not source.get("items"):
        return {key: FilePayload(value, mode) for key, value in data.items()}
    files: dict[str, FilePayload] = {}
    for item in source["items"]:
        if item["key"] not in data:
            if optional:
                continue
            word = "config" if kind == "configmap" else "secret"
            raise ConfigError(f"references non-existent {word} key: {item['key']}")
        item_mode = item.get("mode")
        files[_clean(item["path"])] = FilePayload(data[item["key"]], mode if item_mode is None else int(item_mode))
    return files


def _downward(source: Mapping[str, Any], facts: PodFacts, mode: int) -> dict[str, FilePayload]:
    files: dict[str, FilePayload] = {}
    for item in source.get("items") or ():
        if "fieldRef" in item:
            text = field_value(facts, item["fieldRef"]["fieldPath"])
        else:
            text = resource_value(facts, item["resourceFieldRef"], "")
        item_mode = item.get("mode")
        files[_clean(item["path"])] = FilePayload(text.encode(), mode if item_mode is None else int(item_mode))
    return files


def _clean(path: str) -> str:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    # Validation refuses these; a kubelet that trusted it alone would write outside of its volume.
    if not parts or ".." in parts or parts[0].startswith(".."):
        raise ConfigError(f"invalid path: {path}")
    return "/".join(parts)
