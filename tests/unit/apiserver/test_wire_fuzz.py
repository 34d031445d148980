"""Whatever comes over the wire is answered, or refused with a Status: never a crash, never another body."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import ADMIN
from minimal_objects import STORED, minimal
from raw_http import Reply, check_refusal, exchange, request

from podnet.controlplane.apiserver import watchcache, watching
from podnet.controlplane.apiserver.bootstrap import ensure_bootstrap
from podnet.controlplane.apiserver.http.authentication import Authenticator
from podnet.controlplane.apiserver.http.server import APIServer
from podnet.controlplane.apiserver.http.streams import KubeletStreams
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.store import open_store

FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Server:
    """A server on a loop of its own, which runs while an example asks it something."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.registry = Registry(open_store("memory", ""))
        api = APIServer(self.registry, Authenticator(None, ADMIN), streams=KubeletStreams(self.registry, None))
        api.ready = True

        async def start() -> int:
            await self.registry.start()
            await ensure_bootstrap(self.registry, advertise_address="192.168.100.1", port=6443)
            self._runner = web.ServerRunner(api.server(), shutdown_timeout=0.2)
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
            return int(self._runner.addresses[0][1])

        self.port = self.loop.run_until_complete(start())

    def ask(self, data: bytes, **how: Any) -> list[Reply]:
        return self.loop.run_until_complete(exchange(self.port, data, **how))

    def close(self) -> None:
        async def stop() -> None:
            await self.registry.stop()
            await self._runner.cleanup()
            await self.registry.store.close()

        self.loop.run_until_complete(stop())
        self.loop.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watchcache, "CATCH_UP_TIMEOUT_S", 0.01)
        patch.setattr(watching, "MIN_TIMEOUT_S", 0)  # a watch without an end of its own ends at once
        server = Server()
        for name in ("configmaps", "pods"):
            resource = next(r for r in STORED if r.qualified_name == name)
            obj = {**minimal(resource), "metadata": {"name": "a"}}
            (reply,) = server.ask(
                request("POST", f"/api/v1/namespaces/default/{name}", JSON, orjson.dumps(obj)),
            )
            assert reply.status == 201
        yield server
        server.close()


JSON = {"Content-Type": "application/json"}
SEGMENTS = [
    "api", "v1", "apis", "apps", "namespaces", "default", "pods", "configmaps", "deployments", "nodes", "services",
    "serviceaccounts", "a", "status", "scale", "log", "exec", "attach", "portforward", "proxy", "eviction", "binding",
    "token", "finalize", "ephemeralcontainers", "metrics", "healthz", "etcd", "openapi", "v3", "version", "",
    ".", "..", "%00", "%ff", "%zz", "%2f", "a%2Fb", "\xff", "\xc3\xa9", "a" * 300, "*", "a:80", "https:a:0", "a:99999999",
    "authorization.k8s.io", "selfsubjectaccessreviews", "authentication.k8s.io", "selfsubjectreviews",
]  # fmt: skip
PARAMETERS = [
    "watch", "limit", "continue", "resourceVersion", "resourceVersionMatch", "timeoutSeconds", "sendInitialEvents",
    "allowWatchBookmarks", "labelSelector", "fieldSelector", "dryRun", "fieldValidation", "fieldManager", "force",
    "propagationPolicy", "gracePeriodSeconds", "orphanDependents", "pretty", "includeObject", "timeout", "container",
    "follow", "previous", "tailLines", "sinceSeconds", "sinceTime", "limitBytes", "command", "stdin", "ports", "exclude",
]  # fmt: skip
VALUES = [
    "", "0", "1", "-1", "true", "false", "banana", "All", "Strict", "Warn", "Exact", "NotOlderThan", "Background",
    "Orphan", "9" * 18, "9" * 20, "9" * 5000, "18446744073709551615", "1e3", "5s", "a=b", "a+in+(b", "!a", "x=y,", "a!=",
    "metadata.name=a", "status.phase=Running", "%00", "%zz", "%ff", "%ed%a0%80", "a&a", "e30", ("eyJ2IjoibWV0YS5rOHMuaW8vdjEi"
    "LCJydiI6OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5LCJzdGFydCI6ImEifQ"), "\xc3\xa9", "+", "2026-01-01T00:00:00Z", ";",
]  # fmt: skip
HEADERS = {
    "Accept": [
        "*/*", "text/html", "application/yaml", "application/json;as=Table;v=v1;g=meta.k8s.io", ";;;", "application/json;q=x",
        "application/json;as=Foo;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf", "\xff",
    ],
    "Content-Type": [
        "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/json-patch+json",
        "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml", "\xff/\xff",
        "text/html", "application/json; charset=klingon",
    ],
    "Authorization": ["Bearer x", "Basic eDp4", "\xff", "Bearer " + "a." * 3000],
    "Impersonate-User": ["bob", "\xff\xfe", "", "system:serviceaccount:a:b"],
    "Impersonate-Group": ["\xff", "system:masters"],
    "Impersonate-Extra-\x7f": ["x"],
    "User-Agent": ["\xff\xfe", "kubectl/v1.32", "/" * 300],
    "Upgrade": ["websocket", "SPDY/3.1", "h2c", "\xff"],
    "Connection": ["Upgrade"],
    "Sec-WebSocket-Key": ["x", "dGhlIHNhbXBsZSBub25jZQ=="],
    "Sec-WebSocket-Version": ["13", "x"],
    "Expect": ["100-continue", "200-maybe"],
    "If-None-Match": ['"x"', "\xff"],
    "X-Forwarded-For": ["\xff"],
}  # fmt: skip
BODIES = [
    b"", b"{}", b"[]", b"null", b"{", b'"\\ud800"', b"\xff\xfe", b'{"a":1,"a":2}', b"[" * 3000, b"a: &a [*a]", b"k8s\0\xff",
    b'{"metadata":{"name":"\\u0000"}}', b'{"metadata":{"generateName":"x-"}}', b'{"metadata":[]}', b'{"kind":1}',
    b'{"kind":"DeleteOptions","gracePeriodSeconds":99999999999999999999}', b'{"preconditions":{"uid":1}}',
    b'{"gracePeriodSeconds":9223372036854775807}', b'[{"op":"test","path":"/x","value":1}]',
    b'[{"op":"add","path":"/metadata/labels","value":{"a":1}}]', b'{"metadata":{"labels":{"$patch":"delete"}}}',
    b'{"spec":{"$retainKeys":1,"$setElementOrder/containers":1}}', b'metadata: {name: "\\uD800"}',
    b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}}',
    b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}',
]  # fmt: skip

segments = st.sampled_from(SEGMENTS)
prefixes = st.sampled_from(["/api/v1/", "/apis/apps/v1/", "/api/v1/namespaces/default/", "/api/v1/namespaces/default/pods/a/",
                            "/api/v1/namespaces/default/configmaps/", "/", "", "http://host/api/v1/"])  # fmt: skip
paths = st.builds(lambda prefix, rest: prefix + "/".join(rest), prefixes, st.lists(segments, max_size=4))
queries = st.lists(st.tuples(st.sampled_from(PARAMETERS), st.sampled_from(VALUES)), max_size=4).map(
    lambda pairs: "?" + "&".join("=".join(pair) for pair in pairs) if pairs else ""
)
methods = st.sampled_from(
    ["GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "FROB", "get", "CONNECT"]
)
headers = st.dictionaries(st.sampled_from(sorted(HEADERS)), st.integers(0, 50), max_size=4).map(
    lambda chosen: {name: HEADERS[name][index % len(HEADERS[name])] for name, index in chosen.items()}
)


@FUZZ
@given(methods, paths, queries, headers, st.sampled_from(BODIES))
@example("GET", "/api/v1/namespaces/default/pods/\xff", "", {}, b"")
@example("GET", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "", {"Impersonate-Group": "\xff"}, b"")
@example("GET", "/api/v1/namespaces/default/pods/a/exec", "?command=a", {"Upgrade": "websocket"}, b"")
@example("GET", "/api/v1/pods", "?resourceVersion=18446744073709551615&resourceVersionMatch=Exact", {}, b"")
@example("DELETE", "/api/v1/namespaces/default/pods/b", "?gracePeriodSeconds=9223372036854775807", {}, b"")
def test_any_request(server: Server, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> None:
    replies = server.ask(request(method, path + query, headers, body), head=method == "HEAD", silence_s=2.0)
    for reply in replies:
        if method == "HEAD":
            assert reply.status < 500 or reply.status == 504
        elif "/proxy" not in path or reply.status != 503:
            check_refusal(reply)
    assert replies or method == "CONNECT"


whole = st.builds(request, methods, paths.map(lambda path: path or "/"), headers, st.sampled_from(BODIES))


@FUZZ
@given(whole, st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=3))
def test_any_bytes(server: Server, data: bytes, changes: list[tuple[int, bytes]]) -> None:
    """Well-formed requests with bytes of them overwritten, which is nearer to the parser's edges than noise."""
    for at, patch in changes:
        data = data[:at] + patch + data[at + len(patch) :]
    head = data.startswith(b"HEAD ")
    for reply in server.ask(data, head=head, silence_s=0.05):
        if head:
            assert reply.status < 500
        else:
            check_refusal(reply)
    (alive,) = server.ask(request("GET", "/healthz"))
    assert alive.body == b"ok"


documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "é", "\x00", "$patch", "delete", "10Gi", "2026-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["metadata", "name", "labels", "spec", "data", "$patch", "$retainKeys", "$setElementOrder/ports",
                         "op", "path", "value", "from", "containers", "ports", "finalizers", "ownerReferences", ""]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
PATCHES = [name for name in HEADERS["Content-Type"] if "patch" in name]


@FUZZ
@given(
    st.sampled_from(["configmaps", "pods"]), st.sampled_from(PATCHES), documents, st.sampled_from(["", "?dryRun=All"])
)
@example("configmaps", "application/merge-patch+json", {"metadata": {"labels": {"": 2**65}}}, "")
@example("configmaps", "application/json-patch+json", [{"op": []}], "")
def test_any_patch(server: Server, plural: str, content_type: str, document: Any, query: str) -> None:
    target = f"/api/v1/namespaces/default/{plural}/a{query}{'&' if query else '?'}fieldManager=fuzz"
    body = json_of(document)
    for reply in server.ask(request("PATCH", target, {"Content-Type": content_type}, body)):
        check_refusal(reply)


@FUZZ
@given(st.sampled_from([r.qualified_name for r in STORED]), documents)
def test_any_object(server: Server, name: str, document: Any) -> None:
    resource = next(r for r in STORED if r.qualified_name == name)
    where = f"{resource.path}/namespaces/default" if resource.namespaced else resource.path
    whole = {**minimal(resource), **document} if isinstance(document, dict) else document
    for reply in server.ask(request("POST", f"{where}/{resource.plural}?dryRun=All", JSON, json_of(whole))):
        check_refusal(reply)


def json_of(document: Any) -> bytes:
    import json  # orjson refuses integers beyond 64 bits, which a client may well send

    return json.dumps(document).encode()
