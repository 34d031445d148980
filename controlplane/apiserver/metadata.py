"""metadata that the server owns: names, uid, creation time, preconditions.

Source: apiserver pkg/registry/rest/{create,update,meta}.go and apimachinery pkg/util/names of Kubernetes 1.32.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from podnet.controlplane.api.errors import Cause, bad_request, conflict, invalid, required
from podnet.controlplane.api.timestamps import format_time
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver.strategy import NEEDS_RESOURCE_VERSION

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_NAME_MAX = 63

Choose = Callable[[str], str]


def generate_name(base: str, choose: Choose = random.choice) -> str:
    """`base` with five random characters, cut to 63; no vowels, so that no word appears by accident."""
    suffix = "".join(choose(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return base[: _NAME_MAX - _SUFFIX_LENGTH] + suffix


def new_uid() -> str:
    """A fresh metadata.uid."""
    return str(uuid.uuid4())


def type_check(obj: object, resource: Resource, *, api_version: str = "", kind: str = "") -> Object:
    """The object as a dict with apiVersion, kind and metadata, or 400 when it is another kind's.

    `api_version` and `kind` name what is expected where it is not the resource's own (subresource bodies).
    """
    api_version, kind = api_version or resource.api_version, kind or resource.kind
    if not isinstance(obj, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): it is not a JSON object")
    if obj.setdefault("apiVersion", api_version) != api_version:
        raise bad_request(
            f"the API version in the data ({obj['apiVersion']}) does not match the expected API version ({api_version})"
        )
    if obj.setdefault("kind", kind) != kind:
        raise bad_request(
            f'{obj["kind"]} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind}: '
            f'no kind "{obj["kind"]}" matches this resource'
        )
    metadata = obj.get("metadata")
    if metadata is None:
        obj["metadata"] = {}
    elif not isinstance(metadata, dict):
        raise bad_request(
            f'{kind} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind}: '
            "json: cannot unmarshal metadata into Go value of type v1.ObjectMeta"
        )
    return obj


def begin_metadata(obj: Object, resource: Resource, namespace: str, now: float) -> None:
    """Fill in the identity of a new object, in place; its name is already final."""
    metadata: dict[str, Any] = obj["metadata"]
    if metadata.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    check_namespace(metadata, resource, namespace)
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "resourceVersion"):
        metadata.pop(field, None)
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = format_time(now)


def check_namespace(metadata: dict[str, Any], resource: Resource, namespace: str) -> None:
    """The object's namespace is the request's, and a cluster-scoped object has none (`default` is forgiven there)."""
    given = metadata.get("namespace") or ""
    if given == "default" and not resource.namespaced:
        given = ""
    if given and given != namespace and (namespace or not resource.namespaced):
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if resource.namespaced:
        metadata["namespace"] = given or namespace
    else:
        metadata.pop("namespace", None)


def check_update_identity(new: Object, old: Object, resource: Resource) -> None:
    """Name, namespace and uid of an update are those of the object it addresses."""
    metadata, current = new["metadata"], old["metadata"]
    name = metadata.setdefault("name", current["name"]) or current["name"]
    metadata["name"] = name
    if name != current["name"]:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({current['name']})")
    check_namespace(metadata, resource, current.get("namespace", ""))
    uid = metadata.get("uid")
    if uid and uid != current["uid"]:
        raise conflict(resource.plural, name, uid_precondition(uid, current["uid"]), resource.group)


def check_update_version(new: Object, old: Object, resource: Resource) -> None:
    """Optimistic concurrency: a resourceVersion that is said must be the current one; some kinds must say it."""
    version = new["metadata"].get("resourceVersion") or ""
    name = old["metadata"]["name"]
    if not version or version == "0":
        if resource.qualified_name in NEEDS_RESOURCE_VERSION:
            cause = Cause(
                "FieldValueInvalid", "Invalid value: 0x0: must be specified for an update", "metadata.resourceVersion"
            )
            raise invalid(resource.plural, name, [cause], resource.group)  # the plural: upstream's storage says this
    elif version != old["metadata"]["resourceVersion"]:
        raise conflict(resource.plural, name, group=resource.group)


def uid_precondition(wanted: str, current: str) -> str:
    """The sentence of a failed uid precondition."""
    return f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {current}"


def check_preconditions(old: Object, resource: Resource, uid: str, resource_version: str) -> None:
    """DeleteOptions.preconditions against the object that stands there."""
    metadata = old["metadata"]
    why = ""
    if uid and uid != metadata["uid"]:
        why = (
            f"the UID in the precondition ({uid}) does not match the UID in record ({metadata['uid']}). "
            "The object might have been deleted and then recreated"
        )
    elif resource_version and resource_version != metadata["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({resource_version}) does not match the ResourceVersion in record "
            f"({metadata['resourceVersion']}). The object might have been modified"
        )
    if why:
        raise conflict(resource.kind, metadata["name"], why, resource.group)  # the kind, as upstream says it here


_DUPLICATE_OWNERS = (
    ".metadata.ownerReferences contains duplicate entries{}; API server dedups owner references in 1.20+, and may reject "
    "such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
)


def drop_duplicate_owners(metadata: dict[str, Any], *, patched: bool = False) -> list[str]:
    """Take out owner references that stand twice, in place; the warning about them."""
    owners = metadata.get("ownerReferences") or []
    if len(owners) < 2:
        return []
    kept: dict[bytes, Any] = {}
    dropped = []
    for owner in owners:
        same = orjson.dumps(owner, option=orjson.OPT_SORT_KEYS)
        if same in kept:
            dropped.append(str(owner.get("uid") or ""))
        else:
            kept[same] = owner
    if not dropped:
        return []
    metadata["ownerReferences"] = list(kept.values())
    when = " after mutating admission happens" if patched else ""  # upstream looks at patches later, and says so
    return [_DUPLICATE_OWNERS.format(when) + ", ".join(dropped)]


def require_name(obj: Object, resource: Resource, choose: Choose = random.choice) -> bool:
    """Make sure there is a name; True when it was generated (and may be generated again after a clash)."""
    metadata = obj["metadata"]
    if metadata.get("name"):
        return False
    base = metadata.get("generateName")
    if not base:
        raise invalid(
            resource.kind, "", [required("metadata.name", "name or generateName is required")], resource.group
        )
    if not isinstance(base, str):
        raise bad_request("metadata.generateName must be a string")
    metadata["name"] = generate_name(base, choose)
    return True
