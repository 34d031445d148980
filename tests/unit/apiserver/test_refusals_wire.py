"""Refusals word for word: what HTTP itself, the query, the options of a write and the Accept header can get wrong."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import NS, Wire, config_map
from raw_http import check_refusal, exchange, replies, request

from podnet.controlplane.apiserver import listing, registry, watchcache
from podnet.controlplane.apiserver.registry import Registry

MAPS = f"{NS}/configmaps"
NO_METHOD = "the server does not allow this method on the requested resource"
NO_PATH = "the server could not find the requested resource"
META = "g=meta.k8s.io;v=v1"


def port(wire: Wire) -> int:
    return int(wire.base.rsplit(":", 1)[1])


# -- HTTP itself

HTTP = [
    pytest.param(request("FROB", "/api/v1/pods"), 405, NO_METHOD, id="a method nobody knows"),
    pytest.param(request("get", "/api/v1/pods"), 405, NO_METHOD, id="methods are upper case"),
    pytest.param(request("PROPFIND", "/api/v1/pods"), 405, NO_METHOD, id="a method of another protocol"),
    pytest.param(request("OPTIONS", "/api/v1/pods"), 405, NO_METHOD, id="options"),
    pytest.param(request("TRACE", f"{NS}/pods/x"), 405, NO_METHOD, id="trace"),
    pytest.param(request("POST", "/version"), 405, NO_METHOD, id="a document is read only"),
    pytest.param(request("GET", "/nothing"), 404, NO_PATH, id="an unknown path"),
    pytest.param(request("GET", "/api/v1/foos"), 404, NO_PATH, id="an unknown resource"),
    pytest.param(request("GET", "/api/v1/pods/%zz"), 400, 'invalid URL escape "%zz"', id="a broken escape"),
    pytest.param(request("GET", "/api/v1/pods/a%"), 400, 'invalid URL escape "%"', id="half an escape"),
    pytest.param(request("GET", f"{NS}/pods/%00"), 404, 'pods "\x00" not found', id="NUL in a path"),
    pytest.param(request("GET", f"{NS}/pods/%ff"), 404, 'pods "\ufffd" not found', id="a byte that is no text"),
    pytest.param(request("GET", f"{NS}/pods/%c3%a9"), 404, 'pods "é" not found', id="UTF-8"),
    pytest.param(request("GET", f"{NS}/pods/\xc3\xa9"), 400, "malformed HTTP request: ", id="bare UTF-8"),
    pytest.param(
        request("GET", "/" + "a" * 70_000), 431, "the request line or a header field is longer than 65536 bytes",
        id="an endless path",
    ),
    pytest.param(
        request("GET", "/api", {"X": "y" * 70_000}), 431, "the request line or a header field is longer than 65536 bytes",
        id="an endless header",
    ),
    pytest.param(request("GET", "/api\r\nX y: z"), 400, "malformed HTTP request: ", id="a header that is none"),
    pytest.param(b"GET /api HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", 400, "malformed HTTP request: ", id="NUL in a header"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "malformed HTTP request: ", id="TLS where there is none"),
    pytest.param(b"GET /api HTTP/9.9\r\n\r\n", 400, "malformed HTTP request: ", id="an HTTP of the future"),
    pytest.param(
        b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400,
        "malformed HTTP request: ", id="two lengths",
    ),
    pytest.param(
        b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
        "malformed HTTP request: ", id="a length and chunks",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status", "message"), HTTP)
async def test_http_is_refused_with_a_status(wire: Wire, data: bytes, status: int, message: str) -> None:
    (reply,) = await exchange(port(wire), data)
    check_refusal(reply)
    assert (reply.status, reply.message[: len(message)]) == (status, message)
    assert message.endswith(": ") or reply.message == message


async def test_chunks_that_are_none(wire: Wire) -> None:
    head = f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    for broken in (b"zz\r\n", b"5\r\n{}\r\nxxxxxxxx\r\n", b"-1\r\n\r\n", b"2\r\n{}NO"):
        (reply, *_) = await exchange(port(wire), head.encode() + broken, silence_s=2)
        check_refusal(reply)
        assert reply.status == 400


async def test_requests_in_one_packet_are_answered_in_order(wire: Wire) -> None:
    data = b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in ("/version", "/nope", "/healthz"))
    found = await exchange(port(wire), data + request("OPTIONS", "/api"))
    assert [reply.status for reply in found] == [200, 404, 200, 405]


async def test_http_1_0(wire: Wire) -> None:
    """No chunks, and the connection ends the body: of a watch, too."""
    await wire("POST", MAPS, config_map())
    for path in ("/version", MAPS, f"{MAPS}?watch=true&timeoutSeconds=1"):
        (reply,) = await exchange(port(wire), f"GET {path} HTTP/1.0\r\n\r\n".encode())
        assert (reply.status, reply.headers.get("transfer-encoding")) == (200, None)
        orjson.loads(reply.body.splitlines()[0])


async def test_an_absolute_target(wire: Wire) -> None:
    (reply,) = await exchange(port(wire), request("GET", "http://anything:1/version?x=y"))
    assert (reply.status, reply.document["major"]) == (200, "1")


async def test_a_body_that_ends_early_harms_nobody(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port(wire))
    writer.write(f"POST {MAPS} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{".encode())
    writer.close()
    assert replies(await reader.read()) == []
    assert (await wire("GET", "/healthz")).body == b"ok"
    assert (await wire("GET", MAPS)).json["items"] == []


async def test_an_upgrade_that_is_none(wire: Wire) -> None:
    await wire("POST", f"{NS}/pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    answer = await wire("GET", f"{NS}/pods/p/exec?command=a&stdout=1", Upgrade="h2c", Connection="Upgrade")
    assert answer.status >= 400
    assert answer.json["kind"] == "Status"


# -- queries

QUERIES = [
    ("GET", "limit=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ("GET", "limit=99999999999999999999", 400, 'strconv.ParseInt: parsing "99999999999999999999": value out of range'),
    (
        "GET", "limit=-1", 422,
        'ListOptions.meta.k8s.io "" is invalid: limit: Invalid value: -1: must be greater than or equal to 0',
    ),
    ("GET", "continue=!", 400, "invalid continue token: continue key is not valid: unable to decode the token"),
    (
        "GET", "continue=e30", 400, "invalid continue token: continue key is not valid: unable to decode the token"
    ),
    (
        "GET", "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MCwic3RhcnQiOiJhIn0", 400,
        "invalid continue token: continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
    ),
    (
        "GET", "resourceVersion=abc", 400,
        'resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax',
    ),
    (
        "GET", "resourceVersion=-1", 400,
        'resourceVersion: Invalid value: "-1": strconv.ParseUint: parsing "-1": invalid syntax',
    ),
    (
        "GET", "watch=1&resourceVersion=abc", 400,
        'resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax',
    ),
    (
        "GET", "resourceVersionMatch=Exact", 422,
        ('ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless '
        "resourceVersion is provided"),
    ),
    (
        "GET", "watch=true&sendInitialEvents=true", 422,
        ('ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting '
        "resourceVersionMatch to NotOlderThan"),
    ),
    ("GET", "watch=banana", 400, 'strconv.ParseBool: parsing "banana": invalid syntax'),
    ("GET", "watch=true&timeoutSeconds=soon", 400, 'strconv.ParseInt: parsing "soon": invalid syntax'),
    ("GET", "timeout=soon", 400, 'invalid timeout specified in the request URL - time: invalid duration "soon"'),
    ("GET", "fieldSelector=foo%3Dbar", 400, '"foo" is not a known field selector: only "metadata.name", "metadata.namespace"'),
    (
        "POST", "fieldValidation=Loud", 422,
        ('CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Loud": supported values: "", '
        '"Ignore", "Strict", "Warn"'),
    ),
    (
        "POST", "dryRun=Some", 422,
        'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: []string{"Some"}: supported values: "All"',
    ),
    (
        "DELETE", "propagationPolicy=Sideways", 422,
        ('DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Sideways": supported values: '
        '"Foreground", "Background", "Orphan", "nil"'),
    ),
    (
        "DELETE", "propagationPolicy=Orphan&orphanDependents=true", 422,
        ('DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "Orphan": orphanDependents and '
        "deletionPropagation cannot be both set"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("method", "query", "status", "message"), QUERIES, ids=[query for _, query, _, _ in QUERIES])
async def test_queries_that_make_no_sense(wire: Wire, method: str, query: str, status: int, message: str) -> None:
    answer = await wire(method, f"{MAPS}?{query}", config_map() if method == "POST" else None)
    assert (answer.status, answer.message) == (status, message)
    assert (await wire("GET", MAPS)).json["items"] == []


@pytest.mark.parametrize("word", ["true", "1", "T", ""])
async def test_a_watch_that_is_asked_for(wire: Wire, word: str) -> None:
    await wire("POST", MAPS, config_map())
    answer = await wire("GET", f"{MAPS}?watch={word}&timeoutSeconds=1")
    assert orjson.loads(answer.body.splitlines()[0])["type"] == "ADDED"


@pytest.mark.parametrize("word", ["false", "0", "FALSE", "f"])
async def test_a_watch_that_is_denied(wire: Wire, word: str) -> None:
    assert (await wire("GET", f"{MAPS}?watch={word}")).json["kind"] == "ConfigMapList"


@pytest.mark.parametrize(
    "query",
    [
        "resourceVersion=18446744073709551615",
        "resourceVersion=99999&resourceVersionMatch=Exact",
        "resourceVersion=18446744073709551615&resourceVersionMatch=Exact",
        "limit=1&resourceVersion=999999",
    ],
)
async def test_a_revision_of_the_future(wire: Wire, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    monkeypatch.setattr(watchcache, "CATCH_UP_TIMEOUT_S", 0.01)
    answer = await wire("GET", f"{MAPS}?{query}")
    assert (answer.status, answer.json["reason"]) == (504, "Timeout")
    assert answer.message.startswith("Timeout: Too large resource version: ")
    assert answer.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert answer.headers["Retry-After"] == "1"


async def test_a_revision_that_is_compacted(wire: Wire, registry: Registry) -> None:
    await wire("POST", MAPS, config_map())
    await registry.store.compact(await registry.store.revision())
    answer = await wire("GET", f"{MAPS}?resourceVersion=1&resourceVersionMatch=Exact")
    assert (answer.status, answer.json["reason"]) == (410, "Expired")


async def test_a_continue_token_whose_revision_is_gone(wire: Wire, registry: Registry) -> None:
    for name in "abc":
        await wire("POST", MAPS, config_map(name))
    token = (await wire("GET", f"{MAPS}?limit=1")).json["metadata"]["continue"]
    await wire("DELETE", f"{MAPS}/c")
    await registry.store.compact(await registry.store.revision())
    expired = await wire("GET", f"{MAPS}?limit=1&continue={token}")
    assert (expired.status, expired.json["reason"], expired.message) == (410, "Expired", listing.CONTINUE_EXPIRED)
    rest = await wire("GET", f"{MAPS}?continue={expired.json['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in rest.json["items"]] == ["b"]


# -- writes


async def test_a_field_that_stands_twice(wire: Wire) -> None:
    body = b'{"metadata":{"name":"a"},"data":{"k":"1","k":"2"},"data":{"x":"y"}}'
    strict = await wire("POST", f"{MAPS}?fieldValidation=Strict", body)
    assert (strict.status, 'strict decoding error: duplicate field "data"' in strict.message) == (400, True)
    nested = b'{"metadata":{"name":"a","labels":{"l":"1","l":"2"}}}'
    warned = await wire("POST", f"{MAPS}?fieldValidation=Warn", nested)
    assert (warned.status, warned.warnings) == (201, ['299 - "duplicate field \\"metadata.labels.l\\""'])
    text = b"metadata:\n  name: b\n  name: c\n"
    twice = await wire("POST", f"{MAPS}?fieldValidation=Strict", text, "application/yaml")
    assert (twice.status, 'line 3: key "name" already set in map' in twice.message) == (400, True)


async def test_names_that_are_made_up_and_taken(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = iter(["x-aaaaa", *["x-aaaaa"] * 3, "x-bbbbb"])
    monkeypatch.setattr(registry.meta, "generate_name", lambda *_: next(tries))
    body = {"metadata": {"generateName": "x-"}}
    assert (await wire("POST", MAPS, body)).json["metadata"]["name"] == "x-aaaaa"
    assert (await wire("POST", MAPS, body)).json["metadata"]["name"] == "x-bbbbb"
    monkeypatch.setattr(registry.meta, "generate_name", lambda *_: "x-aaaaa")
    answer = await wire("POST", MAPS, body)
    assert (answer.status, answer.json["reason"]) == (409, "AlreadyExists")
    assert answer.message == (
        'configmaps "x-aaaaa" already exists, the server was not able to generate a unique name for the object'
    )


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"gracePeriodSeconds": "x"}, 400, "DeleteOptions.gracePeriodSeconds"),
        ({"propagationPolicy": "Sideways"}, 422, 'propagationPolicy: Unsupported value: "Sideways"'),
        ({"dryRun": ["Some"]}, 422, "dryRun: Unsupported value"),
        ({"preconditions": 1}, 400, "cannot be handled as a DeleteOptions"),
        (
            {"preconditions": {"uid": "other"}},
            409,
            "the UID in the precondition (other) does not match the UID in record",
        ),
        (
            {"preconditions": {"resourceVersion": "1"}},
            409,
            "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record",
        ),
        ({"kind": "Pod"}, 400, "Pod"),
        ([], 400, "cannot unmarshal array"),
    ],
    ids=str,
)
async def test_delete_options(wire: Wire, body: Any, status: int, words: str) -> None:
    await wire("POST", MAPS, config_map())
    for path in (f"{MAPS}/a", f"{MAPS}?fieldSelector=metadata.name%3Da"):
        answer = await wire("DELETE", path, body)
        assert (answer.status, words in answer.message) == (status, True), answer.message
    assert (await wire("GET", f"{MAPS}/a")).status == 200


async def test_a_write_whose_answer_nobody_could_read_is_none(wire: Wire) -> None:
    assert (await wire("POST", MAPS, config_map(), Accept="text/html")).status == 406
    assert (await wire("GET", MAPS)).json["items"] == []


# -- negotiation


@pytest.mark.parametrize(
    ("accept", "path", "message"),
    [
        ("text/html", f"{MAPS}/a", "only the following media types are accepted: "),
        (f"application/json;as=Foo;{META}", MAPS, "only the following media types are accepted: "),
        ("application/json;as=Table;g=x;v=v1", MAPS, "only the following media types are accepted: "),
        (
            "application/yaml", f"{MAPS}?watch=true",
            "only the following media types are accepted: application/json;stream=watch, ",
        ),
        (
            f"application/json;as=PartialObjectMetadata;{META}", MAPS,
            "you requested PartialObjectMetadata, but the requested object is a list (*v1.ConfigMapList)",
        ),
        (
            f"application/json;as=PartialObjectMetadataList;{META}", f"{MAPS}/a",
            "you requested PartialObjectMetadataList, but the requested object is not a list (*v1.ConfigMap)",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_accepted(wire: Wire, accept: str, path: str, message: str) -> None:
    await wire("POST", MAPS, config_map())
    answer = await wire("GET", path, Accept=accept)
    status = yaml.safe_load(answer.body)  # of which JSON is a part
    assert (answer.status, status["code"], status["reason"]) == (406, 406, "NotAcceptable")
    assert status["message"].startswith(message)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/yaml;q=0.5, application/json", "application/json"),
        ("*/*, application/yaml", "application/yaml"),
        ("application/json;q=broken", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
    ],
)
async def test_quality_decides(wire: Wire, accept: str, content_type: str) -> None:
    assert (await wire("GET", MAPS, Accept=accept)).headers["Content-Type"] == content_type


async def test_refusals_are_yaml_to_those_who_read_yaml(wire: Wire) -> None:
    answer = await wire("GET", f"{NS}/pods/x", Accept="application/yaml")
    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/yaml")
    assert b'message: pods "x" not found' in answer.body


async def test_pretty(wire: Wire) -> None:
    await wire("POST", MAPS, config_map())
    for path in (f"{MAPS}/a", MAPS):
        assert (await wire("GET", f"{path}?pretty=true")).body.startswith(b'{\n  "kind": ')
        assert (await wire("GET", f"{path}?pretty=false")).body.startswith(b'{"kind":')


@pytest.mark.parametrize("headers", [{"Impersonate_Group": "g"}, {"Impersonate_Uid": "u"}])
async def test_groups_of_nobody(wire: Wire, headers: dict[str, str]) -> None:
    answer = await wire("GET", MAPS, **headers)
    assert (answer.status, "without impersonating a user" in answer.message) == (400, True)
