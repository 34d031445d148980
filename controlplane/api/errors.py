"""Status errors: how every refusal of the API server is said, as a value and as an exception.

One exception, `StatusError`, carries everything a `Status` object needs; the constructors below hold the exact
messages of upstream (apimachinery pkg/api/errors), because kubectl and client libraries match on them. The client
raises the same class, so a controller's `except StatusError` works in process and over HTTP alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One field error: `reason` is a FieldValue… constant, `field` a path such as `spec.containers[0].name`."""

    reason: str
    message: str
    field: str = ""

    def to_dict(self) -> dict[str, str]:
        """The cause as it stands in `details.causes`."""
        out = {"reason": self.reason, "message": self.message}
        if self.field:
            out["field"] = self.field
        return out


def required(field: str, detail: str = "") -> Cause:
    """`field: Required value[: detail]`."""
    return Cause("FieldValueRequired", "Required value" + (f": {detail}" if detail else ""), field)


def invalid_value(field: str, value: object, detail: str) -> Cause:
    """`field: Invalid value: "value": detail` (strings quoted, as Go's %q does)."""
    return Cause("FieldValueInvalid", f"Invalid value: {_go_value(value)}: {detail}", field)


def not_supported(field: str, value: object, supported: list[str], *, sort: bool = True) -> Cause:
    """`field: Unsupported value: "value": supported values: "a", "b"` (sorted, as upstream mostly has them)."""
    names = ", ".join(f'"{name}"' for name in (sorted(supported) if sort else supported))
    return Cause("FieldValueNotSupported", f"Unsupported value: {_go_value(value)}: supported values: {names}", field)


def duplicate(field: str, value: object) -> Cause:
    """`field: Duplicate value: "value"`."""
    return Cause("FieldValueDuplicate", f"Duplicate value: {_go_value(value)}", field)


def forbidden_field(field: str, detail: str) -> Cause:
    """`field: Forbidden: detail`."""
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", field)


def too_long(field: str, max_length: int) -> Cause:
    """`field: Too long: may not be more than N bytes`."""
    return Cause("FieldValueTooLong", f"Too long: may not be more than {max_length} bytes", field)


def go_quoted(text: str) -> str:
    """Text as Go's %q has it, as far as messages need it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class GoSyntax(str):
    """A refused value that is already written as upstream shows it: it is not quoted again."""

    __slots__ = ()


def _go_value(value: object) -> str:
    if isinstance(value, GoSyntax):
        return str(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return go_quoted(value)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return "[]string{" + ", ".join(map(go_quoted, value)) + "}"
    if isinstance(value, (dict, list)):
        import json  # late: only the error path needs it

        return json.dumps(value, separators=(",", ":"))
    return str(value)


class StatusError(Exception):
    """A refusal with the shape of meta/v1 Status.

    `code` is the HTTP status, `reason` the machine word (`NotFound`, `Conflict`, …), `details` the optional
    `{name, group, kind, uid, causes, retryAfterSeconds}`. `hint` is what upstream keeps to itself and a person would like
    to know; it goes beside the Status, in a Warning header.
    """

    def __init__(
        self, code: int, reason: str, message: str, details: dict[str, Any] | None = None, *, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.hint = hint

    def to_status(self) -> dict[str, Any]:
        """The `Status` object that goes on the wire."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status

    @classmethod
    def from_status(cls, status: dict[str, Any], code: int = 500) -> StatusError:
        """The error a client raises for a `Status` body."""
        return cls(
            int(status.get("code") or code),
            status.get("reason") or "",
            status.get("message") or "",
            status.get("details"),
        )

    @property
    def is_not_found(self) -> bool:
        """The object, or the path, is not there (404)."""
        return self.code == 404

    @property
    def is_conflict(self) -> bool:
        """A stale resourceVersion or a precondition that failed (409 Conflict)."""
        return self.code == 409 and self.reason == "Conflict"

    @property
    def is_already_exists(self) -> bool:
        """The name is taken (409 AlreadyExists)."""
        return self.code == 409 and self.reason == "AlreadyExists"

    @property
    def is_expired(self) -> bool:
        """The revision asked for is compacted or has left the watch window (410)."""
        return self.code == 410


def qualified(plural: str, group: str) -> str:
    """`pods`, `deployments.apps`: a resource as messages name it."""
    return f"{plural}.{group}" if group else plural


def _details(plural: str, group: str, name: str) -> dict[str, Any]:
    details = {"name": name, "group": group, "kind": plural}
    return {field: value for field, value in details.items() if value}


def not_found(plural: str, name: str, group: str = "") -> StatusError:
    """404: `pods "x" not found`."""
    return StatusError(404, "NotFound", f'{qualified(plural, group)} "{name}" not found', _details(plural, group, name))


def already_exists(plural: str, name: str, group: str = "") -> StatusError:
    """409: `pods "x" already exists`."""
    return StatusError(
        409, "AlreadyExists", f'{qualified(plural, group)} "{name}" already exists', _details(plural, group, name)
    )


def generate_name_conflict(plural: str, name: str, group: str = "") -> StatusError:
    """409: every name that was made up for an object is taken."""
    error = already_exists(plural, name, group)
    error.message += ", the server was not able to generate a unique name for the object"
    error.details = {**_details(plural, group, name), "retryAfterSeconds": 1}
    return error


def conflict(plural: str, name: str, why: str = "", group: str = "") -> StatusError:
    """409: the object was modified, or a precondition failed."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return StatusError(409, "Conflict", message, _details(plural, group, name))


def invalid(kind: str, name: str, causes: list[Cause], group: str = "") -> StatusError:
    """422: `Pod "x" is invalid: spec.containers: Required value` (a list in brackets where there are several)."""
    texts: list[str] = []
    for cause in causes:
        text = f"{cause.field}: {cause.message}" if cause.field else cause.message
        if text not in texts:
            texts.append(text)
    joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details = {**_details(kind, group, name), "causes": [cause.to_dict() for cause in causes]}
    return StatusError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {joined}', details)


def bad_request(message: str) -> StatusError:
    """400."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """401, with upstream's bare message."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(plural: str, name: str, why: str, group: str = "", causes: list[Cause] | None = None) -> StatusError:
    """403: `pods "x" is forbidden: why` (without the name when there is none)."""
    subject = qualified(plural, group) + (f' "{name}"' if name else "")
    details = _details(plural, group, name)
    if causes:
        details["causes"] = [cause.to_dict() for cause in causes]
    return StatusError(403, "Forbidden", f"{subject} is forbidden: {why}", details)


def method_not_allowed() -> StatusError:
    """405: a method that is no verb of the API, or none of this URL."""
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, {})


def method_not_supported(plural: str, verb: str, group: str = "") -> StatusError:
    """405: the URL is there, but what it addresses cannot do this (upstream says it of watches only)."""
    message = f'{verb} is not supported on resources of kind "{qualified(plural, group)}"'
    return StatusError(405, "MethodNotAllowed", message, _details(plural, group, ""))


def expired(message: str) -> StatusError:
    """410 Expired: a continue token or a watch revision that is too old."""
    return StatusError(410, "Expired", message)


def gone(message: str) -> StatusError:
    """410 Gone, as watch errors carry it inside an ERROR event."""
    return StatusError(410, "Gone", message)


def too_large(message: str) -> StatusError:
    """413."""
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: {message}")


def unsupported_media_type(message: str) -> StatusError:
    """415."""
    return StatusError(415, "UnsupportedMediaType", message)


def not_acceptable(message: str) -> StatusError:
    """406."""
    return StatusError(406, "NotAcceptable", message)


def too_large_resource_version(requested: int, current: int) -> StatusError:
    """504 Timeout: the revision asked for lies in the future."""
    return StatusError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {requested}, current: {current}",
        {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    )


def internal_error(message: str) -> StatusError:
    """500."""
    return StatusError(500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]})


def service_unavailable(message: str) -> StatusError:
    """503: a dependency (a kubelet, the store) cannot be reached."""
    return StatusError(503, "ServiceUnavailable", message)
