"""One suite for both clients: the in-process one and the one over TLS say and refuse the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from podnet.controlplane import pki
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.resources import CONFIGMAPS, NAMESPACES, NODES, PODS, SERVICEACCOUNTS
from podnet.controlplane.apiserver.config import APIServerConfig
from podnet.controlplane.apiserver.local import LocalClient
from podnet.controlplane.apiserver.main import run_apiserver
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.client.endpoint import Endpoint
from podnet.controlplane.client.informer import Informer
from podnet.controlplane.client.rest import RestClient
from podnet.controlplane.store.memory import MemoryStore


@pytest.fixture(scope="module")
def pki_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    pki.ensure_pki(
        directory, advertise_address="192.168.100.10", service_ip="10.96.0.1", cluster_domain="cluster.local"
    )
    return directory


def endpoint(pki_dir: Path, port: int, **changes: Any) -> Endpoint:
    fields = {"cert_file": pki_dir / "admin.crt", "key_file": pki_dir / "admin.key", **changes}
    return Endpoint(f"https://127.0.0.1:{port}", pki_dir / "ca.crt", **fields)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.asynccontextmanager
async def serving(pki_dir: Path, store_dir: Path, port: int) -> AsyncIterator[None]:
    config = APIServerConfig(pki_dir, store_dir, bind=(("127.0.0.1", port),), advertise_address="192.168.100.10")
    started = asyncio.Event()
    task = asyncio.create_task(run_apiserver(config, started=started))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def port(pki_dir: Path, tmp_path: Path) -> AsyncIterator[int]:
    number = free_port()
    async with serving(pki_dir, tmp_path / "store", number):
        yield number


@pytest.fixture(params=["local", "rest"])
async def client(request: pytest.FixtureRequest, pki_dir: Path, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param == "local":
        store = MemoryStore()
        registry = Registry(store)
        await registry.start()
        local = LocalClient(registry)
        await local.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"},
        }
        await local.create(SERVICEACCOUNTS, account)
        yield local
        await registry.stop()
        await store.close()
        return
    number = free_port()
    async with serving(pki_dir, tmp_path / "store", number), RestClient(endpoint(pki_dir, number)) as rest:
        yield rest


def config_map(name: str, data: str = "1", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": data}}


async def test_create_get_update_patch_delete(client: Any) -> None:
    created = await client.create(CONFIGMAPS, config_map("a"))
    assert created["metadata"]["uid"]
    assert await client.get(CONFIGMAPS, "a", "default") == created
    updated = await client.update(CONFIGMAPS, {**created, "data": {"k": "2"}})
    assert int(updated["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])
    with pytest.raises(StatusError) as caught:
        await client.update(CONFIGMAPS, {**created, "data": {"k": "3"}})
    assert caught.value.is_conflict
    for patch, kind in (
        ({"data": {"k": "4"}}, "merge"),
        ({"data": {"k": "4"}}, "strategic"),
        ([{"op": "replace", "path": "/data/k", "value": "4"}], "json"),
    ):
        assert (await client.patch(CONFIGMAPS, "a", "default", patch, patch_type=kind))["data"] == {"k": "4"}
    with pytest.raises(StatusError) as caught:
        await client.delete(CONFIGMAPS, "a", "default", uid="another")
    assert caught.value.is_conflict
    await client.delete(CONFIGMAPS, "a", "default", uid=created["metadata"]["uid"])
    with pytest.raises(StatusError) as caught:
        await client.get(CONFIGMAPS, "a", "default")
    assert caught.value.is_not_found
    assert caught.value.message == 'configmaps "a" not found'


async def test_a_patch_with_a_foreign_uid_is_refused(client: Any) -> None:
    await client.create(CONFIGMAPS, config_map("a"))
    patch = {"metadata": {"uid": "another"}, "data": {"k": "2"}}
    with pytest.raises(StatusError) as caught:
        await client.patch(CONFIGMAPS, "a", "default", patch, patch_type="strategic")
    assert caught.value.code in {409, 422}


async def test_lists_select_and_continue(client: Any) -> None:
    for index in range(5):
        await client.create(CONFIGMAPS, config_map(f"c{index}", parity=str(index % 2)))
    even = await client.list(CONFIGMAPS, "default", label_selector="parity=0")
    assert [item["metadata"]["name"] for item in even.items] == ["c0", "c2", "c4"]
    assert all(item["kind"] == "ConfigMap" and item["apiVersion"] == "v1" for item in even.items)
    one = await client.list(CONFIGMAPS, "default", field_selector="metadata.name=c3")
    assert [item["metadata"]["name"] for item in one.items] == ["c3"]
    first = await client.list(CONFIGMAPS, "default", label_selector="parity", limit=3)
    rest = await client.list(
        CONFIGMAPS, "default", label_selector="parity", limit=3, continue_token=first.continue_token
    )
    assert [len(first.items), len(rest.items), rest.continue_token] == [3, 2, ""]


async def test_a_watch_tells_every_change_in_order(client: Any) -> None:
    begin = (await client.list(CONFIGMAPS, "default")).resource_version
    seen: list[tuple[str, str]] = []

    async def follow() -> None:
        async for event in client.watch(CONFIGMAPS, "default", resource_version=begin, label_selector="watched"):
            if event.type != "BOOKMARK":
                seen.append((event.type, event.object["metadata"]["name"]))
            if event.type == "DELETED":
                return

    task = asyncio.create_task(follow())
    await client.create(CONFIGMAPS, config_map("a", watched="yes"))
    await client.create(CONFIGMAPS, config_map("unseen"))
    await client.patch(CONFIGMAPS, "a", "default", {"data": {"k": "2"}})
    await client.delete(CONFIGMAPS, "a", "default")
    await asyncio.wait_for(task, 5)
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_binding_is_a_subresource_of_its_pod(client: Any) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]},
    }
    with contextlib.suppress(StatusError):
        await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    await client.create(PODS, pod)
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p", "namespace": "default"},
        "target": {"kind": "Node", "name": "n"},
    }
    await client.create(PODS, binding, subresource="binding", name="p")
    assert (await client.get(PODS, "p", "default"))["spec"]["nodeName"] == "n"
    with pytest.raises(StatusError) as caught:
        await client.create(PODS, binding, subresource="binding", name="p")
    assert caught.value.code == 409


async def test_a_line_of_many_megabytes_comes_through(port: int, pki_dir: Path) -> None:
    async with RestClient(endpoint(pki_dir, port)) as rest:
        big = "x" * 900_000
        begin = (await rest.list(CONFIGMAPS, "default")).resource_version

        async def first() -> Any:
            events = rest.watch(CONFIGMAPS, "default", resource_version=begin)
            return await anext(event.object async for event in events if event.object["metadata"]["name"] == "big")

        task = asyncio.create_task(first())
        await rest.create(CONFIGMAPS, config_map("big", big))
        assert (await asyncio.wait_for(task, 5))["data"]["k"] == big


async def test_nobody_is_unauthorized(port: int, pki_dir: Path) -> None:
    async with RestClient(endpoint(pki_dir, port, cert_file=None, key_file=None)) as rest:
        with pytest.raises(StatusError) as caught:
            await rest.list(PODS)
    assert (caught.value.code, caught.value.reason) == (401, "Unauthorized")


async def test_a_token_file_is_read_again_when_it_changes(port: int, pki_dir: Path, tmp_path: Path) -> None:
    async with RestClient(endpoint(pki_dir, port)) as admin:
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        request["metadata"] = {"namespace": "default"}
        answer = await admin.create(SERVICEACCOUNTS, request, subresource="token", name="default")
    token_file = tmp_path / "token"
    token_file.write_text("stale")
    by_token = endpoint(pki_dir, port, cert_file=None, key_file=None, token_file=token_file)
    async with RestClient(by_token) as rest:
        with pytest.raises(StatusError) as caught:
            await rest.list(PODS)
        assert caught.value.code == 401
        token_file.write_text(answer["status"]["token"])
        os.utime(token_file, ns=(1, 1))  # even where the clock is coarse
        assert (await rest.list(PODS)).items == []


async def test_a_server_that_is_not_there_is_503(pki_dir: Path) -> None:
    async with RestClient(endpoint(pki_dir, free_port())) as rest:
        with pytest.raises(StatusError) as caught:
            await rest.get(PODS, "p", "default")
        assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")
        with pytest.raises(StatusError) as caught:
            async for _ in rest.watch(PODS):
                pass
        assert caught.value.code == 503


async def test_an_informer_survives_a_restart_of_the_server(pki_dir: Path, tmp_path: Path) -> None:
    number = free_port()
    async with RestClient(endpoint(pki_dir, number)) as rest:
        informer = Informer(rest, CONFIGMAPS, "default")
        running = asyncio.create_task(informer.run())

        async def until_known(name: str) -> None:
            known = asyncio.Event()
            remove = informer.add_handler(lambda key, _old, _new: known.set() if key == f"default/{name}" else None)
            await known.wait()
            remove()

        for name in ("before", "after"):
            async with serving(pki_dir, tmp_path / "store", number):
                await asyncio.wait_for(informer.wait_synced(), 5)
                await rest.create(CONFIGMAPS, config_map(name))
                await asyncio.wait_for(until_known(name), 5)
        assert {"default/before", "default/after"} <= set(informer.cache)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
