"""What every object carries: names, labels, owner references, finalizers, conditions.

The rule: readers tolerate absent maps, and nothing here changes an object in place except where the name says `set_`;
ids and times come in as arguments.
Source: Kubernetes API conventions ("Metadata", "Typical status properties"), apimachinery meta/v1.
"""

from __future__ import annotations

import copy
import marshal
from collections.abc import Mapping, Sequence
from typing import Any

from podnet.controlplane.api.types import Object

GENERATED_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
GENERATED_SUFFIX_LENGTH = 5
MAX_GENERATED_NAME_LENGTH = 63


def deep_copy(obj: Any) -> Any:
    """An independent copy of a piece of JSON. marshal knows just JSON's types and is some 20 times copy.deepcopy."""
    try:
        return marshal.loads(marshal.dumps(obj))  # noqa: S302 - the bytes were made on this line
    except ValueError:  # a str or int subclass, such as an enum member, or deeper than marshal goes
        return copy.deepcopy(obj)


def metadata(obj: Mapping[str, Any]) -> dict[str, Any]:
    """`obj.metadata`, or an empty map that is not attached to the object."""
    value = obj.get("metadata")
    return value if isinstance(value, dict) else {}


def name(obj: Mapping[str, Any]) -> str:
    """`metadata.name`, or ""."""
    return str(metadata(obj).get("name") or "")


def namespace(obj: Mapping[str, Any]) -> str:
    """`metadata.namespace`, or ""."""
    return str(metadata(obj).get("namespace") or "")


def uid(obj: Mapping[str, Any]) -> str:
    """`metadata.uid`, or ""."""
    return str(metadata(obj).get("uid") or "")


def key(obj: Mapping[str, Any]) -> str:
    """`namespace/name`, or `name` for a cluster-scoped object."""
    ns = namespace(obj)
    return f"{ns}/{name(obj)}" if ns else name(obj)


def split_key(text: str) -> tuple[str, str]:
    """(namespace, name) of a `key`."""
    ns, _, own_name = text.rpartition("/")
    return ns, own_name


def labels(obj: Mapping[str, Any]) -> dict[str, str]:
    """`metadata.labels`, or an empty map."""
    return metadata(obj).get("labels") or {}


def annotations(obj: Mapping[str, Any]) -> dict[str, str]:  # type: ignore[no-redef] # the __future__ import has the name
    """`metadata.annotations`, or an empty map."""
    return metadata(obj).get("annotations") or {}


def resource_version(obj: Mapping[str, Any]) -> str:
    """`metadata.resourceVersion`, or ""."""
    return str(metadata(obj).get("resourceVersion") or "")


def generation(obj: Mapping[str, Any]) -> int:
    """`metadata.generation`, or 0."""
    return int(metadata(obj).get("generation") or 0)


def is_terminating(obj: Mapping[str, Any]) -> bool:
    """A deletion has begun."""
    return bool(metadata(obj).get("deletionTimestamp"))


def finalizers(obj: Mapping[str, Any]) -> list[str]:
    """`metadata.finalizers`, or an empty list."""
    return metadata(obj).get("finalizers") or []


def has_finalizer(obj: Mapping[str, Any], finalizer: str) -> bool:
    """Whether deletion waits for `finalizer`."""
    return finalizer in finalizers(obj)


def without_finalizer(obj: Object, finalizer: str) -> Object:
    """A copy that no longer waits for `finalizer`."""
    copy: Object = deep_copy(obj)
    rest = [entry for entry in finalizers(copy) if entry != finalizer]
    if rest:
        copy["metadata"]["finalizers"] = rest
    else:
        copy.get("metadata", {}).pop("finalizers", None)
    return copy


def owner_references(obj: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`metadata.ownerReferences`, or an empty list."""
    return metadata(obj).get("ownerReferences") or []


def controller_of(obj: Mapping[str, Any]) -> dict[str, Any] | None:
    """The owner reference with `controller: true`."""
    for reference in owner_references(obj):
        if reference.get("controller"):
            return reference
    return None


def is_controlled_by(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    """Whether `owner`, by uid, is the controller of `obj`."""
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid(owner)


def owner_reference(owner: Mapping[str, Any], *, controller: bool = False, block: bool = False) -> dict[str, Any]:
    """A reference to `owner`, whose apiVersion and kind must be set."""
    reference: dict[str, Any] = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name(owner),
        "uid": uid(owner),
    }
    if controller:
        reference["controller"] = True
    if block:
        reference["blockOwnerDeletion"] = True
    return reference


def controller_reference(owner: Mapping[str, Any]) -> dict[str, Any]:
    """The reference a controller puts on what it creates."""
    return owner_reference(owner, controller=True, block=True)


def object_reference(obj: Mapping[str, Any]) -> dict[str, Any]:
    """An ObjectReference to `obj`, as events and bindings hold it."""
    reference = {"kind": obj.get("kind", ""), "apiVersion": obj.get("apiVersion", ""), "name": name(obj)}
    optional = {"namespace": namespace(obj), "uid": uid(obj), "resourceVersion": resource_version(obj)}
    return reference | {field: value for field, value in optional.items() if value}


def generated_name(prefix: str, random_bytes: bytes) -> str:
    """`prefix` plus five characters drawn from `random_bytes` (at least 5 of them), cut to 63 in all."""
    alphabet = GENERATED_NAME_ALPHABET
    suffix = "".join(alphabet[byte % len(alphabet)] for byte in random_bytes[:GENERATED_SUFFIX_LENGTH])
    if len(suffix) < GENERATED_SUFFIX_LENGTH:
        raise ValueError(f"a generated name needs {GENERATED_SUFFIX_LENGTH} random bytes")
    return prefix[: MAX_GENERATED_NAME_LENGTH - GENERATED_SUFFIX_LENGTH] + suffix


def get_condition(obj: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """The status condition of that type."""
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == kind:
            found: dict[str, Any] = condition
            return found
    return None


def condition_is_true(obj: Mapping[str, Any], kind: str) -> bool:
    """Whether the condition is there with status "True"."""
    condition = get_condition(obj, kind)
    return condition is not None and condition.get("status") == "True"


def with_condition(
    conditions: Sequence[dict[str, Any]] | None, condition: Mapping[str, Any], now: str
) -> list[dict[str, Any]]:
    """The list with `condition` set; `lastTransitionTime` becomes `now` only when the status really changes."""
    out: list[dict[str, Any]] = []
    placed = False
    for existing in conditions or ():
        if existing.get("type") != condition["type"]:
            out.append(existing)
            continue
        same = existing.get("status") == condition.get("status") and existing.get("lastTransitionTime")
        out.append({**existing, **condition, "lastTransitionTime": existing["lastTransitionTime"] if same else now})
        placed = True
    if not placed:
        out.append({**condition, "lastTransitionTime": now})
    return out


def set_condition(obj: Object, condition: Mapping[str, Any], now: str) -> None:
    """Set the status condition in place, see `with_condition`."""
    status = obj.setdefault("status", {})
    status["conditions"] = with_condition(status.get("conditions"), condition, now)
