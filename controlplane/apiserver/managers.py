"""Whose fields are whose: managedFields of every write that is not itself an apply.

    POST          tracked, unless a component of the cluster made the object
    PUT, PATCH    tracked where the object has managedFields already
    apply         always (controlplane/api/apply decides; an object without any belongs to `before-first-apply`)

The rule: objects that components make for themselves (replicas, leases, endpoint slices, events) carry no managedFields,
and their writes cost nothing; objects that people and their programs make are followed from the first write on. It is
upstream's rule with a narrower "on create"; docs/adr/0006 has the figures. Pure: nothing here waits or reads a clock.
Source: apimachinery pkg/util/managedfields/internal/{skipnonapplied,buildmanagerinfo}.go of 1.32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from podnet.controlplane.api import apply, schema
from podnet.controlplane.api.errors import Cause, StatusError, bad_request, conflict, invalid, required
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver import lastapplied, scheme
from podnet.controlplane.apiserver import metadata as meta
from podnet.controlplane.apiserver.options import UserInfo, WriteOptions
from podnet.controlplane.apiserver.strategy import has_status

MAX_NAME = 128
"""Bytes of a field manager's name."""

_UNTRACKED_SUBRESOURCES = frozenset({"binding", "eviction", "token", "finalize"})
_OUTSIDERS = ("system:serviceaccount:", "system:anonymous", "system:admin")
_PATCH_OPTIONS = "PatchOptions"


def check_options(options: WriteOptions, *, patch_type: str = "", kind: str = "CreateOptions") -> None:
    """422 for a field manager that cannot be one, and for what only an apply may say or must say."""
    causes: list[Cause] = []
    name = options.field_manager
    if len(name.encode()) > MAX_NAME:
        causes.append(Cause("FieldValueTooLong", f"Too long: may not be more than {MAX_NAME} bytes", "fieldManager"))
    elif not name.isprintable():
        causes += [_invalid_manager(name, at, char) for at, char in enumerate(name) if not char.isprintable()]
    if patch_type == "apply":
        if not name:
            causes.append(required("fieldManager", "is required for apply patch"))
    elif patch_type and options.force is not None:
        causes.append(Cause("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force"))
    if causes:
        raise invalid(_PATCH_OPTIONS if patch_type else kind, "", causes, "meta.k8s.io")


def _invalid_manager(name: str, at: int, char: str) -> Cause:
    why = f"invalid character U+{ord(char):04X} (at position {len(name[:at].encode())})"
    return Cause("FieldValueInvalid", f"Invalid value: {orjson.dumps(name).decode()}: {why}", "fieldManager")


def is_component(user: UserInfo) -> bool:
    """Whether a part of the cluster itself asks."""
    return user.name.startswith("system:") and not user.name.startswith(_OUTSIDERS)


def manager_name(options: WriteOptions) -> str:
    """Who writes: the field manager that was said, else the first word of the User-Agent."""
    if options.field_manager:
        return options.field_manager
    word = options.user_agent.partition("/")[0].split(" ")[0]
    return "".join(char for char in word if char.isprintable())[:MAX_NAME] or "unknown"


def record_create(obj: Object, resource: Resource, options: WriteOptions, now: float) -> None:
    """Give a new object its managedFields, in place."""
    if options.initial_managers is not None:
        _set(obj, options.initial_managers)
        return
    if is_component(options.user):
        return
    wanted = {field: value for field, value in obj.items() if field != "status"} if has_status(resource) else obj
    tracked = apply.track_update(
        None, wanted, manager_name(options), schema=schema.node(obj["apiVersion"], obj["kind"]), time=format_time(now)
    )
    _set(obj, tracked["metadata"].get("managedFields"))


def record_update(new: Object, old: Object, said: Any, subresource: str, options: WriteOptions, now: float) -> None:
    """Give a changed object its managedFields, in place. `said` is what the request has at metadata.managedFields:
    nothing, or an empty list, keeps the stored ones; one empty entry forgets them, as documented upstream."""
    if options.applying:
        _set(new, said)
        return
    before = old["metadata"].get("managedFields")
    base = [] if said == [{}] else said or before
    if base is not before and base and not _is_sound(base):
        base = before
    if not base:
        return
    if subresource in _UNTRACKED_SUBRESOURCES or not _differs(new, old):
        _set(new, base)
        return
    shown = {**old, "metadata": {**old["metadata"], "managedFields": base}}
    node = schema.node(new["apiVersion"], new["kind"])
    tracked = apply.track_update(
        shown, new, manager_name(options), schema=node, time=format_time(now), subresource=subresource
    )
    _set(new, tracked["metadata"].get("managedFields"))


def _set(obj: Object, entries: Any) -> None:
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


_IRRELEVANT = frozenset({"managedFields", "resourceVersion", "generation"})


def _differs(new: Object, old: Object) -> bool:
    if any(new.get(field) != old.get(field) for field in {*new, *old} if field != "metadata"):
        return True
    one, other = new["metadata"], old["metadata"]
    return any(one.get(field) != other.get(field) for field in {*one, *other} if field not in _IRRELEVANT)


def _is_sound(entries: Any) -> bool:
    """Whether managedFields that a client wrote can be read; others are not believed, as upstream does not."""
    return isinstance(entries, list) and all(
        isinstance(entry, Mapping)
        and isinstance(entry.get("manager", ""), str)
        and entry.get("operation") in {"Apply", "Update"}
        and isinstance(entry.get("fieldsV1") or {}, Mapping)
        and _is_fields(entry.get("fieldsV1") or {})
        for entry in entries
    )


def _is_fields(fields: Mapping[str, Any]) -> bool:
    return all(
        _is_element(element) and isinstance(inner, Mapping) and _is_fields(inner) for element, inner in fields.items()
    )


def _is_element(element: str) -> bool:
    kind, _, text = element.partition(":")
    if kind in {"k", "v", "i"}:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return False
        return kind != "k" or isinstance(value, dict)
    return element == "." or kind == "f"


# -- apply


def prepare_applied(body: Any, name: str, resource: Resource, subresource: str, options: WriteOptions) -> Object:
    """What an apply may say on this path, under the name of its URL; 400 for what is no object of the resource's kind."""
    if not isinstance(body, dict):
        raise bad_request("error decoding YAML: an apply patch must be an object")
    if not body.get("apiVersion") or not body.get("kind"):
        raise bad_request("invalid object type: an apply patch must say its apiVersion and kind")
    applied = meta.type_check(body, resource)
    unknown = schema.strict_errors(applied)
    wrong = apply.type_conflicts(schema.node(applied["apiVersion"], applied["kind"]), applied)
    refused = [*_undeclared(unknown), *wrong]
    if refused:
        raise untyped(applied, refused)
    applied = scheme.check_fields(applied, replace(options, field_validation="Ignore"))
    metadata = applied["metadata"]
    if metadata.setdefault("name", name) != name:
        raise bad_request(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    if metadata.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    if subresource in {"status", "approval"}:
        return {field: applied[field] for field in ("apiVersion", "kind", "metadata", "status") if field in applied}
    if has_status(resource):
        return {field: value for field, value in applied.items() if field != "status"}
    return applied


def check_absent(applied: Object, resource: Resource) -> None:
    """An apply that names the uid or the version of an object that is not there meant another one."""
    metadata = applied["metadata"]
    uid = metadata.get("uid")
    if uid:
        why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise conflict(resource.plural, metadata["name"], why, resource.group)
    metadata.pop("resourceVersion", None)


def apply_onto(live: Object | None, applied: Object, subresource: str, options: WriteOptions, now: float) -> Object:
    """`live` after this apply, with managedFields. 409 when others own what it would change."""
    version = applied["metadata"].get("resourceVersion")
    try:
        result = _applied(live, applied, subresource, options, now, force=bool(options.force))
    except StatusError as error:
        if live is None or options.field_manager != lastapplied.MANAGER or not lastapplied.excuses(error, live):
            raise
        result = _applied(live, applied, subresource, options, now, force=True)
    if options.field_manager == lastapplied.MANAGER and not subresource:
        lastapplied.update(result, applied)
    if live is not None and not live["metadata"].get("managedFields") and not _has_applier(result):
        result["metadata"].pop("managedFields", None)  # an apply of no fields is no reason to begin to track
    if version:
        result["metadata"]["resourceVersion"] = version  # the revision it is for: another one is a conflict
    return result


def _applied(
    live: Object | None, applied: Object, subresource: str, options: WriteOptions, now: float, *, force: bool
) -> Object:
    return apply.apply(
        live,
        applied,
        options.field_manager,
        force=force,
        schema=schema.node(applied["apiVersion"], applied["kind"]),
        time=format_time(now),
        subresource=subresource,
    )


def _has_applier(obj: Object) -> bool:
    return any(entry["operation"] == "Apply" for entry in obj["metadata"].get("managedFields") or ())


def _undeclared(problems: list[str]) -> list[str]:
    return [f".{text.removeprefix('unknown field ').strip(chr(34))}: field not declared in schema" for text in problems]


def untyped(applied: Object, problems: list[str]) -> StatusError:
    """The refusal of an apply whose fields the schema does not know, or not so."""
    metadata = applied["metadata"]
    where = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}; {applied['apiVersion']}, Kind={applied['kind']}"
    said = problems[0] if len(problems) == 1 else "errors:\n  " + "\n  ".join(problems)
    return bad_request(f"failed to create typed patch object ({where}): {said}")


def for_create(options: WriteOptions, applied: Object, now: float) -> WriteOptions:
    """The options under which an applied object that is not there yet is created."""
    first = apply_onto(None, applied, "", options, now)
    return replace(options, initial_managers=first["metadata"].get("managedFields") or [])
