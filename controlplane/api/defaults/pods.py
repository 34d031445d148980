"""Defaults of pods and of pod templates.

Rule: what upstream defaults only on a Pod (requests from limits, host ports, service links) is left out of templates, so
that a template reads as it was written.
Source: Kubernetes API reference, "Pod" (1.32).
"""

from __future__ import annotations

from podnet.controlplane.api.defaults.fill import (
    JSONObject,
    canonical_quantities,
    child,
    each,
    fill,
    fill_empty,
    present,
)
from podnet.controlplane.api.defaults.volumes import default_volume, pull_policy

_GRACE_S = 30
_CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def default_pod(pod: JSONObject) -> None:
    """A Pod."""
    spec = child(pod, "spec")
    for name in ("initContainers", "containers"):
        for container in each(spec, name):
            _default_requests(container)
            if spec.get("hostNetwork"):
                for port in each(container, "ports"):
                    fill_empty(port, hostPort=port.get("containerPort"))
    fill(spec, enableServiceLinks=True)
    default_pod_spec(spec)


def default_template(owner: JSONObject) -> None:
    """The `template` of a workload's spec; it is there even where the writer forgot it, as in Go's struct."""
    template = child(owner, "template")
    child(template, "metadata")
    default_pod_spec(child(template, "spec"))


def default_pod_spec(spec: JSONObject) -> None:
    """What pods and templates share."""
    fill_empty(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", schedulerName="default-scheduler")
    fill(spec, terminationGracePeriodSeconds=_GRACE_S, securityContext={})
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        fill_empty(spec, serviceAccountName=account)
        spec["serviceAccount"] = spec["serviceAccountName"]
    canonical_quantities(spec, "overhead")
    for name in _CONTAINER_LISTS:
        for container in each(spec, name):
            default_container(container)
    for volume in each(spec, "volumes"):
        default_volume(volume)


def default_container(container: JSONObject) -> None:
    """A container of any of the three lists."""
    if container.get("image"):
        fill_empty(container, imagePullPolicy=pull_policy(container["image"]))
    else:
        fill_empty(container, imagePullPolicy="Always" if container.get("image") is None else "IfNotPresent")
    fill_empty(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    canonical_quantities(child(container, "resources"), "limits", "requests")
    for port in each(container, "ports"):
        fill_empty(port, protocol="TCP")
    for variable in each(container, "env"):
        source = present(variable, "valueFrom") or {}
        field_ref, resource_ref = present(source, "fieldRef"), present(source, "resourceFieldRef")
        if field_ref is not None:
            fill_empty(field_ref, apiVersion="v1")
        if resource_ref is not None:
            fill(resource_ref, divisor="0")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = present(container, name)
        if probe is not None:
            _default_probe(probe)
    for handler in (present(container, "lifecycle") or {}).values():
        if isinstance(handler, dict):
            _default_http_get(handler)


def _default_probe(probe: JSONObject) -> None:
    fill_empty(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    _default_http_get(probe)
    grpc = present(probe, "grpc")
    if grpc is not None:
        fill(grpc, service="")


def _default_http_get(handler: JSONObject) -> None:
    http_get = present(handler, "httpGet")
    if http_get is not None:
        fill_empty(http_get, path="/", scheme="HTTP")


def _default_requests(container: JSONObject) -> None:
    """A container that states a limit and no request requests its limit."""
    limits = present(present(container, "resources") or {}, "limits")
    if limits:
        fill(child(container["resources"], "requests"), **limits)
