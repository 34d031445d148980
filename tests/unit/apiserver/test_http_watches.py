"""The wire: watches, their forms and how they end."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import NS, TABLE, Wire, config_map

from podnet.controlplane.api.resources import CONFIGMAPS, PODS
from podnet.controlplane.apiserver.registry import Registry


async def read_lines(wire: Wire, path: str, count: int, **headers: str) -> list[Any]:
    lines: list[Any] = []
    async with asyncio.timeout(5), wire.session.get(wire.base + path, headers=headers) as response:
        assert response.status == 200
        async for line in response.content:
            lines.append(json.loads(line))
            if len(lines) == count:
                break
    return lines


async def test_a_watch_streams_lines(wire: Wire, registry: Registry) -> None:
    await wire("POST", f"{NS}/configmaps", config_map())
    stream = asyncio.create_task(read_lines(wire, f"{NS}/configmaps?watch=true", 3))
    async with asyncio.timeout(5):
        while not registry.cache.of(CONFIGMAPS).watchers:
            await asyncio.sleep(0.01)
    await wire("PATCH", f"{NS}/configmaps/a", {"data": {"k": "v"}}, "application/merge-patch+json")
    await wire("DELETE", f"{NS}/configmaps/a")
    lines = await stream
    assert [line["type"] for line in lines] == ["ADDED", "MODIFIED", "DELETED"]
    assert all(line["object"]["kind"] == "ConfigMap" for line in lines)


async def test_headers_come_before_the_first_event(wire: Wire, registry: Registry) -> None:
    path = f"{NS}/configmaps?watch=true&resourceVersion={registry.cache.revision}"
    async with asyncio.timeout(2), wire.session.get(wire.base + path) as response:
        assert response.status == 200
        assert response.headers["Transfer-Encoding"] == "chunked"


async def test_a_table_watch_sends_columns_once(wire: Wire) -> None:
    for name in "ab":
        await wire("POST", f"{NS}/configmaps", config_map(name))
    lines = await read_lines(wire, f"{NS}/configmaps?watch=true", 2, Accept=TABLE)
    assert [bool(line["object"]["columnDefinitions"]) for line in lines] == [True, False]
    assert [line["object"]["rows"][0]["cells"][0] for line in lines] == ["a", "b"]


async def test_a_metadata_watch(wire: Wire) -> None:
    await wire("POST", f"{NS}/configmaps", config_map(k="v"))
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    (line,) = await read_lines(wire, f"{NS}/configmaps?watch=1", 1, Accept=accept)
    assert line["object"]["kind"] == "PartialObjectMetadata"
    assert "data" not in line["object"]


async def test_watching_one_object_by_its_path(wire: Wire) -> None:
    for name in "ab":
        await wire("POST", f"{NS}/configmaps", config_map(name))
    lines = await read_lines(wire, f"{NS}/configmaps/b?watch=true&timeoutSeconds=1", 1)
    assert [line["object"]["metadata"]["name"] for line in lines] == ["b"]


async def test_a_watch_ends_in_time_and_cleanly(wire: Wire) -> None:
    async with asyncio.timeout(5), wire.session.get(f"{wire.base}{NS}/pods?watch=true&timeoutSeconds=1") as response:
        assert await response.read() == b""


async def test_bookmarks_at_the_end(wire: Wire) -> None:
    path = f"{NS}/pods?watch=true&timeoutSeconds=1&allowWatchBookmarks=true"
    (line,) = await read_lines(wire, path, 1)
    assert (line["type"], line["object"]["kind"]) == ("BOOKMARK", "Pod")


async def test_too_old_is_an_error_event(wire: Wire, registry: Registry) -> None:
    registry.cache.of(PODS).oldest = 10
    (line,) = await read_lines(wire, f"{NS}/pods?watch=true&resourceVersion=5", 1)
    assert (line["type"], line["object"]["code"], line["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert line["object"]["message"] == "too old resource version: 5 (10)"


async def test_a_client_that_leaves_takes_its_watch_with_it(wire: Wire, registry: Registry) -> None:
    async with wire.session.get(f"{wire.base}{NS}/pods?watch=true"):
        assert len(registry.cache.of(PODS).watchers) == 1
    async with asyncio.timeout(2):
        while registry.cache.of(PODS).watchers:
            await asyncio.sleep(0.01)


async def test_a_stream_that_breaks_is_cut_short(
    wire: Wire, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> bytes:
        raise ValueError("broken encoder")

    monkeypatch.setattr("podnet.controlplane.apiserver.http.rendering.EventEncoder.encode", broken)
    await wire("POST", f"{NS}/configmaps", config_map())
    async with wire.session.get(f"{wire.base}{NS}/configmaps?watch=true") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert not registry.cache.of(CONFIGMAPS).watchers
    assert (await wire("GET", "/readyz")).body == b"ok"
