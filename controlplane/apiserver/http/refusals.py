"""How every refusal looks on the wire: a `Status`, whatever went wrong and however early.

The rule: no answer with a code of 400 or more has another body. What HTTP itself refuses (a method nobody knows, headers
that do not end) has no resource to speak of, so it says what upstream's router says. Only what a backend answers behind
`/proxy` is passed on as it is. Source: apimachinery pkg/api/errors (NewGenericServerResponse), endpoints/handlers/responsewriters.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong

from podnet.controlplane.api.errors import StatusError, bad_request, method_not_allowed
from podnet.controlplane.apiserver.http.negotiation import JSON, Representation, negotiate
from podnet.controlplane.apiserver.http.rendering import encode

JSON_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    431: "RequestHeaderFieldsTooLarge",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def unknown_path() -> StatusError:
    """404 for a URL that is nothing here."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def of_code(code: int, message: str) -> StatusError:
    """A refusal of HTTP's own, by its code."""
    return StatusError(code, _REASONS.get(code, ""), message or HTTPStatus(code).phrase)


def malformed(error: BaseException | None, message: str) -> StatusError:
    """What the parser of HTTP could not read."""
    if isinstance(error, LineTooLong):
        return of_code(431, f"the request line or a header field is longer than {error.args[1]} bytes")
    if isinstance(error, BadHttpMethod) and _is_request_line(message):
        return method_not_allowed()
    return bad_request(f"malformed HTTP request: {' '.join(message.split())[:200]}")


def _is_request_line(message: str) -> bool:
    """Whether what the parser shows of the request is one with a method of its own making: `b'FROB / HTTP/1.1'`."""
    _, _, line = message.partition("b'")
    method, _, rest = line.partition(" ")
    return method.isascii() and method.replace("-", "").isalpha() and rest.startswith(("/", "*", "http"))


def refusal(error: StatusError, accept: str) -> web.Response:
    """The answer to a request that is refused, in the representation the client reads."""
    try:
        how = negotiate(accept)
    except StatusError:
        how = JSON
    headers = {**JSON_HEADERS, "Content-Type": how.content_type}
    retry_after = (error.details or {}).get("retryAfterSeconds")
    if retry_after:
        headers["Retry-After"] = str(retry_after)
    if error.code == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="kubernetes"'
    if error.hint:
        headers["Warning"] = warning(error.hint)
    try:
        body = encode(error.to_status(), Representation(yaml=how.yaml))
    except (TypeError, ValueError):  # it quotes text of the request which is no Unicode
        body = encode(_readable(error.to_status()), Representation(yaml=how.yaml))
    return web.Response(status=error.code, body=body, headers=headers)


def warning(text: str) -> str:
    """The value of a Warning header, which kubectl prints."""
    cleaned = "".join(char if " " <= char <= "~" else "?" for char in text)
    escaped = cleaned.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _readable(item) for name, item in value.items()}
    return [_readable(item) for item in value] if isinstance(value, list) else value
