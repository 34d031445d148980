"""The wire: what may be in a body and how it is framed; patches, field validation, and what is no HTTP at all."""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import NS, Wire, config_map, pod


async def test_yaml_bodies(wire: Wire) -> None:
    text = b"metadata:\n  name: y\n  annotations: {at: 2024-01-01T00:00:00Z}\ndata: {a: 'b', 1: 'x'}\n"
    made = await wire("POST", f"{NS}/configmaps?fieldValidation=Strict", text, "application/yaml")
    assert made.status == 201, made.body
    assert made.json["data"] == {"a": "b", "1": "x"}
    assert made.json["metadata"]["annotations"] == {"at": "2024-01-01T00:00:00Z"}


def envelope(api_version: str, kind: str, message: bytes) -> bytes:
    """A protobuf body: magic, then runtime.Unknown."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    return b"k8s\0" + field(1, field(1, api_version.encode()) + field(2, kind.encode())) + field(2, message)


async def test_protobuf_bodies(wire: Wire) -> None:
    namespace = bytes([0x0A, 5, 0x0A, 3]) + b"foo"  # metadata { name: "foo" }
    content_type = "application/vnd.kubernetes.protobuf"
    made = await wire("POST", "/api/v1/namespaces", envelope("v1", "Namespace", namespace), content_type)
    assert made.status == 201, made.body
    assert made.json["metadata"]["name"] == "foo"
    assert made.headers["Content-Type"] == "application/json"


BROKEN = [
    (b"{", "application/json", "unexpected end of JSON input"),
    (b"", "application/json", "unexpected end of JSON input (<empty>)"),
    (b"[]", "application/json", "cannot unmarshal array"),
    (b"null", "application/json", ""),
    (b'"x"', "application/json", "cannot unmarshal string"),
    (b'{"a": nope}', "application/json", "json parse error"),
    (b"\xff\xfe", "application/json", "json parse error"),
    (b"[" * 100_000, "application/json", ""),
    (b'{"a":' * 5000 + b"1" + b"}" * 5000, "application/json", ""),
    (b"a: [", "application/yaml", "error converting YAML to JSON"),
    (b"a: b: c", "application/yaml", "error converting YAML to JSON"),
    (b"\xff\xfe\xff", "application/yaml", "UTF-8"),
    (b"a: &a [1]\nb: *c", "application/yaml", "error converting YAML to JSON"),
    (b"--- \na: b\n---\nc: d", "application/yaml", "error converting YAML to JSON"),
    (b"a: !!python/object:os.system {}", "application/yaml", "error converting YAML to JSON"),
    (b"a: .nan", "application/yaml", "no JSON form"),
    (b"a: !!binary aGk=", "application/yaml", "no JSON form"),
    (b"? [a]\n: b", "application/yaml", ""),
    (b"garbage", "application/vnd.kubernetes.protobuf", "protobuf"),
    (b"k8s\0\xff\xff\xff", "application/vnd.kubernetes.protobuf", ""),
    (b"k8s\0", "application/vnd.kubernetes.protobuf", ""),
]


@pytest.mark.parametrize(("body", "content_type", "words"), BROKEN, ids=range(len(BROKEN)))
async def test_broken_bodies_are_bad_requests(wire: Wire, body: bytes, content_type: str, words: str) -> None:
    for path in (f"{NS}/configmaps", f"{NS}/pods"):
        answer = await wire("POST", path, body, content_type)
        assert answer.status == 400, answer.body
        assert words in answer.message
        assert answer.json["kind"] == "Status"


async def test_a_yaml_bomb_is_refused(wire: Wire) -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    answer = await wire("POST", f"{NS}/configmaps", "\n".join(lines).encode(), "application/yaml")
    assert (answer.status, "too many values" in answer.message) == (400, True)


async def test_a_bomb_of_merges_is_refused(wire: Wire) -> None:
    """Merged aliases grow while the document is read: it must not come so far that there is one to measure."""
    lines = ["a0: &a0 {x0: 1, x1: 1, x2: 1, x3: 1, x4: 1, x5: 1, x6: 1, x7: 1, x8: 1, x9: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 9)]
    async with asyncio.timeout(20):
        answer = await wire("POST", f"{NS}/configmaps", "\n".join(lines).encode(), "application/yaml")
    assert (answer.status, "too many values" in answer.message) == (400, True)


async def test_merges_of_merges(wire: Wire) -> None:
    text = (
        "metadata: {name: m}\ndata:\n  <<: &own\n    <<: [{a: first, b: first}, {b: second, c: second}]\n    c: own\n"
        "  d: last\n"
    )
    made = await wire("POST", f"{NS}/configmaps?fieldValidation=Strict", text.encode(), "application/yaml")
    assert (made.status, made.json.get("data")) == (201, {"a": "first", "b": "first", "c": "own", "d": "last"})


async def test_a_merge_of_itself_is_refused_or_nothing(wire: Wire) -> None:
    answer = await wire("POST", f"{NS}/configmaps", b"metadata: {name: m}\ndata: &a {<<: *a}\n", "application/yaml")
    assert answer.status in {201, 400}


async def test_a_body_that_is_too_large(wire: Wire) -> None:
    body = orjson.dumps(config_map(k="x" * (3 * 1024 * 1024)))
    answer = await wire("POST", f"{NS}/configmaps", body)
    assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize("content_type", ["text/html", "application/xml", "application/x-www-form-urlencoded"])
async def test_unknown_body_types(wire: Wire, content_type: str) -> None:
    answer = await wire("POST", f"{NS}/configmaps", b"{}", content_type)
    assert (answer.status, answer.json["reason"]) == (415, "UnsupportedMediaType")
    assert "application/vnd.kubernetes.protobuf" in answer.message


@pytest.mark.parametrize("content_type", ["application/json", "application/apply-patch+cbor", "x/y"])
async def test_unknown_patch_types_list_the_known(wire: Wire, content_type: str) -> None:
    await wire("POST", f"{NS}/configmaps", config_map())
    answer = await wire("PATCH", f"{NS}/configmaps/a", b"{}", content_type)
    assert answer.status == 415
    for accepted in ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json"):
        assert accepted in answer.message


PATCHES = [
    ("application/json-patch+json", b"{}", 400),
    ("application/json-patch+json", b"nope", 400),
    ("application/json-patch+json", b'[{"op":"replace","path":"/data/x","value":"1"}]', 422),
    ("application/json-patch+json", b'[{"op":"test","path":"/data/k","value":"no"}]', 422),
    ("application/json-patch+json", b'[{"op":"frobnicate","path":"/data/k"}]', 422),
    ("application/json-patch+json", b'[{"op":"replace","path":"","value":[]}]', 422),
    ("application/merge-patch+json", b"[]", 400),
    ("application/merge-patch+json", b"3", 400),
    ("application/merge-patch+json", b'{"metadata":null}', None),
    ("application/merge-patch+json", b'{"kind":"Pod"}', 400),
    ("application/merge-patch+json", b'{"apiVersion":"v2"}', 400),
    ("application/merge-patch+json", b'{"metadata":{"name":"b"}}', 400),
    ("application/merge-patch+json", b'{"metadata":{"namespace":"b"}}', 400),
    ("application/merge-patch+json", b'{"metadata":{"resourceVersion":"1"}}', 409),
    ("application/merge-patch+json", b'{"metadata":{"uid":"1"}}', 409),
    ("application/merge-patch+json", b'{"data":{"k":1}}', 422),
    ("application/strategic-merge-patch+json", b'{"data":{"k":1}}', 422),
    ("application/strategic-merge-patch+json", b"[]", 400),
    ("application/strategic-merge-patch+json", b'{"data":{"$patch":"frob"}}', None),
]


@pytest.mark.parametrize(("content_type", "body", "status"), PATCHES, ids=range(len(PATCHES)))
async def test_patches_that_do_not_apply(wire: Wire, content_type: str, body: bytes, status: int | None) -> None:
    made = await wire("POST", f"{NS}/configmaps", config_map(k="v"))
    answer = await wire("PATCH", f"{NS}/configmaps/a", body, content_type)
    assert answer.status == status or (status is None and answer.status < 500), answer.body
    if status is not None:
        assert answer.json["kind"] == "Status"
        assert (await wire("GET", f"{NS}/configmaps/a")).json == made.json


# -- field validation


async def test_strict_refuses_unknown_fields(wire: Wire) -> None:
    obj = pod(containers=[{"name": "c", "image": "i", "foo": 1}])
    answer = await wire("POST", f"{NS}/pods?fieldValidation=Strict", obj)
    assert answer.status == 400
    assert answer.message == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containers[0].foo"'
    )
    assert (await wire("GET", f"{NS}/pods")).json["items"] == []


@pytest.mark.parametrize("query", ["", "?fieldValidation=Warn"])
async def test_warn_warns_and_drops(wire: Wire, query: str) -> None:
    answer = await wire("POST", f"{NS}/pods{query}", pod(bogus=1))
    assert answer.status == 201
    assert answer.warnings == ['299 - "unknown field \\"spec.bogus\\""']
    assert "bogus" not in answer.json["spec"]


async def test_ignore_is_silent(wire: Wire) -> None:
    answer = await wire("POST", f"{NS}/pods?fieldValidation=Ignore", pod(bogus=1))
    assert (answer.status, answer.warnings) == (201, [])
    assert "bogus" not in answer.json["spec"]


async def test_strict_patches(wire: Wire) -> None:
    await wire("POST", f"{NS}/configmaps", config_map())
    answer = await wire(
        "PATCH", f"{NS}/configmaps/a?fieldValidation=Strict", {"bogus": 1}, "application/merge-patch+json"
    )
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert answer.json["details"]["causes"][0]["field"] == "patch"
    assert answer.message.endswith('strict decoding error: unknown field "bogus"')
    merged = await wire(
        "PATCH", f"{NS}/configmaps/a?fieldValidation=Strict", {"bogus": [1]}, "application/strategic-merge-patch+json"
    )
    assert merged.message == (
        ' "" is invalid: patch: Invalid value: "map[bogus:[1]]": strict decoding error: unknown field "bogus"'
    )


async def test_strict_refuses_a_field_said_twice(wire: Wire) -> None:
    body = b'{"metadata":{"name":"a","name":"b"}}'
    answer = await wire("POST", f"{NS}/configmaps?fieldValidation=Strict", body)
    assert (answer.status, 'duplicate field "metadata.name"' in answer.message) == (400, True)


@pytest.mark.parametrize(
    "query", ["fieldValidation=Loud", "dryRun=Some", "limit=x&watch=0", "timeoutSeconds=x&watch=true"]
)
async def test_query_parameters_that_make_no_sense(wire: Wire, query: str) -> None:
    method = "GET" if "watch" in query else "POST"
    answer = await wire(method, f"{NS}/configmaps?{query}", config_map() if method == "POST" else None)
    assert answer.status in {400, 422}, answer.body


# -- bodies as HTTP frames them


async def test_a_body_that_waits_to_be_asked_for(wire: Wire) -> None:
    body = orjson.dumps(config_map())
    head = (
        f"POST {NS}/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", int(wire.base.rsplit(":", 1)[1]))
    writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
    async with asyncio.timeout(2):
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        await reader.readline()
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 201")
    writer.close()


async def test_a_chunked_body(wire: Wire) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in orjson.dumps(config_map()):
            yield bytes([byte])

    async with wire.session.post(f"{wire.base}{NS}/configmaps", data=chunks()) as response:
        assert response.status == 415  # aiohttp calls it application/octet-stream
    headers = {"Content-Type": "application/json"}
    async with wire.session.post(f"{wire.base}{NS}/configmaps", data=chunks(), headers=headers) as response:
        assert response.status == 201


async def test_a_compressed_body_is_not_unpacked(wire: Wire) -> None:
    body = gzip.compress(orjson.dumps(config_map()))
    answer = await wire("POST", f"{NS}/configmaps", body, Content_Encoding="gzip")
    assert answer.status == 400


# -- garbage


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"HELLO\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: nope\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    b"\0" * 1000,
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
async def test_the_server_survives_garbage(wire: Wire, data: bytes) -> None:
    port = int(wire.base.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    try:
        async with asyncio.timeout(0.5):
            answer = await reader.read(4096)
            assert not answer or answer.split(b" ")[1] in {b"400", b"404", b"405", b"431"}
    except (TimeoutError, ConnectionError):
        pass
    writer.close()
    assert (await wire("GET", "/readyz")).body == b"ok"
