"""One handler for every request: who asks, what is addressed, which verb, and the answer or the refusal.

It is aiohttp's low-level server: no router and no middleware, because routing is `paths.parse_path` and the hot path,
a GET of one object as JSON, should be visible in one place (`_answer`, then `_get`). Nothing raised below leaves as a traceback.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from podnet.controlplane.api.errors import StatusError, bad_request, internal_error, method_not_supported, unauthorized
from podnet.controlplane.api.types import Object
from podnet.controlplane.apiserver import verbs
from podnet.controlplane.apiserver.http import bodies, queries
from podnet.controlplane.apiserver.http.authentication import Authenticator, impersonated
from podnet.controlplane.apiserver.http.documents import Document, find_document, health
from podnet.controlplane.apiserver.http.negotiation import JSON, Representation, negotiate
from podnet.controlplane.apiserver.http.paths import Target, parse_path
from podnet.controlplane.apiserver.http.proxy import ResourceProxy
from podnet.controlplane.apiserver.http.rendering import EventEncoder, encode, render_object, render_page
from podnet.controlplane.apiserver.http.streams import KubeletStreams
from podnet.controlplane.apiserver.options import UserInfo
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.tokens import TokenIssuer
from podnet.controlplane.store.types import StoreError

log = logging.getLogger("apiserver.http")

_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")
_JSON_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
_STREAMS = frozenset({"log", "exec", "attach", "portforward"})


class APIServer:
    """The HTTP server over one registry. `handle` is the whole interface to aiohttp."""

    def __init__(
        self,
        registry: Registry,
        authenticator: Authenticator,
        *,
        tokens: TokenIssuer | None = None,
        streams: KubeletStreams | None = None,
        external_address: str = "127.0.0.1:6443",
    ) -> None:
        self.registry = registry
        self.authenticator = authenticator
        self.tokens = tokens
        self.streams = streams
        self.proxy = ResourceProxy(registry, streams)
        self.external_address = external_address
        self.ready = False
        self._in_flight: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """End the connections to kubelets and backends."""
        await self.proxy.close()
        if self.streams is not None:
            await self.streams.close()

    def server(self) -> web.Server:
        """The aiohttp server. A handler is cancelled when its client goes away, which is how watches end."""
        return web.Server(
            self.handle,
            request_factory=_request_factory,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,  # nobody sends compressed bodies, and a small one may mean a very large one
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
            keepalive_timeout=180.0,
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            return await self._answer(request)
        except StatusError as error:
            _check_not_begun(request, error)
            return self._refusal(request, error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except web.HTTPRequestEntityTooLarge:
            return self._refusal(request, bodies.too_large())
        except HttpProcessingError as error:
            return self._refusal(request, bad_request(str(error.message)))
        except StoreError as error:  # etcd without a leader, a full disk: known, and told as upstream does
            log.warning("store failed", extra={"path": request.raw_path, "error": str(error)})
            _check_not_begun(request, error)
            return self._refusal(request, internal_error(str(error)))
        except Exception as error:
            log.exception("request failed", extra={"method": request.method, "path": request.raw_path})
            _check_not_begun(request, error)
            return self._refusal(request, internal_error(f"{type(error).__name__}: {error}"))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query_text = request.raw_path.partition("?")
        if "#" in query_text:
            query_text = query_text.partition("#")[0]
        headers = request.headers
        user = self.authenticator.authenticate(request.transport, headers)
        if user is None:
            if not path.rstrip("/").startswith(_PUBLIC):
                raise unauthorized()
            return await self._document(request, path, query_text)
        if "Impersonate-User" in headers or "Impersonate-Group" in headers:
            user = impersonated(user, headers)
        target = parse_path(path)
        if target is None:
            return await self._document(request, path, query_text)
        method = request.method
        if method == "GET" and target.key and not target.subresource and not query_text:
            return await self._get(target, user, headers.get("Accept", ""), "", "")
        return await self._resource(request, target, user, method, query_text)

    # -- resources

    async def _resource(
        self, request: web.BaseRequest, target: Target, user: UserInfo, method: str, query_text: str
    ) -> web.StreamResponse:
        if target.subresource == "proxy":
            return await self.proxy.serve(request, target)
        query = queries.parse_query(query_text)
        if target.subresource in _STREAMS:
            if self.streams is None:
                raise internal_error("this server has no way to reach kubelets")
            return await self.streams.serve(request, target, query)
        if method in {"GET", "HEAD"}:
            return await self._read(request, target, user, query)
        verb = _WRITES.get(method)
        if verb is None:
            raise method_not_supported(target.resource.plural, method.lower(), target.resource.group)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        # A client that goes away must not cut a write in two: it is finished, whoever still listens.
        task = asyncio.ensure_future(verb(self, request, target, user, query))
        self._in_flight.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: where the client has gone, nobody else will

    async def _read(
        self, request: web.BaseRequest, target: Target, user: UserInfo, query: queries.Query
    ) -> web.StreamResponse:
        include_object = _include_object(query)
        accept = request.headers.get("Accept", "")
        if target.name and (target.subresource or not queries.boolean(query, "watch")):
            version = queries.first(query, "resourceVersion")
            return await self._get(target, user, accept, version, include_object)
        verb = "watch" if queries.boolean(query, "watch") else "list"
        if verb not in target.resource.verbs:
            raise method_not_supported(target.resource.plural, verb, target.resource.group)
        how = negotiate(accept)
        if verb == "watch":
            return await self._watch(request, target, query, how, include_object)
        page = await self.registry.list(target.resource, target.namespace, queries.list_options(query))
        return _response(render_page(page, target.resource, how, self.registry.clock(), include_object), how)

    async def _get(
        self, target: Target, user: UserInfo, accept: str, version: str, include_object: Any
    ) -> web.Response:
        request = verbs.Request(target.resource, target.namespace, target.name, target.subresource, user)
        answer = await verbs.get(self.registry, request, version)
        how = negotiate(accept)
        if how is JSON or how == JSON:
            body = answer.entry.json if answer.entry is not None else encode(answer.obj, JSON)
            return web.Response(body=body, headers=_JSON_HEADERS)
        return _response(
            render_object(answer.obj, target.resource, how, self.registry.clock(), include_object or "Metadata"), how
        )

    async def _watch(
        self, request: web.BaseRequest, target: Target, query: queries.Query, how: Representation, include_object: Any
    ) -> web.StreamResponse:
        options = queries.watch_options(query)
        if target.name:
            options = dataclasses.replace(options, field_selector=f"metadata.name={target.name}")
        batches = self.registry.watch(target.resource, target.namespace, options).batches()
        encoder = EventEncoder(target.resource, how, include_object, self.registry.clock)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            async for batch in batches:
                if batch:
                    await response.write(b"".join([encoder.encode(*item) for item in batch]))
        except StatusError as error:
            await response.write(b'{"type":"ERROR","object":%b}\n' % encode(error.to_status(), JSON))
        finally:
            await batches.aclose()
        await response.write_eof()
        return response

    async def _create(
        self, request: web.BaseRequest, target: Target, user: UserInfo, query: queries.Query
    ) -> web.Response:
        if target.name and not target.subresource:
            raise method_not_supported(target.resource.plural, "create", target.resource.group)
        options = queries.write_options(query, user, request.headers.get("User-Agent", ""))
        strict = options.field_validation == "Strict"
        body = await request.read()
        content_type = request.headers.get("Content-Type", "")
        obj = bodies.decode_object(body, content_type, strict=strict) if body else None
        if obj is None and not target.subresource:
            raise bad_request("the request body is empty")
        addressed = verbs.Request(target.resource, target.namespace, target.name, target.subresource, user)
        answer = await verbs.create(self.registry, self.tokens, addressed, obj, options)
        return self._written(request, target, answer, options.warnings)

    async def _update(
        self, request: web.BaseRequest, target: Target, user: UserInfo, query: queries.Query
    ) -> web.Response:
        _need_name(target, "update")
        options = queries.write_options(query, user, request.headers.get("User-Agent", ""))
        strict = options.field_validation == "Strict"
        content_type = request.headers.get("Content-Type", "")
        obj = bodies.decode_object(await request.read(), content_type, strict=strict)
        addressed = verbs.Request(target.resource, target.namespace, target.name, target.subresource, user)
        answer = await verbs.update(self.registry, addressed, obj, options)
        return self._written(request, target, answer, options.warnings)

    async def _patch(
        self, request: web.BaseRequest, target: Target, user: UserInfo, query: queries.Query
    ) -> web.Response:
        _need_name(target, "patch")
        options = queries.write_options(query, user, request.headers.get("User-Agent", ""))
        patch_type, patch = bodies.decode_patch(await request.read(), request.headers.get("Content-Type", ""))
        addressed = verbs.Request(target.resource, target.namespace, target.name, target.subresource, user)
        answer = await verbs.patch(self.registry, addressed, patch, patch_type, options)
        return self._written(request, target, answer, options.warnings)

    async def _delete(
        self, request: web.BaseRequest, target: Target, user: UserInfo, query: queries.Query
    ) -> web.Response:
        resource = target.resource
        verb = "delete" if target.name else "deletecollection"
        if target.subresource or verb not in resource.verbs:
            raise method_not_supported(resource.plural, verb, resource.group)
        body = await request.read()
        said = bodies.decode_object(body, request.headers.get("Content-Type", "")) if body.strip() else None
        options = verbs.parse_delete_options(said, queries.delete_options(query, user))
        how, now = negotiate(request.headers.get("Accept", "")), self.registry.clock()
        if target.name:
            obj = await self.registry.delete(resource, target.namespace, target.name, options)
            return _response(
                render_object(obj, resource, how, now, _include_object(query)), how, warnings=options.warnings
            )
        page = await self.registry.delete_collection(resource, target.namespace, options, queries.list_options(query))
        return _response(render_page(page, resource, how, now, _include_object(query)), how, warnings=options.warnings)

    def _written(
        self, request: web.BaseRequest, target: Target, answer: verbs.Answer, warnings: list[str]
    ) -> web.Response:
        how = negotiate(request.headers.get("Accept", ""))
        body = render_object(answer.obj, target.resource, how, self.registry.clock(), "Metadata")
        return _response(body, how, status=201 if answer.created else 200, warnings=warnings)

    # -- everything else

    async def _document(self, request: web.BaseRequest, path: str, query_text: str) -> web.Response:
        query = queries.parse_query(query_text)
        stripped = path.rstrip("/") or "/"
        document = health(
            stripped, self._checks(), verbose="verbose" in query, excluded=list(query.get("exclude", ()))
        ) or find_document(stripped, query_text, request.headers.get("Accept", ""), self.external_address, self.tokens)
        if document is None:
            return web.Response(status=404, text="404 page not found\n", headers={"X-Content-Type-Options": "nosniff"})
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, text="405 method not allowed\n", headers={"Allow": "GET, HEAD"})
        return _of_document(document, request.headers.get("If-None-Match", ""))

    def _checks(self) -> dict[str, Callable[[], bool]]:
        failed = self.registry.cache.failed
        return {
            "ping": lambda: True,
            "log": lambda: True,
            "etcd": lambda: failed is None or not failed.done(),
            "informer-sync": lambda: self.registry.cache.revision > 0 or self.ready,
            "poststarthook/start-system-namespaces-controller": lambda: self.ready,
        }

    def _refusal(self, request: web.BaseRequest, error: StatusError) -> web.Response:
        try:
            how = negotiate(request.headers.get("Accept", ""))
        except StatusError:
            how = JSON
        headers = dict(_JSON_HEADERS)
        retry_after = (error.details or {}).get("retryAfterSeconds")
        if retry_after:
            headers["Retry-After"] = str(retry_after)
        if error.code == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="kubernetes"'
        status: Object = error.to_status()
        headers["Content-Type"] = how.content_type
        body = encode(status, Representation(yaml=how.yaml))
        return web.Response(status=error.code, body=body, headers=headers)


_Write = Callable[[APIServer, web.BaseRequest, Target, UserInfo, queries.Query], Awaitable[web.Response]]
_WRITES: dict[str, _Write] = {
    "POST": APIServer._create,  # noqa: SLF001 - the class's own table of verbs
    "PUT": APIServer._update,  # noqa: SLF001
    "PATCH": APIServer._patch,  # noqa: SLF001
    "DELETE": APIServer._delete,  # noqa: SLF001
}


def _check_not_begun(request: web.BaseRequest, error: Exception) -> None:
    """A stream that fails after its first byte cannot be refused any more: cut it, so that its client sees no end."""
    if request.writer.output_size > 0:
        raise ConnectionAbortedError(str(error)) from error


def _request_factory(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=bodies.MAX_BODY)


def _include_object(query: queries.Query) -> Any:
    said = queries.first(query, "includeObject")
    if said not in {"", "Metadata", "Object", "None"}:
        raise bad_request(f'includeObject: Unsupported value: "{said}": supported values: "Metadata", "None", "Object"')
    return said or "Metadata"


def _need_name(target: Target, verb: str) -> None:
    if not target.name:
        raise method_not_supported(target.resource.plural, verb, target.resource.group)


def _response(
    body: bytes, how: Representation, *, status: int = 200, warnings: list[str] | None = None
) -> web.Response:
    response = web.Response(body=body, status=status, headers=_JSON_HEADERS)
    if how.yaml:
        response.headers["Content-Type"] = how.content_type
    for warning in warnings or ():
        response.headers.add("Warning", f'299 - "{_quoted(warning)}"')
    return response


def _quoted(text: str) -> str:
    cleaned = "".join(char if " " <= char <= "~" else "?" for char in text)
    return cleaned.replace("\\", "\\\\").replace('"', '\\"')


def _of_document(document: Document, if_none_match: str) -> web.Response:
    headers = {"Content-Type": document.content_type, **document.headers}
    if if_none_match and if_none_match == document.headers.get("ETag"):
        return web.Response(status=304, headers=document.headers)
    return web.Response(status=document.status, body=document.body, headers=headers)
