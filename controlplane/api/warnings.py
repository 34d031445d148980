"""What a server remarks about objects that it accepts: the texts of Warning headers, which kubectl prints.

    spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]

Rule: pure, and never a reason to refuse. Pods are looked at when they are made, templates when they are made or changed.
Source: pkg/api/pod/warnings.go, pkg/api/service/warnings.go and the strategies' WarningsOnCreate of Kubernetes 1.32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from podnet.controlplane.api import names, quantity
from podnet.controlplane.api.types import Object, Resource

JSONObject = dict[str, Any]

_TEMPLATES = {
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "PodTemplate": ("template",),
}
_NAMES_PODS = frozenset({"Deployment", "ReplicaSet", "ReplicationController", "Job", "CronJob"})
"""Kinds whose name begins the names of their pods, and so hostnames."""

_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_POD_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_NULL_SELECTOR = "a null labelSelector results in matching no pod"
_LABEL_IS_BETTER = "which can result in surprising behavior; a DNS label is recommended: "


def on_create(obj: Object, resource: Resource) -> list[str]:
    """The remarks about a new object, in upstream's order."""
    kind, out = resource.kind, []
    problems = names.dns1123_label(obj["metadata"].get("name") or "")
    if problems and kind == "Pod":
        out.append(f"metadata.name: this is used in the Pod's hostname, {_LABEL_IS_BETTER}[{' '.join(problems)}]")
    elif problems and kind in _NAMES_PODS:
        out.append(f"metadata.name: this is used in Pod names and hostnames, {_LABEL_IS_BETTER}[{' '.join(problems)}]")
    if kind == "Pod":
        return [*out, *_pod(obj, "")]
    if kind == "Ingress" and not (obj.get("spec") or {}).get("ingressClassName"):
        annotation = "kubernetes.io/ingress.class"
        if annotation in (obj["metadata"].get("annotations") or {}):
            out.append(f"annotation \"{annotation}\" is deprecated, please use 'spec.ingressClassName' instead")
    return [*out, *_always(obj, kind)]


def on_update(obj: Object, old: Object, resource: Resource) -> list[str]:
    """The remarks about a changed object. Pods are changed by programs, which nobody wants to interrupt."""
    if resource.kind in _TEMPLATES and obj.get("spec") == old.get("spec"):
        return []
    return list(_always(obj, resource.kind))


def _always(obj: Object, kind: str) -> Iterator[str]:
    if kind == "Service":
        yield from _service(obj)
    path = _TEMPLATES.get(kind)
    if path is not None:
        template: Any = obj
        for field in path:
            template = template.get(field) or {}
        yield from _pod(template, ".".join(path) + ".")


def _service(service: Object) -> Iterator[str]:
    spec = service.get("spec") or {}
    if "service.kubernetes.io/topology-aware-hints" in (service["metadata"].get("annotations") or {}):
        yield (
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use "
            "service.kubernetes.io/topology-mode instead"
        )
    kind = spec.get("type")
    if kind == "ClusterIP" and spec.get("clusterIP") == "None":
        if spec.get("loadBalancerIP"):
            yield "spec.loadBalancerIP is ignored for headless services"
        if spec.get("externalIPs"):
            yield "spec.externalIPs is ignored for headless services"
        if spec.get("sessionAffinity") not in {None, "None"}:
            yield "spec.SessionAffinity is ignored for headless services"
    if kind == "ExternalName" and spec.get("externalIPs"):
        yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
    if kind != "ExternalName" and spec.get("externalName"):
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'


# -- pods and their templates; `at` is the path of the template with a dot at its end


def _pod(pod: JSONObject, at: str) -> Iterator[str]:
    spec = pod.get("spec") or {}
    for label in spec.get("nodeSelector") or ():
        if label in _NODE_LABELS:
            yield f"{at}spec.nodeSelector[{label}]: {_NODE_LABELS[label]}"
    affinity = spec.get("affinity") or {}
    yield from _node_affinity(affinity.get("nodeAffinity") or {}, f"{at}spec.affinity.nodeAffinity")
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        where = f"{at}spec.topologySpreadConstraints[{index}]"
        key = constraint.get("topologyKey")
        if key in _NODE_LABELS:
            yield f"{where}.topologyKey: {key} is {_NODE_LABELS[key]}"
        if constraint.get("labelSelector") is None:
            yield f"{where}.labelSelector: {_NULL_SELECTOR}"
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    for key, text in _POD_ANNOTATIONS.items():
        if key in annotations:
            yield f"{at}metadata.annotations[{key}]: {text}"
    for index, volume in enumerate(spec.get("volumes") or ()):
        for source in volume:
            if source in _VOLUMES:
                yield f"{at}spec.volumes[{index}].{source}: {_VOLUMES[source]}"
    yield from _twice(spec.get("hostAliases"), "ip", f"{at}spec.hostAliases", "duplicate ip")
    secrets = spec.get("imagePullSecrets") or ()
    yield from _twice(secrets, "name", f"{at}spec.imagePullSecrets", "duplicate name")
    for index, secret in enumerate(secrets):
        if not secret.get("name"):
            yield f'{at}spec.imagePullSecrets[{index}].name: invalid empty name ""'
    containers = list(_containers(spec, f"{at}spec"))
    for container, where in containers:
        yield from _amounts(container.get("resources") or {}, f"{where}.resources")
        yield from _hidden_variables(container.get("env") or (), f"{where}.env")
    yield from _ports(containers)
    grace = spec.get("terminationGracePeriodSeconds")
    if isinstance(grace, int) and grace < 0:
        yield (
            f"{at}spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    for name in ("podAffinity", "podAntiAffinity"):
        yield from _pod_affinity(affinity.get(name) or {}, f"{at}spec.affinity.{name}")


def _containers(spec: JSONObject, at: str) -> Iterator[tuple[JSONObject, str]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield container, f"{at}.{field}[{index}]"


def _node_affinity(affinity: JSONObject, at: str) -> Iterator[str]:
    required = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    where = f"{at}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    for index, term in enumerate(required):
        yield from _term(term, f"{where}[{index}]")
    where = f"{at}.preferredDuringSchedulingIgnoredDuringExecution"
    for index, weighted in enumerate(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        yield from _term(weighted.get("preference") or {}, f"{where}[{index}].preference")


def _term(term: JSONObject, at: str) -> Iterator[str]:
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        key = expression.get("key")
        if key in _NODE_LABELS:
            yield f"{at}.matchExpressions[{index}].key: {key} is {_NODE_LABELS[key]}"


def _pod_affinity(affinity: JSONObject, at: str) -> Iterator[str]:
    for index, term in enumerate(affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
        if term.get("labelSelector") is None:
            yield f"{at}.requiredDuringSchedulingIgnoredDuringExecution[{index}].labelSelector: {_NULL_SELECTOR}"
    for index, weighted in enumerate(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None:
            where = f"{at}.preferredDuringSchedulingIgnoredDuringExecution[{index}].podAffinityTerm"
            yield f"{where}.labelSelector: {_NULL_SELECTOR}"


def _twice(items: Any, key: str, at: str, text: str) -> Iterator[str]:
    seen = set()
    for index, item in enumerate(items or ()):
        value = item.get(key) or ""
        if value in seen:
            yield f'{at}[{index}].{key}: {text} "{value}"'
        seen.add(value)


def _amounts(resources: JSONObject, at: str) -> Iterator[str]:
    for name in ("memory", "ephemeral-storage"):
        for field in ("limits", "requests"):
            said = (resources.get(field) or {}).get(name)
            if said is not None and str(said).endswith(("m", "u", "n")):
                shown = quantity.canonical(said)
                yield f'{at}.{field}[{name}]: fractional byte value "{shown}" is invalid, must be an integer'


def _hidden_variables(variables: Any, at: str) -> Iterator[str]:
    """A second value hides the first, and `apply` may drop one of them, unless it is made from the first."""
    seen = set()
    for index, variable in enumerate(variables):
        name, value = variable.get("name") or "", variable.get("value") or ""
        reference = f"$({name})"
        if name in seen and (variable.get("valueFrom") or value == reference or reference not in value):
            yield f'{at}[{index}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _ports(containers: list[tuple[JSONObject, str]]) -> Iterator[str]:
    seen: dict[tuple[Any, Any], list[tuple[str, Any, Any]]] = {}
    for container, at in containers:
        for index, port in enumerate(container.get("ports") or ()):
            where, address, host_port = f"{at}.ports[{index}]", port.get("hostIP") or "", port.get("hostPort") or 0
            others = seen.setdefault((port.get("containerPort"), port.get("protocol") or "TCP"), [])
            for other, other_address, other_host_port in others:
                if (address, host_port) == (other_address, other_host_port):
                    yield f"{where}: duplicate port definition with {other}"
                elif not host_port or not other_host_port:
                    yield f"{where}: overlapping port definition with {other}"
                elif host_port == other_host_port and (not address) != (not other_address):
                    yield f"{where}: dangerously ambiguous port definition with {other}"
            others.append((where, address, host_port))
