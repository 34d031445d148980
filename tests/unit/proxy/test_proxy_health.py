"""What the proxy says about itself and its Services over HTTP: ports 10256 and 10249, and healthCheckNodePorts."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import UTC, datetime

import pytest
from proxy_objects import LOCAL, ON_A_NODE_PORT, REMOTE, model, piece, service

from podnet.proxy.healthcheck import HealthServer, is_eligible, proxy_answer, service_answer
from podnet.proxy.metrics import ProxyMetrics
from podnet.proxy.model import HealthCheck

THEN, NOW = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("node", "eligible"),
    [
        ({}, True),
        ({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}}, True),
        ({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}}, False),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, False),
    ],
    ids=["plain", "not ready", "marked for deletion", "being deleted"],
)
def test_which_nodes_want_new_connections(node, eligible):
    assert is_eligible(node) is eligible


@pytest.mark.parametrize(
    ("path", "healthy", "eligible", "code", "body"),
    [
        ("/healthz", True, True, 200, {"lastUpdated": str(NOW), "currentTime": str(NOW), "nodeEligible": True}),
        ("/healthz", True, False, 503, {"lastUpdated": str(THEN), "currentTime": str(NOW), "nodeEligible": False}),
        ("/healthz", False, True, 503, {"lastUpdated": str(THEN), "currentTime": str(NOW), "nodeEligible": True}),
        ("/livez", True, False, 200, {"lastUpdated": str(NOW), "currentTime": str(NOW)}),
        ("/livez", False, True, 503, {"lastUpdated": str(THEN), "currentTime": str(NOW)}),
    ],
)
def test_the_proxy_about_itself(path, healthy, eligible, code, body):
    found, headers, text = proxy_answer(path, healthy=healthy, eligible=eligible, updated=THEN, now=NOW)
    assert (found, json.loads(text)) == (code, body)
    assert headers["Content-Type"] == "application/json"


def test_other_paths_are_not_there():
    assert proxy_answer("/", healthy=True, eligible=True, updated=THEN, now=NOW)[0] == 404


@pytest.mark.parametrize(("count", "healthy", "code"), [(2, True, 200), (0, True, 503), (2, False, 503)])
def test_a_service_about_its_local_endpoints(count, healthy, code):
    found, headers, body = service_answer(HealthCheck("default", "web", 30100, count), healthy=healthy)
    assert found == code
    assert headers["X-Load-Balancing-Endpoint-Weight"] == str(count)
    service_named = {"namespace": "default", "name": "web"}
    assert json.loads(body) == {"service": service_named, "localEndpoints": count, "serviceProxyHealthy": healthy}


async def get(host, port, path):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = (await asyncio.wait_for(reader.read(), 5)).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split(" ")[1]), body


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
async def test_the_listeners_follow_node_and_model(mode):
    metrics = ProxyMetrics(mode)
    own, other, check = free_ports(3)
    server = HealthServer(own, {("127.0.0.1", other): metrics.page}, metrics.answered)
    server.mark_updated()
    try:
        await server.set_checks([HealthCheck("default", "web", check, 1)])
        assert (await get("127.0.0.1", own, "/healthz"))[0] == 200
        server.follow_node({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}})
        assert (await get("127.0.0.1", own, "/healthz"))[0] == 503
        assert (await get("127.0.0.1", own, "/livez"))[0] == 200
        assert (await get("127.0.0.1", check, "/"))[0] == 200
        assert await get("127.0.0.1", other, "/proxyMode") == (200, mode)
        assert await get("127.0.0.1", other, "/healthz") == (200, "ok")
        assert (await get("127.0.0.1", other, "/nope"))[0] == 404
        code, text = await get("127.0.0.1", other, "/metrics")
        assert code == 200
        assert 'kubeproxy_proxy_healthz_total{code="503"} 1' in text
        assert 'kubeproxy_proxy_livez_total{code="200"} 1' in text
        await server.set_checks([])
        with pytest.raises(OSError, match=str(check)):
            await get("127.0.0.1", check, "/")
        assert (await get("127.0.0.1", own, "/livez"))[0] == 200
    finally:
        await server.close()


def test_the_figures_of_a_pass():
    metrics = ProxyMetrics("iptables")
    local = {"type": "NodePort", "externalTrafficPolicy": "Local", "ports": ON_A_NODE_PORT}
    services = [service("in", internalTrafficPolicy="Local"), service("out", **local), service("both", **local)]
    slices = [piece(REMOTE, name="in"), piece(REMOTE, name="out"), piece(LOCAL, name="both")]
    metrics.synced(model(services, slices), 0.003, 1_000_000)
    metrics.failures.add()
    lines = metrics.page("/metrics")[2].decode().splitlines()
    assert {
        'kubeproxy_sync_proxy_rules_no_local_endpoints{traffic_policy="internal"} 1',
        'kubeproxy_sync_proxy_rules_no_local_endpoints{traffic_policy="external"} 1',
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds 1000000",
        "kubeproxy_sync_proxy_rules_duration_seconds_count 1",
        'kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.004"} 1',
        "kubeproxy_sync_proxy_rules_iptables_restore_failures_total 1",
        "kubeproxy_sync_proxy_rules_service_changes_total 0",
    } <= set(lines)
