"""The registry's one door to the rules of kinds: fields, defaults, validation, versions.

Rule: what passes `check_fields` has only known fields of the right types; what passes `validate_*` may be stored.
"""

from __future__ import annotations

from podnet.controlplane.api import schema, warnings
from podnet.controlplane.api.defaults import apply_defaults
from podnet.controlplane.api.errors import bad_request, invalid
from podnet.controlplane.api.resources import storage_resource
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.api.validation import validate_create, validate_update
from podnet.controlplane.api.versions import from_stored, to_stored
from podnet.controlplane.apiserver.options import WriteOptions
from podnet.controlplane.apiserver.watchcache import Entry

__all__ = ["apply_defaults", "check_fields", "remark", "stored_form", "validate_changed", "validate_new", "view"]


def check_fields(obj: Object, options: WriteOptions) -> Object:
    """The object with unknown fields gone; 400 for a wrong type, and under Strict for an unknown field."""
    problem = schema.decode_error(obj)
    if problem is not None:
        raise bad_request(problem)
    if options.field_validation != "Ignore":
        unknown = schema.strict_errors(obj)
        if unknown and options.field_validation == "Strict":
            raise bad_request(strict_message(obj, unknown))
        options.warnings.extend(unknown)
    return schema.prune_unknown(obj)


def strict_message(obj: Object, problems: list[str]) -> str:
    """Upstream's sentence for a strict decoding error."""
    kind, version = obj.get("kind"), str(obj.get("apiVersion") or "").rpartition("/")[2]
    return f'{kind} in version "{version}" cannot be handled as a {kind}: strict decoding error: {", ".join(problems)}'


def validate_new(obj: Object, resource: Resource) -> None:
    """422 with every cause, or nothing."""
    causes = validate_create(obj, resource)
    if causes:
        raise invalid(resource.kind, obj["metadata"].get("name", ""), causes, resource.group)


def validate_changed(new: Object, old: Object, resource: Resource, subresource: str) -> None:
    """422 with every cause, or nothing."""
    causes = validate_update(new, old, resource, subresource)
    if causes:
        raise invalid(resource.kind, new["metadata"].get("name", ""), causes, resource.group)


def remark(new: Object, old: Object | None, resource: Resource, options: WriteOptions) -> None:
    """Tell whoever asks what is odd about an object that is accepted; each remark once, however often a write is tried."""
    said = warnings.on_create(new, resource) if old is None else warnings.on_update(new, old, resource)
    options.warnings.extend(text for text in said if text not in options.warnings)


def stored_form(obj: Object, resource: Resource) -> Object:
    """The object in the version that is stored."""
    return obj if storage_resource(resource) is resource else to_stored(obj, resource)


def view(entry: Entry, resource: Resource) -> Entry:
    """The entry in the version a request asks for; made once for each version."""
    if storage_resource(resource) is resource:
        return entry
    views = entry.views
    if views is None:
        views = entry.views = {}
    seen: Entry | None = views.get(resource)
    if seen is None:
        seen = views[resource] = Entry(entry.key, from_stored(entry.thaw(), resource), entry.revision)
    return seen
