"""/metrics: what is counted, under which names, and that the text is Prometheus'."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from http_fixtures import Wire, serve

from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.metrics import Registry as Metrics
from podnet.controlplane.process_metrics import add_process_metrics, boot_time, stat_fields
from podnet.controlplane.store import open_store
from podnet.controlplane.store.measured import MeasuredStore, type_of
from podnet.controlplane.store.types import CompactedError, KeyExistsError

MAPS = "/api/v1/namespaces/default/configmaps"
_LINE = re.compile(r'([a-z_][a-z0-9_]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a page, which must be well formed: help and type before the first sample of each metric."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            _, word, name, rest = line.split(" ", 3)
            if word == "TYPE":
                kinds[name] = rest
            continue
        match = _LINE.fullmatch(line)
        assert match is not None, line
        name, labels, value = match.groups()
        assert any(name == known or name.removeprefix(known) in {"_bucket", "_sum", "_count"} for known in kinds), line
        key = (name, frozenset(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or "")))
        assert key not in found, line
        found[key] = float(value)
    return found


async def scrape(wire: Wire) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = await wire("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.body.decode())


def value(found: Any, name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    wanted = set(labels.items())
    return sum(number for (known, said), number in found.items() if known == name and wanted <= said)


async def test_requests_are_counted_by_verb_resource_and_code(wire: Wire) -> None:
    body = {"metadata": {"name": "a"}}
    for method, path, sent, content_type in (
        ("POST", MAPS, body, "application/json"),
        ("POST", MAPS, body, "application/json"),
        ("GET", f"{MAPS}/a", None, ""),
        ("GET", MAPS, None, ""),
        ("GET", "/api/v1/configmaps", None, ""),
        ("GET", f"{MAPS}?watch=true&timeoutSeconds=1", None, ""),
        (
            "PATCH",
            f"{MAPS}/a?fieldManager=x",
            {"kind": "ConfigMap", "apiVersion": "v1"},
            "application/apply-patch+yaml",
        ),
        ("PATCH", f"{MAPS}/a?dryRun=All", {"data": {"k": "v"}}, "application/merge-patch+json"),
        ("DELETE", MAPS, None, ""),
    ):
        await wire(method, path, sent, content_type)
    found = await scrape(wire)

    def count(verb: str, code: str, **labels: str) -> float:
        return value(found, "apiserver_request_total", resource="configmaps", verb=verb, code=code, **labels)

    assert count("POST", "201", scope="namespace", group="", version="v1", component="apiserver") == 1
    assert count("POST", "409") == 1
    assert count("GET", "200", scope="resource") == 1
    assert (count("LIST", "200", scope="namespace"), count("LIST", "200", scope="cluster")) == (1, 1)
    assert count("WATCH", "200") == 1
    assert count("APPLY", "200") == 1
    assert count("PATCH", "200", dry_run="All") == 1
    assert count("DELETECOLLECTION", "200") == 1
    durations = {
        dict(labels)["le"]: number
        for (name, labels), number in found.items()
        if name == "apiserver_request_duration_seconds_bucket"
        and {("verb", "GET"), ("resource", "configmaps")} <= labels
    }
    assert durations["+Inf"] == 1
    assert list(durations.values()) == sorted(durations.values())


async def test_what_is_not_a_resource_is_counted_too(wire: Wire) -> None:
    await wire("GET", "/version")
    await wire("GET", "/nothing/of/that/kind")
    await wire("FROB", "/api/v1/pods")
    found = await scrape(wire)
    assert value(found, "apiserver_request_total", subresource="/version", code="200") == 1
    unknown = [
        dict(labels) for (name, labels) in found if name == "apiserver_request_total" and ("code", "404") in labels
    ]
    assert [labels["subresource"] for labels in unknown] == [""]  # no label is a client's to choose


async def test_in_flight_and_long_running(wire: Wire, registry: Registry) -> None:
    async with wire.session.get(f"{wire.base}{MAPS}?watch=true"):
        found = await scrape(wire)
        assert value(found, "apiserver_current_inflight_requests", request_kind="readOnly") == 1  # the scrape
        assert value(found, "apiserver_current_inflight_requests", request_kind="mutating") == 0
        assert value(found, "apiserver_longrunning_requests", verb="WATCH", resource="configmaps") == 1
        assert value(found, "apiserver_registered_watchers", kind="ConfigMap") == 1
    async with asyncio.timeout(5):
        while value(found := await scrape(wire), "apiserver_longrunning_requests"):
            await asyncio.sleep(0.01)
    assert value(found, "apiserver_registered_watchers", kind="ConfigMap") == 0
    assert value(found, "apiserver_request_total", verb="WATCH") == 1


async def test_objects_and_events(wire: Wire) -> None:
    before = value(await scrape(wire), "apiserver_watch_cache_events_received_total", resource="configmaps")
    for name in "ab":
        await wire("POST", MAPS, {"metadata": {"name": name}})
    await wire("GET", f"{MAPS}?watch=true&timeoutSeconds=1")
    found = await scrape(wire)
    assert value(found, "apiserver_storage_objects", resource="configmaps") == 2
    assert value(found, "apiserver_watch_cache_events_received_total", resource="configmaps") == before + 2
    assert value(found, "apiserver_watch_events_total", kind="ConfigMap", version="v1", group="") == 2
    assert value(found, "kubernetes_build_info", major="1", minor="32") == 1


async def test_metrics_are_for_those_who_are_known(registry: Registry) -> None:
    async with serve(registry, anonymous=True) as wire:
        assert (await wire("GET", "/metrics")).status == 401
        assert (await wire("POST", "/metrics")).status == 401


async def test_metrics_are_read_only_and_listed(wire: Wire) -> None:
    assert (await wire("POST", "/metrics")).status == 405
    paths = (await wire("GET", "/")).json["paths"]
    assert {"/metrics", "/api/v1", "/apis/apps", "/apis/apps/v1", "/openapi/v3"} <= set(paths)
    for path in paths:
        assert (await wire("GET", path)).status in {200, 404}, path


async def test_the_store_is_timed() -> None:
    metrics = Metrics()
    store = MeasuredStore(open_store("memory", ""), metrics)
    made = await store.create("/registry/apps/deployments/default/web", b"{}")
    with pytest.raises(KeyExistsError):
        await store.create("/registry/apps/deployments/default/web", b"{}")
    await store.update(made.key, b"[]", made.mod_revision)
    assert await store.get(made.key) is not None
    assert len((await store.range("/registry/")).kvs) == 1
    await store.delete(made.key)
    await store.compact(await store.revision())
    with pytest.raises(CompactedError):
        await store.range("/registry/", revision=1)
    await store.close()
    found = samples(metrics.expose())
    kind = "deployments.apps"
    assert value(found, "etcd_requests_total", operation="create", type=kind) == 2
    assert value(found, "etcd_request_errors_total", type=kind) == 0  # a name that is taken is an answer
    assert value(found, "etcd_request_errors_total", operation="list") == 1
    for operation in ("create", "update", "get", "delete"):
        assert value(found, "etcd_request_duration_seconds_count", operation=operation, type=kind) >= 1
    assert value(found, "etcd_request_duration_seconds_bucket", operation="create", le="+Inf") == 2


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("/registry/core/pods/default/a", "pods"),
        ("/registry/apps/deployments/", "deployments.apps"),
        ("/registry/core/nodes/a", "nodes"),
        ("/registry/", ""),
        ("", ""),
    ],
)
def test_types_of_keys(key: str, kind: str) -> None:
    assert type_of(key) == kind


def test_the_process_itself() -> None:
    metrics = Metrics()
    remove = add_process_metrics(metrics)
    found = samples(metrics.expose())
    assert value(found, "process_resident_memory_bytes") > 1 << 20
    assert value(found, "process_open_fds") > 2
    assert value(found, "process_cpu_seconds_total") > 0
    assert value(found, "process_start_time_seconds") > 1e9
    assert value(found, "python_info", implementation="CPython") == 1
    remove()


def test_a_command_may_hold_anything() -> None:
    assert stat_fields("1 (a) b (c)) S 2 3")[0] == "S"
    assert boot_time("cpu 1\nbtime 1700000000\n") == 1_700_000_000
    assert boot_time("cpu 1\n") == 0


def test_labels_are_quoted() -> None:
    metrics = Metrics()
    metrics.counter("a_total", "Text.", ("x",)).add('quote " back \\ line \n')
    assert 'a_total{x="quote \\" back \\\\ line \\n"} 1' in metrics.expose().splitlines()
