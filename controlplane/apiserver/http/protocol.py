"""The edge to aiohttp: its low-level server, with every refusal it makes by itself said as a `Status`.

aiohttp's parser refuses a request before a handler sees it (an unknown method, endless headers, a broken chunk), and its
own words are plain text. Here they become what every client of a Kubernetes API expects, and the connection ends.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from podnet.controlplane.apiserver.http import bodies, refusals
from podnet.controlplane.apiserver.http.paths import Target

log = logging.getLogger("apiserver.http")

MAX_LINE = 64 * 1024
KEEPALIVE_S = 180.0


class StatusServer(web.Server):
    """An aiohttp server whose connections speak in `Status` when they refuse."""

    def __init__(self, handler: Any) -> None:
        super().__init__(
            handler,
            request_factory=_request_factory,
            handler_cancellation=True,  # a client that goes away ends its watch
        )

    def __call__(self) -> RequestHandler:
        """The protocol of one new connection."""
        return _StatusProtocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=cast("Any", None),  # aiohttp writes none then, though its types do not say so
            auto_decompress=False,  # nobody sends compressed bodies, and a small one may mean a very large one
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            keepalive_timeout=KEEPALIVE_S,
        )


class _StatusProtocol(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The last answer on this connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status < 500:
            log.debug("malformed request", extra={"peer": str(request.remote), "error": str(exc)})
            error = refusals.malformed(exc, message or str(exc or ""))
        else:
            log.error("answer failed", exc_info=exc)
            error = refusals.of_code(status, f"Internal error occurred: {type(exc).__name__}: {exc}")
        response = refusals.refusal(error, "")
        response.force_close()
        return response


class APIRequest(web.BaseRequest):
    """A request, and what is known of it by the time it is answered: that is what `/metrics` counts it as."""

    target: Target | None = None
    document: str = ""
    """The first part of the path where it is no resource's: `/healthz`, `/openapi`."""
    verb: str = ""
    """Where method and URL do not say it: WATCH, APPLY."""
    dry_run: bool = False
    long: bool = False
    """Whether it stays for as long as its client likes: a watch, a stream."""


def _request_factory(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> APIRequest:
    loop = asyncio.get_running_loop()
    return APIRequest(message, payload, protocol, writer, task, loop, client_max_size=bodies.MAX_BODY)
