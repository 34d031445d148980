"""How a patch that does not fit is refused: 400 when it makes no sense, 422 when it does not apply to this object.

Upstream's 422 says one sentence and no reason; the reason goes beside it as a hint, which kubectl prints as a warning.
Source: apiserver pkg/endpoints/handlers/patch.go.
"""

from __future__ import annotations

from podnet.controlplane.api.errors import StatusError, bad_request


def does_not_apply(why: str) -> StatusError:
    """422: the patch is well formed but cannot be applied to this object."""
    return StatusError(422, "Invalid", "the server rejected our request due to an error in our request", {}, hint=why)


def cannot_merge(why: str) -> StatusError:
    """422: a strategic patch breaks the rules of its list. Upstream says why, and calls it an error of the server."""
    return StatusError(422, "Invalid", why, {})


def too_deep() -> StatusError:
    """400: nested deeper than anyone means."""
    return bad_request("error decoding patch: exceeded max depth")


def go_type_word(value: object) -> str:
    """The JSON word for a value's type, as Go's decoder says it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, list):
        return "array"
    return "null" if value is None else "object"
