"""How a patch that does not fit is refused: 400 when it makes no sense, 422 when it does not apply to this object.

Upstream's 422 says only its first sentence; the reason goes beside it as a cause, which kubectl prints.
Source: apiserver pkg/endpoints/handlers/patch.go.
"""

from __future__ import annotations

from podnet.controlplane.api.errors import StatusError, bad_request


def does_not_apply(why: str) -> StatusError:
    """422: the patch is well formed but cannot be applied to this object."""
    cause = {"reason": "FieldValueInvalid", "message": why, "field": "patch"}
    message = "the server rejected our request due to an error in our request"
    return StatusError(422, "Invalid", message, {"causes": [cause]})


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
