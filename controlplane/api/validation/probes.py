"""Probes and lifecycle hooks.

Source: Kubernetes API reference "Probe", "LifecycleHandler" (1.32).
"""

from __future__ import annotations

import re
from typing import Any

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import Cause, forbidden_field, invalid_value, not_supported, required
from podnet.controlplane.api.validation.values import JSONObject, non_negative, objects, part, texts

_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_HEADER = re.compile(r"[-A-Za-z0-9]+", re.ASCII)
_HEADER_TEXT = (
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is "
    "'[-A-Za-z0-9]+')"
)
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def validate_probes(container: JSONObject, path: str) -> list[Cause]:
    """Liveness, readiness and startup probes."""
    causes: list[Cause] = []
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if not isinstance(probe, dict):
            continue
        where = f"{path}.{name}"
        causes += _validate_handler(probe, where)
        for number in _NUMBERS:
            causes += non_negative(probe, number, where)
        grace = probe.get("terminationGracePeriodSeconds")
        if grace is not None and grace <= 0:
            causes.append(invalid_value(f"{where}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
        if name == "readinessProbe":
            if grace is not None:
                text = "must not be set for readinessProbes"
                causes.append(invalid_value(f"{where}.terminationGracePeriodSeconds", grace, text))
        elif (probe.get("successThreshold") or 1) != 1:
            causes.append(invalid_value(f"{where}.successThreshold", probe["successThreshold"], "must be 1"))
    return causes


def validate_lifecycle(container: JSONObject, path: str) -> list[Cause]:
    """The hooks postStart and preStop."""
    causes: list[Cause] = []
    for name in ("postStart", "preStop"):
        handler = part(container, "lifecycle").get(name)
        if isinstance(handler, dict):
            causes += _validate_handler(handler, f"{path}.lifecycle.{name}")
    return causes


def _validate_handler(handler: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    given = [name for name in _HANDLERS if handler.get(name) is not None]
    if not given:
        return [required(path, "must specify a handler type")]
    causes += [forbidden_field(f"{path}.{name}", "may not specify more than 1 handler type") for name in given[1:]]
    name, action = given[0], part(handler, given[0])
    where = f"{path}.{name}"
    if name == "exec" and not action.get("command"):
        causes.append(required(f"{where}.command"))
    elif name == "httpGet":
        causes += _validate_http_get(action, where)
    elif name == "tcpSocket":
        causes += _validate_port(action.get("port"), f"{where}.port")
    elif name == "grpc":
        causes += texts(f"{where}.port", action.get("port") or 0, names.port_number(action.get("port") or 0))
    elif name == "sleep" and (action.get("seconds") or 0) < 0:
        causes.append(invalid_value(where, action.get("seconds"), "must be greater than 0"))
    return causes


def _validate_http_get(action: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if not action.get("path"):
        causes.append(required(f"{path}.path"))
    causes += _validate_port(action.get("port"), f"{path}.port")
    scheme = action.get("scheme") or ""
    if scheme not in {"HTTP", "HTTPS"}:
        causes.append(not_supported(f"{path}.scheme", scheme, ["HTTP", "HTTPS"]))
    for _, header in objects(action, "httpHeaders"):
        name = header.get("name") or ""
        if not _HEADER.fullmatch(name):
            causes.append(invalid_value(f"{path}.httpHeaders", name, _HEADER_TEXT))
    return causes


def _validate_port(port: Any, path: str) -> list[Cause]:
    if isinstance(port, str):
        return texts(path, port, names.port_name(port))
    number = port if isinstance(port, int) else 0
    return texts(path, number, names.port_number(number))
