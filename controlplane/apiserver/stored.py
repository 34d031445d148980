"""Objects as the store holds them: their bytes, and when a write would change nothing. Pure."""

from __future__ import annotations

import orjson

from podnet.controlplane.api.errors import bad_request
from podnet.controlplane.api.meta import deep_copy
from podnet.controlplane.api.types import Object


def private(obj: Object) -> Object:
    """A copy that a transform may hand out more than once."""
    copy: Object = deep_copy(obj)
    return copy


def encoded(obj: Object) -> bytes:
    """An object as it is stored; 400 for text or numbers that JSON cannot hold."""
    try:
        return orjson.dumps(ordered(obj))
    except TypeError as error:
        raise bad_request(f"the object cannot be written as JSON: {error}") from None


def ordered(obj: Object) -> Object:
    """kind, apiVersion and metadata first, as every Kubernetes document begins, and no resourceVersion."""
    head = {field: obj[field] for field in ("kind", "apiVersion", "metadata")}
    return without_version({**head, **{k: v for k, v in obj.items() if k not in head and k != "status"}, **_tail(obj)})


def _tail(obj: Object) -> Object:
    return {"status": obj["status"]} if "status" in obj else {}


def without_version(obj: Object) -> Object:
    """The object as it is stored: its revision is the store's to say."""
    if "resourceVersion" not in obj["metadata"]:
        return obj
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}}


def unchanged(new: Object, old: Object) -> bool:
    """Whether a write would store what is there already: then it is none, and the revision stays."""
    return without_version(new) == without_version(old)
