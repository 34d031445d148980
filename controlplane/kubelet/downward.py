"""The downward API: fields of a pod and resources of its containers as text.

Pure. Source: kubernetes.io/docs/concepts/workloads/pods/downward-api; values of maps are quoted as Go's %q does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from podnet.controlplane.api import quantity
from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")


class ConfigError(Exception):
    """Something that a container's configuration refers to is not there; the waiting reason is
    CreateContainerConfigError and the message this error's text."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What the kubelet knows about a pod beyond its spec."""

    pod: Object
    host_ip: str
    pod_ips: Sequence[str] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)


def field_value(facts: PodFacts, path: str) -> str:
    """The value of a fieldRef; ConfigError for a path that is none."""
    metadata, spec = facts.pod["metadata"], facts.pod["spec"]
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    if path in {"metadata.labels", "metadata.annotations"}:
        return format_map(metadata.get(path.partition(".")[2]) or {})
    plain = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace", ""),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        "status.podIP": facts.pod_ips[0] if facts.pod_ips else "",
        "status.podIPs": ",".join(facts.pod_ips),
    }
    if path not in plain:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(plain[path])


def format_map(entries: Mapping[str, str]) -> str:
    """`key="value"` lines sorted by key: a downward API file of labels or annotations."""
    return "\n".join(f"{key}={_quote(str(entries[key]))}" for key in sorted(entries))


def _quote(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(char, char) for char in text) + '"'


def resource_value(facts: PodFacts, reference: Mapping[str, Any], container_name: str) -> str:
    """The value of a resourceFieldRef: a whole number of divisors, rounded up; a limit that is not set is what the node
    can give."""
    container = pod_spec.container_named(facts.pod, reference.get("containerName") or container_name)
    if container is None:
        raise ConfigError(f"container {reference.get('containerName')} not found")
    which, _, name = str(reference["resource"]).partition(".")
    if which not in {"limits", "requests"} or not name:
        raise ConfigError(f"unsupported container resource : {reference['resource']}")
    resources = container.get("resources") or {}
    amount = (resources.get(which) or {}).get(name)
    if amount is None and which == "requests":
        amount = (resources.get("limits") or {}).get(name, "0")
    if amount is None:
        amount = facts.allocatable.get(name, "0")
    divisor = quantity.of(str(reference.get("divisor") or "0")).value or Fraction(1)
    value = quantity.of(str(amount)).value / divisor
    return str(-(-value.numerator // value.denominator))
