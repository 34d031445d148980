"""One handler for every request: who asks, what is addressed, which verb, and the answer or the refusal.

It is aiohttp's low-level server: no router and no middleware, because routing is `paths.parse_path` and the hot path,
a GET of one object as JSON, should be visible in one place (`_answer`, then `_get`). Nothing raised below leaves as a
traceback: `_guarded` makes a Status of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from podnet.controlplane.api.errors import (
    StatusError,
    bad_request,
    go_quoted,
    internal_error,
    method_not_allowed,
    method_not_supported,
    not_acceptable,
    unauthorized,
)
from podnet.controlplane.apiserver import verbs
from podnet.controlplane.apiserver.http import bodies, queries, refusals
from podnet.controlplane.apiserver.http.authentication import Authenticator, impersonated
from podnet.controlplane.apiserver.http.documents import Document, find_document, health
from podnet.controlplane.apiserver.http.negotiation import JSON, Representation, negotiate
from podnet.controlplane.apiserver.http.paths import Target, parse_path, split_target, watched_path
from podnet.controlplane.apiserver.http.protocol import APIRequest, StatusServer
from podnet.controlplane.apiserver.http.proxy import ResourceProxy
from podnet.controlplane.apiserver.http.rendering import EventEncoder, encode, render_object, render_page
from podnet.controlplane.apiserver.http.streams import KubeletStreams
from podnet.controlplane.apiserver.http.traffic import Traffic
from podnet.controlplane.apiserver.options import UserInfo, WriteOptions
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.scheme import strict_message
from podnet.controlplane.apiserver.tokens import TokenIssuer
from podnet.controlplane.metrics import CONTENT_TYPE
from podnet.controlplane.metrics import Registry as Metrics
from podnet.controlplane.store.types import StoreError

log = logging.getLogger("apiserver.http")

_PUBLIC = frozenset({"healthz", "livez", "readyz", "version"})
"""What anyone may ask, by the first part of the path."""
_JSON_HEADERS = refusals.JSON_HEADERS
_STREAMS = frozenset({"log", "exec", "attach", "portforward"})
_STREAMED_TYPES = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"


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
        metrics: Metrics | None = None,
    ) -> None:
        self.registry = registry
        self.traffic = Traffic(metrics or Metrics(), registry.cache)
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
        return StatusServer(self.handle)

    async def handle(self, request: APIRequest) -> web.StreamResponse:
        """Answer one request, and count it."""
        began, code = perf_counter(), 0
        self.traffic.begin(request.method)
        try:
            response = await self._guarded(request)
            code = response.status
            return response
        finally:
            self.traffic.end(request, code, perf_counter() - began)

    async def _guarded(self, request: APIRequest) -> web.StreamResponse:
        accept = request.headers.get("Accept", "")
        try:
            return await self._answer(request, accept)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            status = _status_of(error, request)
            if request.writer.output_size > 0:
                # What fails after its first byte cannot be refused any more: cut it, so that its client sees no end.
                raise ConnectionAbortedError(str(error)) from error
            return refusals.refusal(status, accept)

    async def _answer(self, request: APIRequest, accept: str) -> web.StreamResponse:
        path, query_text = split_target(request.raw_path)
        headers = request.headers
        user = self.authenticator.authenticate(request.transport, headers)
        if user is None:
            if path.split("/", 2)[1] not in _PUBLIC:
                raise unauthorized()
            return self._document(request, path, query_text, accept)
        if "Impersonate-User" in headers or "Impersonate-Group" in headers or "Impersonate-Uid" in headers:
            user = impersonated(user, headers)
        target = parse_path(path)
        if target is None:
            target = parse_path(watched_path(path))
            if target is None or target.subresource or request.method != "GET":
                return self._document(request, path, query_text, accept)
            query_text = f"watch=true&{query_text}"
        request.target = target
        method = request.method
        if method == "GET" and target.key and not target.subresource and not query_text:
            return await self._get(target, user, negotiate(accept), "", "")
        return await self._resource(request, target, user, method, query_text)

    # -- resources

    async def _resource(
        self, request: APIRequest, target: Target, user: UserInfo, method: str, query_text: str
    ) -> web.StreamResponse:
        if target.subresource == "proxy":
            self.traffic.stays(request)
            return await self.proxy.serve(request, target)
        query = queries.parse_query(query_text)
        if target.subresource in _STREAMS:
            self.traffic.stays(request)
            if self.streams is None:
                raise internal_error("this server has no way to reach kubelets")
            return await self.streams.serve(request, target, query)
        if method in {"GET", "HEAD"}:
            return await self._read(request, target, user, query)
        verb = _WRITES.get(method)
        if verb is None:
            raise method_not_allowed()
        request.dry_run = "dryRun" in query
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
        self, request: APIRequest, target: Target, user: UserInfo, query: queries.Query
    ) -> web.StreamResponse:
        how = _how(request, query)
        include_object = _include_object(query, how)
        watching = request.method == "GET" and queries.boolean(query, "watch")
        if target.name and (target.subresource or not watching):
            queries.check_timeout(query)
            version = queries.first(query, "resourceVersion")
            return await self._get(target, user, how, version, include_object)
        verb = "watch" if watching else "list"
        if "list" not in target.resource.verbs:
            raise method_not_allowed()
        if verb not in target.resource.verbs:
            raise method_not_supported(target.resource.plural, verb, target.resource.group)
        if watching:
            return await self._watch(request, target, query, how, include_object)
        queries.check_timeout(query)
        page = await self.registry.list(target.resource, target.namespace, queries.list_options(query))
        return _response(render_page(page, target.resource, how, self.registry.clock(), include_object), how)

    async def _get(
        self, target: Target, user: UserInfo, how: Representation, version: str, include_object: Any
    ) -> web.Response:
        request = verbs.Request(target.resource, target.namespace, target.name, target.subresource, user)
        answer = await verbs.get(self.registry, request, version)
        if how is JSON or how == JSON:
            body = answer.entry.json if answer.entry is not None else encode(answer.obj, JSON)
            return web.Response(body=body, headers=_JSON_HEADERS)
        return _response(
            render_object(answer.obj, target.resource, how, self.registry.clock(), include_object or "Metadata"), how
        )

    async def _watch(
        self, request: APIRequest, target: Target, query: queries.Query, how: Representation, include_object: Any
    ) -> web.StreamResponse:
        request.verb = "WATCH"
        if how.yaml:
            raise not_acceptable(f"only the following media types are accepted: {_STREAMED_TYPES}")
        options = queries.watch_options(query)
        if target.name:
            options = dataclasses.replace(options, field_selector=f"metadata.name={target.name}")
        batches = self.registry.watch(target.resource, target.namespace, options).batches()
        encoder = EventEncoder(target.resource, how, include_object, self.registry.clock)
        # Chunked to HTTP/1.1, to HTTP/1.0 until the connection ends: aiohttp does either where no length is said.
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        await response.prepare(request)
        self.traffic.stays(request)
        try:
            async for batch in batches:
                if batch:
                    await response.write(b"".join([encoder.encode(*item) for item in batch]))
                    self.traffic.sent(target.resource, len(batch))
        except StatusError as error:
            await response.write(b'{"type":"ERROR","object":%b}\n' % encode(error.to_status(), JSON))
        finally:
            await batches.aclose()
        await response.write_eof()
        return response

    async def _create(self, request: APIRequest, target: Target, user: UserInfo, query: queries.Query) -> web.Response:
        if (target.name and not target.subresource) or _is_everywhere(target):
            raise method_not_allowed()
        how = _how(request, query)  # first of all: a write whose answer nobody could read is none
        options = queries.write_options(query, user, request.headers.get("User-Agent", ""), "CreateOptions")
        body = await request.read()
        obj = _decoded(request, target, body, options, query) if body or not target.subresource else None
        addressed = verbs.Request(target.resource, target.namespace, target.name, target.subresource, user)
        answer = await verbs.create(self.registry, self.tokens, addressed, obj, options)
        return self._written(target, answer, options.warnings, how)

    async def _update(self, request: APIRequest, target: Target, user: UserInfo, query: queries.Query) -> web.Response:
        _need_name(target)
        how = _how(request, query)
        options = queries.write_options(query, user, request.headers.get("User-Agent", ""), "UpdateOptions")
        obj = _decoded(request, target, await request.read(), options, query)
        addressed = verbs.Request(target.resource, target.namespace, target.name, target.subresource, user)
        answer = await verbs.update(self.registry, addressed, obj, options)
        return self._written(target, answer, options.warnings, how)

    async def _patch(self, request: APIRequest, target: Target, user: UserInfo, query: queries.Query) -> web.Response:
        _need_name(target)
        how = _how(request, query)
        options = queries.write_options(query, user, request.headers.get("User-Agent", ""), "PatchOptions")
        patch_type, patch = bodies.decode_patch(await request.read(), request.headers.get("Content-Type", ""))
        if patch_type == "apply":
            request.verb = "APPLY"
        addressed = verbs.Request(target.resource, target.namespace, target.name, target.subresource, user)
        answer = await verbs.patch(self.registry, addressed, patch, patch_type, options)
        return self._written(target, answer, options.warnings, how)

    async def _delete(self, request: APIRequest, target: Target, user: UserInfo, query: queries.Query) -> web.Response:
        resource = target.resource
        verb = "delete" if target.name else "deletecollection"
        if target.subresource or verb not in resource.verbs or _is_everywhere(target):
            raise method_not_allowed()
        how = _how(request, query)
        include_object = _include_object(query, how)
        body = await request.read()
        media = request.headers.get("Content-Type", "")
        said = bodies.decode_object(body, media, "DeleteOptions") if body.strip() else None
        options = verbs.parse_delete_options(said, queries.delete_options(query, user))
        now = self.registry.clock()
        if target.name:
            obj = await self.registry.delete(resource, target.namespace, target.name, options)
            return _response(render_object(obj, resource, how, now, include_object), how, warnings=options.warnings)
        page = await self.registry.delete_collection(resource, target.namespace, options, queries.list_options(query))
        return _response(render_page(page, resource, how, now, include_object), how, warnings=options.warnings)

    def _written(self, target: Target, answer: verbs.Answer, warnings: list[str], how: Representation) -> web.Response:
        body = render_object(answer.obj, target.resource, how, self.registry.clock(), "Metadata")
        return _response(body, how, status=201 if answer.created else 200, warnings=warnings)

    # -- everything else

    def _document(self, request: APIRequest, path: str, query_text: str, accept: str) -> web.Response:
        stripped = path.rstrip("/") or "/"
        if stripped == "/metrics":
            document: Document | None = Document(self.traffic.metrics.expose().encode(), CONTENT_TYPE)
        else:
            query = queries.parse_query(query_text)
            document = health(
                stripped, self._checks(), verbose="verbose" in query, excluded=list(query.get("exclude", ()))
            ) or find_document(stripped, query_text, accept, self.external_address, self.tokens)
        if document is None:
            raise refusals.unknown_path()
        request.document = "/" + stripped.split("/", 2)[1]
        if request.method not in {"GET", "HEAD"}:
            raise method_not_allowed()
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


_Write = Callable[[APIServer, APIRequest, Target, UserInfo, queries.Query], Awaitable[web.Response]]
_WRITES: dict[str, _Write] = {
    "POST": APIServer._create,  # noqa: SLF001 - the class's own table of verbs
    "PUT": APIServer._update,  # noqa: SLF001
    "PATCH": APIServer._patch,  # noqa: SLF001
    "DELETE": APIServer._delete,  # noqa: SLF001
}


def _status_of(error: Exception, request: APIRequest) -> StatusError:
    """What a client is told of an error; what nobody expected is logged with its traceback."""
    if isinstance(error, StatusError):
        return error
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return bodies.too_large()
    if isinstance(error, web.HTTPException):  # aiohttp's own refusal of an upgrade that is none
        return refusals.of_code(error.status, error.text or "")
    if isinstance(error, HttpProcessingError | RequestPayloadError):
        return bad_request(f"error reading the request body: {_one_line(error)}")
    if isinstance(error, StoreError):  # etcd without a leader, a full disk: known, and told as upstream does
        log.warning("store failed", extra={"path": request.raw_path, "error": str(error)})
        return internal_error(str(error))
    log.error("request failed", exc_info=error, extra={"method": request.method, "path": request.raw_path})
    return internal_error(f"{type(error).__name__}: {error}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(getattr(error, "message", "") or error).split())[:200]


def _decoded(request: APIRequest, target: Target, body: bytes, options: WriteOptions, query: queries.Query) -> Any:
    """The object of a body. A name that stands twice is looked for where the client asks for warnings or refusals: it
    takes a second, slower reading, which components need not pay."""
    doubles: list[str] | None = [] if query.get("fieldValidation") and options.field_validation != "Ignore" else None
    sub = target.resource.subresources.get(target.subresource)
    kind = sub.kind if sub is not None else target.resource.kind
    obj = bodies.decode_object(body, request.headers.get("Content-Type", ""), kind, doubles=doubles)
    if doubles and options.field_validation == "Strict" and isinstance(obj, dict):
        raise bad_request(strict_message(obj, doubles))
    options.warnings.extend(doubles or ())
    return obj


def _how(request: APIRequest, query: queries.Query) -> Representation:
    """What the Accept header asks for; `?pretty=true` indents it, for eyes."""
    how = negotiate(request.headers.get("Accept", ""))
    if "pretty" in query and queries.boolean(query, "pretty"):
        return dataclasses.replace(how, pretty=True)
    return how


def _include_object(query: queries.Query, how: Representation) -> Any:
    said = queries.first(query, "includeObject")
    if how.shape == "Table" and said not in {"", "Metadata", "Object", "None"}:
        why = f"Invalid value: {go_quoted(said)}: must be 'Metadata', 'Object', 'None', or empty"
        raise bad_request(f"Unable to convert to Table as requested: includeObject: {why}")
    return said or "Metadata"


def _is_everywhere(target: Target) -> bool:
    """Whether all namespaces are addressed: they can be listed and watched, nothing else."""
    return target.resource.namespaced and not target.namespace


def _need_name(target: Target) -> None:
    if not target.name:
        raise method_not_allowed()


def _response(
    body: bytes, how: Representation, *, status: int = 200, warnings: list[str] | None = None
) -> web.Response:
    response = web.Response(body=body, status=status, headers=_JSON_HEADERS)
    if how.yaml:
        response.headers["Content-Type"] = how.content_type
    for warning in warnings or ():
        response.headers.add("Warning", refusals.warning(warning))
    return response


def _of_document(document: Document, if_none_match: str) -> web.Response:
    headers = {"Content-Type": document.content_type, **document.headers}
    if if_none_match and if_none_match == document.headers.get("ETag"):
        return web.Response(status=304, headers=document.headers)
    return web.Response(status=document.status, body=document.body, headers=headers)
