"""Pods: their spec (also in templates), and what may change once they run.

Source: Kubernetes API reference "Pod" (1.32) and the messages of a 1.32 server.
"""

from __future__ import annotations

import json
from typing import Any

from podnet.controlplane.api import names
from podnet.controlplane.api.addresses import parse_ip
from podnet.controlplane.api.errors import Cause, duplicate, forbidden_field, invalid_value, required
from podnet.controlplane.api.types import Object
from podnet.controlplane.api.validation.containers import validate_containers
from podnet.controlplane.api.validation.metadata import validate_annotations, validate_labels
from podnet.controlplane.api.validation.selector import (
    validate_affinity,
    validate_tolerations,
    validate_topology_spread,
)
from podnet.controlplane.api.validation.values import JSONObject, objects, one_of, part, strings, texts
from podnet.controlplane.api.validation.volumes import validate_volumes

_MAX_INT32 = 2**31 - 1
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def validate_pod(pod: Object) -> list[Cause]:
    """A new Pod."""
    causes = validate_pod_spec(part(pod, "spec"), "spec")
    if part(pod, "spec").get("ephemeralContainers"):
        causes.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
    return causes


def validate_pod_spec(spec: JSONObject, path: str) -> list[Cause]:
    """What pods and templates share."""
    volumes, causes = validate_volumes(spec, path)
    causes += validate_containers(spec, path, volumes)
    causes += one_of(spec, "restartPolicy", path, _RESTART_POLICIES, must=True)
    causes += one_of(spec, "dnsPolicy", path, _DNS_POLICIES, must=True)
    causes += validate_labels(spec.get("nodeSelector"), f"{path}.nodeSelector")
    causes += _validate_names(spec, path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        text = f"must be between 1 and {_MAX_INT32}, inclusive"
        causes.append(invalid_value(f"{path}.activeDeadlineSeconds", deadline, text))
    causes += _validate_dns(spec, path)
    causes += validate_affinity(part(spec, "affinity"), f"{path}.affinity")
    causes += validate_tolerations(spec, path) + validate_topology_spread(spec, path)
    for index, alias in objects(spec, "hostAliases"):
        causes += validate_ip(alias.get("ip") or "", f"{path}.hostAliases[{index}].ip")
        for host in strings(alias, "hostnames"):
            causes += texts(f"{path}.hostAliases[{index}].hostnames", host, names.dns1123_subdomain(host))
    for index, gate in objects(spec, "readinessGates"):
        kind = gate.get("conditionType") or ""
        causes += texts(f"{path}.readinessGates[{index}].conditionType", kind, names.qualified_name(kind))
    causes += one_of(spec, "preemptionPolicy", path, ("PreemptLowerPriority", "Never"))
    causes += _validate_gates(spec, path)
    return causes + _validate_sysctls(part(spec, "securityContext"), f"{path}.securityContext")


def _validate_names(spec: JSONObject, path: str) -> list[Cause]:
    rules = {
        "serviceAccountName": names.dns1123_subdomain,
        "nodeName": names.dns1123_subdomain,
        "priorityClassName": names.dns1123_subdomain,
        "runtimeClassName": names.dns1123_subdomain,
        "hostname": names.dns1123_label,
        "subdomain": names.dns1123_label,
    }
    causes: list[Cause] = []
    for field, rule in rules.items():
        if spec.get(field):
            causes += texts(f"{path}.{field}", spec[field], rule(spec[field]))
    for index, secret in objects(spec, "imagePullSecrets"):
        if not secret.get("name"):
            causes.append(required(f"{path}.imagePullSecrets[{index}].name"))
    return causes


def _validate_dns(spec: JSONObject, path: str) -> list[Cause]:
    config = part(spec, "dnsConfig")
    where = f"{path}.dnsConfig"
    causes: list[Cause] = []
    servers, searches = strings(config, "nameservers"), strings(config, "searches")
    if spec.get("dnsPolicy") == "None" and not servers:
        if "dnsConfig" not in spec or spec["dnsConfig"] is None:
            causes.append(required(where, "must provide `dnsConfig` when `dnsPolicy` is None"))
        else:
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            causes.append(required(f"{where}.nameservers", text))
    if len(servers) > 3:
        causes.append(invalid_value(f"{where}.nameservers", servers, "must not have more than 3 nameservers"))
    for index, server in enumerate(servers):
        causes += validate_ip(server, f"{where}.nameservers[{index}]")
    if len(searches) > 32:
        causes.append(invalid_value(f"{where}.searches", searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > 2048:
        text = "must not have more than 2048 characters (including spaces) in the search list"
        causes.append(invalid_value(f"{where}.searches", searches, text))
    for index, search in enumerate(searches):
        if search != ".":
            causes += texts(f"{where}.searches[{index}]", search, names.search_domain(search.removesuffix(".")))
    for index, option in objects(config, "options"):
        if not option.get("name"):
            causes.append(required(f"{where}.options[{index}]", "must not be empty"))
    return causes


def _validate_gates(spec: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, gate in objects(spec, "schedulingGates"):
        name = gate.get("name") or ""
        causes += texts(f"{path}.schedulingGates[{index}].name", name, names.qualified_name(name))
        if name in seen:
            causes.append(duplicate(f"{path}.schedulingGates[{index}]", name))
        seen.add(name)
    if seen and spec.get("nodeName"):
        causes.append(forbidden_field(f"{path}.nodeName", "cannot be set until all schedulingGates have been cleared"))
    return causes


def _validate_sysctls(context: JSONObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, sysctl in objects(context, "sysctls"):
        name = sysctl.get("name") or ""
        if not name:
            causes.append(required(f"{path}.sysctls[{index}].name"))
        elif name in seen:
            causes.append(duplicate(f"{path}.sysctls[{index}].name", name))
        seen.add(name)
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        value = context.get(field)
        if value is not None and not 0 <= value <= _MAX_INT32:
            causes.append(invalid_value(f"{path}.{field}", value, f"must be between 0 and {_MAX_INT32}, inclusive"))
    return causes


def validate_ip(text: str, path: str) -> list[Cause]:
    """An IP address."""
    try:
        parse_ip(text)
    except ValueError:
        return [invalid_value(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    return []


def validate_template(template: JSONObject, path: str) -> list[Cause]:
    """A pod template: its labels and annotations, and its spec."""
    metadata = part(template, "metadata")
    causes = validate_labels(metadata.get("labels"), f"{path}.labels")
    causes += validate_annotations(metadata.get("annotations"), f"{path}.annotations")
    causes += validate_pod_spec(part(template, "spec"), f"{path}.spec")
    if part(template, "spec").get("ephemeralContainers"):
        causes.append(
            forbidden_field(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")
        )
    return causes


def validate_pod_update(new: Object, old: Object) -> list[Cause]:
    """An update through the main path: images, a shorter deadline, more tolerations, fewer gates."""
    after, before = part(new, "spec"), part(old, "spec")
    causes: list[Cause] = []
    for name in ("containers", "initContainers"):
        if len(after.get(name) or ()) != len(before.get(name) or ()):
            return [forbidden_field("spec." + name, "pod updates may not add or remove containers")]
        for index, container in objects(after, name):
            image = container.get("image") or ""
            if not image:
                causes.append(required(f"spec.{name}[{index}].image"))
            elif image != image.strip():
                text = "must not have leading or trailing whitespace"
                causes.append(invalid_value(f"spec.{name}[{index}].image", image, text))
    causes += _validate_deadline(after, before)
    causes += _validate_added_tolerations(after, before)
    causes += validate_tolerations(after, "spec")
    causes += _validate_fewer_gates(after, before)
    munged = _munged(after, before)
    if munged != before:
        causes.append(forbidden_field("spec", f"{_UPDATE_TEXT}\n{_difference(munged, before)}"))
    return causes


def _validate_deadline(after: JSONObject, before: JSONObject) -> list[Cause]:
    new, old = after.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    path = "spec.activeDeadlineSeconds"
    if new is not None:
        if not 1 <= new <= _MAX_INT32:
            return [invalid_value(path, new, f"must be between 1 and {_MAX_INT32}, inclusive")]
        if old is not None and old < new:
            return [invalid_value(path, new, "must be less than or equal to previous value")]
    elif old is not None:
        return [invalid_value(path, None, "must not update from a positive integer to nil value")]
    return []


def _validate_added_tolerations(after: JSONObject, before: JSONObject) -> list[Cause]:
    def without_seconds(row: JSONObject) -> JSONObject:
        return {key: value for key, value in row.items() if key != "tolerationSeconds"}

    rows = [without_seconds(row) for _, row in objects(after, "tolerations")]
    if all(without_seconds(row) in rows for _, row in objects(before, "tolerations")):
        return []
    text = "existing toleration can not be modified except its tolerationSeconds"
    return [forbidden_field("spec.tolerations", text)]


def _validate_fewer_gates(after: JSONObject, before: JSONObject) -> list[Cause]:
    old = {gate.get("name") for _, gate in objects(before, "schedulingGates")}
    added = sorted(
        gate.get("name") or "" for _, gate in objects(after, "schedulingGates") if gate.get("name") not in old
    )
    if not added:
        return []
    text = f"only deletion is allowed, but found new scheduling gate '{added[0]}'"
    return [forbidden_field("spec.schedulingGates", text)]


def _munged(after: JSONObject, before: JSONObject) -> JSONObject:
    """`after` with everything that may change put back as it was."""
    munged = dict(after)
    for name in ("containers", "initContainers"):
        rows = munged.get(name)
        if isinstance(rows, list):
            olds = before.get(name) or []
            munged[name] = [_with_image_of(row, old) for row, old in zip(rows, olds, strict=False)]
    free = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and after.get("terminationGracePeriodSeconds") == 1:
        free.append("terminationGracePeriodSeconds")
    if before.get("schedulingGates"):
        # A gated pod is not placed yet: where it may go can still be narrowed.
        free += ["nodeSelector", "affinity"]
    for name in free:
        munged.pop(name, None)
        if name in before:
            munged[name] = before[name]
    return munged


def _with_image_of(row: Any, old: Any) -> Any:
    if not isinstance(row, dict) or not isinstance(old, dict):
        return row
    rest = {key: value for key, value in row.items() if key != "image"}
    return {**rest, "image": old["image"]} if "image" in old else rest


def _difference(new: JSONObject, old: JSONObject) -> str:
    """The top-level fields that differ, old and new, one a line."""
    lines = []
    for name in sorted({*new, *old}):
        if new.get(name) != old.get(name):
            lines.append(f"- {name}: {_shown(old.get(name))}")
            lines.append(f"+ {name}: {_shown(new.get(name))}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return text if len(text) <= 200 else text[:197] + "..."


def validate_pod_status_update(new: Object, old: Object) -> list[Cause]:
    """An update of `/status`: the kubelet's news."""
    causes: list[Cause] = []
    status = part(new, "status")
    if part(new, "spec").get("nodeName") != part(old, "spec").get("nodeName"):
        causes.append(forbidden_field("status.nodeName", "may not be changed directly"))
    nominated = status.get("nominatedNodeName") or ""
    if nominated:
        causes += texts("status.nominatedNodeName", nominated, names.dns1123_subdomain(nominated))
    for index, row in objects(status, "podIPs"):
        causes += validate_ip(row.get("ip") or "", f"status.podIPs[{index}].ip")
    policy = part(new, "spec").get("restartPolicy")
    for name in ("containerStatuses", "initContainerStatuses"):
        causes += _validate_transitions(part(old, "status"), status, name, policy or "")
    return causes


def _validate_transitions(before: JSONObject, after: JSONObject, name: str, policy: str) -> list[Cause]:
    """What has ended for good does not run again."""
    if policy == "Always":
        return []
    causes: list[Cause] = []
    rows = {row.get("name"): (index, row) for index, row in objects(after, name)}
    for _, row in objects(before, name):
        ended = part(row, "state").get("terminated")
        if ended is None or (policy == "OnFailure" and ended.get("exitCode")) or row.get("name") not in rows:
            continue
        index, now = rows[row.get("name")]
        if part(now, "state").get("terminated") is None and now.get("state"):
            text = "may not be transitioned to non-terminated state"
            causes.append(forbidden_field(f"status.{name}[{index}].state", text))
    return causes


def validate_ephemeral_update(new: Object, old: Object) -> list[Cause]:
    """An update of `/ephemeralcontainers`: they are only ever added."""
    after = {row.get("name"): row for _, row in objects(part(new, "spec"), "ephemeralContainers")}
    causes: list[Cause] = []
    for _, row in objects(part(old, "spec"), "ephemeralContainers"):
        name = row.get("name")
        if name not in after:
            causes.append(
                forbidden_field(
                    "spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be removed\n'
                )
            )
        elif after[name] != row:
            causes.append(
                forbidden_field(
                    "spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be changed\n'
                )
            )
    spec = part(new, "spec")
    volumes, _ = validate_volumes(spec, "spec")
    rows = validate_containers(spec, "spec", volumes)
    return causes + [cause for cause in rows if cause.field.startswith("spec.ephemeralContainers")]
