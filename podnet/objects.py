"""podnet's own small client: apply, get, delete and logs for machines without kubectl.

It does what a lab needs and no more; kubectl is used wherever it is there. `apply` is create, else a merge patch with
the manifest; unlike kubectl's it does not remove fields that a manifest has dropped.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.printers import table
from podnet.controlplane.api.resources import RESOURCES, by_kind
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.client.types import Client
from podnet.launch import ClusterError

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document of a file."""

    source: str
    resource: Resource
    object: Object

    @property
    def name(self) -> str:
        """`deployment.apps/web`, as kubectl prints it."""
        group = f".{self.resource.group}" if self.resource.group else ""
        return f"{self.resource.singular}{group}/{self.object['metadata'].get('name', '')}"


def parse_manifests(text: str, source: str, namespace: str) -> list[Manifest]:
    """Every document of a YAML text. Raises ClusterError naming the document that is wrong."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as err:
        raise ClusterError(f"{source}: not YAML: {' '.join(str(err).split())}") from err
    manifests: list[Manifest] = []
    for number, document in enumerate(documents, 1):
        if isinstance(document, dict) and document.get("kind") == "List":
            items = document.get("items") or []
        else:
            items = [document]
        manifests += [_manifest(item, f"{source} (document {number})", namespace) for item in items]
    if not manifests:
        raise ClusterError(f"{source}: no objects in it")
    return manifests


def _manifest(document: Any, source: str, namespace: str) -> Manifest:
    if not isinstance(document, dict) or not document.get("apiVersion") or not document.get("kind"):
        raise ClusterError(f"{source}: apiVersion and kind must be set")
    resource = by_kind(str(document["apiVersion"]), str(document["kind"]))
    if resource is None:
        raise ClusterError(f'{source}: no matches for kind "{document["kind"]}" in version "{document["apiVersion"]}"')
    metadata = document.setdefault("metadata", {})
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise ClusterError(f"{source}: metadata.name must be set")
    if resource.namespaced:
        metadata.setdefault("namespace", namespace)
    return Manifest(source, resource, document)


def read_manifests(path: Path, namespace: str) -> list[Manifest]:
    """The manifests of a file, or of every .yaml, .yml and .json file in a directory, in order of name."""
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json"))
        if not files:
            raise ClusterError(f"{path}: no .yaml or .json file in it")
    else:
        files = [path]
    manifests: list[Manifest] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as err:
            raise ClusterError(f"{file}: {getattr(err, 'strerror', None) or 'is not UTF-8 text'}") from err
        manifests += parse_manifests(text, str(file), namespace)
    return manifests


async def apply(client: Client, manifest: Manifest) -> str:
    """Create or change one object: `created`, `configured` or `unchanged`."""
    metadata = manifest.object["metadata"]
    try:
        live = await client.get(manifest.resource, metadata["name"], metadata.get("namespace", ""))
    except StatusError as err:
        if not err.is_not_found:
            raise
        await client.create(manifest.resource, manifest.object)
        return "created"
    changed = await client.patch(
        manifest.resource, metadata["name"], metadata.get("namespace", ""), manifest.object, patch_type="strategic"
    )
    same = changed["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
    return "unchanged" if same else "configured"


def find_resource(word: str) -> Resource:
    """A resource by plural, singular, short name or kind. Raises ClusterError."""
    wanted, _, group = word.lower().partition(".")
    for resource in RESOURCES:
        names = (resource.plural, resource.singular, resource.kind.lower(), *resource.short_names)
        if wanted in names and (not group or group == resource.group):
            return resource
    raise ClusterError(f'the server doesn\'t have a resource type "{word}"')


async def get_table(client: Client, resource: Resource, namespace: str, names: list[str], selector: str) -> Object:
    """The server's Table, made here from the objects by the same function that the server uses."""
    if names:
        objects = [await client.get(resource, name, namespace) for name in names]
    else:
        objects = (await client.list(resource, namespace, label_selector=selector)).items
    return table(resource, objects, now=time.time(), include_object="Metadata", list_meta={})


async def wait_for(client: Client, resource: Resource, name: str, namespace: str, timeout_s: float) -> None:
    """Wait until a Pod is Ready or a Deployment complete. Raises ClusterError that says what is missing."""
    deadline = time.monotonic() + timeout_s
    while True:
        obj = await client.get(resource, name, namespace)
        if is_ready(obj):
            return
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{resource.singular} {namespace}/{name} is not ready after {timeout_s:.0f} s: {why_not(obj)}"
            )
        await asyncio.sleep(POLL_S)


def is_ready(obj: Object) -> bool:
    """Is a Pod Ready, a Deployment rolled out?"""
    status = obj.get("status", {})
    if obj.get("kind") == "Deployment":
        wanted = obj["spec"].get("replicas", 1)
        observed = status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 1)
        return bool(observed and status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == wanted)
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or [])


def why_not(obj: Object) -> str:
    """What its conditions say."""
    conditions = obj.get("status", {}).get("conditions") or []
    texts = [c.get("message") or c.get("reason") or c["type"] for c in conditions if c.get("status") == "False"]
    return "; ".join(texts) or f"phase {obj.get('status', {}).get('phase', 'unknown')}"
