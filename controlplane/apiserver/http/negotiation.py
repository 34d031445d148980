"""Content negotiation: which representation an Accept header asks for.

A representation is what is shown (the object, a Table, its metadata only) and how it is written (JSON or YAML).
Source: apiserver pkg/endpoints/handlers/negotiation, KEP-555 (server-side printing).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from podnet.controlplane.api.errors import not_acceptable

Shape = Literal["Object", "Table", "PartialObjectMetadata"]


@dataclass(frozen=True, slots=True)
class Representation:
    """How an answer is to look. `meta_version` is the version of meta.k8s.io that Table and PartialObjectMetadata say."""

    shape: Shape = "Object"
    yaml: bool = False
    meta_version: str = "v1"
    pretty: bool = False
    listed: bool = False
    """Whether PartialObjectMetadataList was said: right for a list, and for nothing else."""

    @property
    def content_type(self) -> str:
        """The Content-Type of the answer."""
        return "application/yaml" if self.yaml else "application/json"


JSON = Representation()
PROTOBUF = "application/vnd.kubernetes.protobuf"
_SHAPES: dict[str, Shape] = {
    "Table": "Table",
    "PartialObjectMetadata": "PartialObjectMetadata",
    "PartialObjectMetadataList": "PartialObjectMetadata",
}
_JSON_TYPES = frozenset({"application/json", "*/*", "application/*"})
_ACCEPTED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


@lru_cache(maxsize=512)
def negotiate(accept: str) -> Representation:
    """The first acceptable representation, by quality and order of the header; 406 when there is none."""
    if not accept:
        return JSON
    for media, parameters in _by_preference(accept):
        yaml = media in {"application/yaml", "application/x-yaml", "text/yaml"}
        if media not in _JSON_TYPES and not yaml:
            continue
        wanted = parameters.get("as", "")
        pretty = parameters.get("pretty") == "1"
        if not wanted:
            return Representation(yaml=yaml, pretty=pretty)
        shape = _SHAPES.get(wanted)
        version = parameters.get("v", "")
        if shape is not None and parameters.get("g") == "meta.k8s.io" and version in {"v1", "v1beta1"}:
            return Representation(shape, yaml, version, pretty, wanted.endswith("List"))
    raise not_acceptable(f"only the following media types are accepted: {_ACCEPTED}")


@lru_cache(maxsize=512)
def wants_aggregated_discovery(accept: str) -> str:
    """The version (v2, v2beta1) in which aggregated discovery is asked for, "" when it is not."""
    for clause in accept.split(","):
        media, parameters = _parse_clause(clause)
        if media in _JSON_TYPES:
            if parameters.get("as") == "APIGroupDiscoveryList" and parameters.get("g") == "apidiscovery.k8s.io":
                if parameters.get("v") in {"v2", "v2beta1"}:
                    return parameters["v"]
            elif not parameters.get("as"):
                return ""
    return ""


def _by_preference(accept: str) -> list[tuple[str, dict[str, str]]]:
    """The clauses by quality, named types before `*`, else in the order of the header."""
    clauses = [_parse_clause(clause) for clause in accept.split(",")]
    return sorted(clauses, key=lambda clause: (-_quality(clause[1]), "*" in clause[0]))


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 1.0


def _parse_clause(clause: str) -> tuple[str, dict[str, str]]:
    media, *pairs = clause.split(";")
    parameters = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    return media.strip().lower(), parameters
