"""Discovery documents: which resources there are, in the aggregated form (v2) and in the legacy one.

kubectl reads the aggregated form (two requests); drain, can-i, kr8s, kopf and the dynamic clients read the legacy one.
Every function takes `extra`, the resources that CustomResourceDefinitions and APIServices add to the registry.

Rule: pure; the documents are functions of the registry.
Source: k8s.io/api apidiscovery/v2, apimachinery meta/v1 (APIGroupList, APIResourceList).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from podnet.controlplane.api.resources import RESOURCES
from podnet.controlplane.api.types import Object, Resource, Subresource

AGGREGATED_CONTENT_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_GROUP_ORDER = (
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
)
"""Upstream's group priorities: what an ambiguous short name means depends on this order."""


def api_group_discovery(core: bool, extra: Iterable[Resource] = ()) -> Object:
    """The APIGroupDiscoveryList of `/api` (core) or of `/apis`."""
    items = []
    for group, versions in _by_group(extra).items():
        if (group == "") is not core:
            continue
        metadata: dict[str, Any] = {"creationTimestamp": None}
        if group:
            metadata = {"name": group, **metadata}
        items.append(
            {
                "metadata": metadata,
                "versions": [
                    {
                        "version": version,
                        "resources": [_discovery_resource(resource) for resource in resources],
                        "freshness": "Current",
                    }
                    for version, resources in versions.items()
                ],
            }
        )
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _discovery_resource(resource: Resource) -> dict[str, Any]:
    out: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        out["shortNames"] = list(resource.short_names)
    if resource.categories:
        out["categories"] = list(resource.categories)
    if resource.subresources:
        out["subresources"] = [
            {
                "subresource": name,
                "responseKind": dict(zip(("group", "version", "kind"), _response_kind(resource, sub), strict=True)),
                "verbs": list(sub.verbs),
            }
            for name, sub in sorted(resource.subresources.items())
        ]
    return out


def _response_kind(resource: Resource, sub: Subresource) -> tuple[str, str, str]:
    """Group, version and kind of a subresource's body: the parent's own group unless the row names another."""
    if sub.group:
        return sub.group, sub.version, sub.kind
    return resource.group, resource.version, sub.kind


def api_versions(server_addresses: Iterable[str]) -> Object:
    """The legacy document of `/api`; addresses are `host:port`."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": address} for address in server_addresses
        ],
    }


def api_group_list(extra: Iterable[Resource] = ()) -> Object:
    """The legacy document of `/apis`."""
    groups = [_legacy_group(group, versions) for group, versions in _by_group(extra).items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(group: str, extra: Iterable[Resource] = ()) -> Object | None:
    """The legacy document of `/apis/<group>`; None when there is no such group."""
    versions = _by_group(extra).get(group)
    if not group or versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_legacy_group(group, versions)}


def _legacy_group(group: str, versions: Mapping[str, list[Resource]]) -> dict[str, Any]:
    rows = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": rows, "preferredVersion": rows[0]}


def api_resource_list(group: str, version: str, extra: Iterable[Resource] = ()) -> Object | None:
    """The legacy document of `/api/v1` or `/apis/<group>/<version>`; None when there is no such version."""
    resources = _by_group(extra).get(group, {}).get(version)
    if resources is None:
        return None
    rows: list[dict[str, Any]] = []
    for resource in resources:
        rows.append(_legacy_resource(resource))
        rows.extend(_legacy_subresource(resource, name, sub) for name, sub in sorted(resource.subresources.items()))
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": rows}


def _legacy_resource(resource: Resource) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    return row


def _legacy_subresource(resource: Resource, name: str, sub: Subresource) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": sub.kind,
        "verbs": list(sub.verbs),
    }
    group, version, _ = _response_kind(resource, sub)
    if (group, version) != (resource.group, resource.version):
        row = {**row, "group": group, "version": version}
    return row


def _by_group(extra: Iterable[Resource]) -> dict[str, dict[str, list[Resource]]]:
    """Group → version → resources; groups by priority, versions newest first (`v2` before `v1` before `v1beta1`)."""
    groups: dict[str, dict[str, list[Resource]]] = {}
    for resource in [*RESOURCES, *extra]:
        groups.setdefault(resource.group, {}).setdefault(resource.version, []).append(resource)
    rank = {group: place for place, group in enumerate(("", *_GROUP_ORDER))}
    return {
        group: {
            version: sorted(groups[group][version], key=lambda resource: resource.plural)
            for version in sorted(groups[group], key=version_priority, reverse=True)
        }
        for group in sorted(groups, key=lambda group: (rank.get(group, len(rank)), group))
    }


def version_priority(version: str) -> tuple[int, int, int]:
    """A sort key in which `v2` > `v1` > `v2beta1` > `v1beta2` > `v1alpha1` > anything else (apimachinery util/version)."""
    digits, stage, minor = version[1:], "", ""
    for word in ("alpha", "beta"):
        head, found, tail = version[1:].partition(word)
        if found:
            digits, stage, minor = head, word, tail
    if not version.startswith("v") or not digits.isdigit() or (stage and not minor.isdigit()):
        return (-1, 0, 0)
    return ({"": 2, "beta": 1, "alpha": 0}[stage], int(digits), int(minor or 0))
