"""From API objects to served zones, who the server is, and the objects of the add-on."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from kubernetes_server import options_of

from podnet.controlplane.api.resources import ENDPOINTSLICES, NAMESPACES, SERVICES
from podnet.controlplane.client.types import ObjectList, WatchEvent
from podnet.dns.addon import default_corefile, dns_addon
from podnet.dns.config import parse_config
from podnet.dns.kubernetes.feed import ApiFeed
from podnet.dns.kubernetes.identity import IdentityError, endpoint_of, kubeconfig_endpoint
from podnet.dns.kubernetes.options import ApiOptions
from podnet.dns.kubernetes.surroundings import parse_fib_trie, parse_if_inet6, parse_searches
from podnet.dns.message import A_
from podnet.dns.preload import preload
from podnet.dns.registry import ORDER, check_directives

ROOT = Path(__file__).resolve().parents[3]


class Server:
    """Lists and watches from memory, in the place of a RestClient."""

    def __init__(self):
        self.objects = {}
        self.queues = {}
        self.asked = []
        self.gate = asyncio.Event()

    async def list(self, resource, namespace="", *, label_selector="", field_selector=""):
        await self.gate.wait()
        self.asked.append((resource.plural, label_selector, field_selector))
        return ObjectList([*self.objects.get(resource.plural, ())], "1")

    async def watch(self, resource, namespace="", **_):
        queue = self.queues.setdefault(resource.plural, asyncio.Queue())
        while True:
            yield await queue.get()

    async def close(self):
        pass


def named(kind, name, namespace="", **rest):
    metadata = {"name": name, "resourceVersion": "1", "uid": name}
    if namespace:
        metadata["namespace"] = namespace
    return {"kind": kind, "metadata": metadata, **rest}


@pytest.fixture
async def feed(monkeypatch):
    server = Server()
    monkeypatch.setattr("podnet.controlplane.client.rest.RestClient", lambda _: server)
    monkeypatch.setattr("podnet.dns.kubernetes.feed.endpoint_of", lambda *_: None)
    tasks = []
    published = asyncio.Queue()

    async def start(corefile="kubernetes cluster.local", timeout_s=5.0):
        made = ApiFeed(options_of(corefile), {})
        await made.start(
            lambda work: tasks.append(asyncio.ensure_future(work)),
            lambda zone, _imports: published.put_nowait(zone),
            timeout_s,
        )

    start.server, start.published = server, published
    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


SPEC = {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80}]}


async def test_the_first_zone_has_everything(feed):
    feed.server.objects = {
        "namespaces": [named("Namespace", "default")],
        "services": [named("Service", "web", "default", spec=SPEC)],
    }
    feed.server.gate.set()
    await feed()
    zone = feed.published.get_nowait()
    assert zone.lookup(("web", "default", "svc"), A_).records[0].value == "10.96.0.7"
    assert {plural for plural, _, _ in feed.server.asked} == {"namespaces", "services", "endpointslices"}


async def test_a_server_that_does_not_come_does_not_hold_up_the_start(feed, caplog):
    await feed(timeout_s=0.05)
    assert feed.published.empty()
    assert "unsynced" in caplog.text


async def test_changes_arrive_in_the_next_zone(feed):
    feed.server.objects = {"namespaces": [named("Namespace", "default")]}
    feed.server.gate.set()
    await feed()
    feed.published.get_nowait()
    for name in ("a", "b", "c"):
        feed.server.queues["services"].put_nowait(WatchEvent("ADDED", named("Service", name, "default", spec=SPEC)))
    async with asyncio.timeout(5):
        while True:
            zone = await feed.published.get()
            if all(zone.lookup((name, "default", "svc"), A_).exists for name in ("a", "b", "c")):
                break
        feed.server.queues["services"].put_nowait(WatchEvent("DELETED", named("Service", "a", "default", spec=SPEC)))
        while (await feed.published.get()).lookup(("a", "default", "svc"), A_).exists:
            pass


async def test_the_server_filters_what_it_can(feed):
    feed.server.gate.set()
    await feed("kubernetes cluster.local {\n labels app=x\n pods verified\n noendpoints\n}")
    running = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"
    assert sorted(feed.server.asked) == [("namespaces", "", ""), ("pods", "", running), ("services", "app=x", "")]


# --- identity -------------------------------------------------------------------------------------------------------


def test_in_a_pod_it_is_its_service_account(tmp_path):
    (tmp_path / "token").write_text("t")
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    endpoint = endpoint_of(ApiOptions(), environ, tmp_path)
    assert endpoint.server == "https://10.96.0.1:443"
    assert endpoint.token_file == tmp_path / "token"
    assert endpoint.ca_file == tmp_path / "ca.crt"
    environ["KUBERNETES_SERVICE_HOST"] = "fd00::1"
    assert endpoint_of(ApiOptions(), environ, tmp_path).server == "https://[fd00::1]:443"


@pytest.mark.parametrize("environ", [{}, {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}])
def test_outside_of_a_pod_it_says_what_is_missing(environ, tmp_path):
    with pytest.raises(IdentityError, match="unable to load in-cluster configuration"):
        endpoint_of(ApiOptions(), environ, tmp_path)


def test_options_name_another_server():
    options = ApiOptions(server="https://10.0.0.1:6443", cert_file="c", key_file="k", ca_file="a")
    endpoint = endpoint_of(options, {})
    assert (endpoint.server, str(endpoint.cert_file), str(endpoint.ca_file)) == ("https://10.0.0.1:6443", "c", "a")


def test_a_kubeconfig_with_embedded_data(tmp_path):
    data = base64.b64encode(b"pem").decode()
    document = {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://h:1", "certificate-authority-data": data}}],
        "users": [{"name": "u", "user": {"client-certificate-data": data, "client-key-data": data}}],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(document))
    endpoint = kubeconfig_endpoint(path)
    written = [endpoint.ca_file, endpoint.cert_file, endpoint.key_file]
    try:
        assert endpoint.server == "https://h:1"
        assert [file.read_bytes() for file in written] == [b"pem"] * 3
        assert all(file.stat().st_mode & 0o077 == 0 for file in written)
    finally:
        for file in written:
            file.unlink()
    with pytest.raises(IdentityError, match="no context 'two'"):
        kubeconfig_endpoint(path, "two")
    with pytest.raises(IdentityError, match="kubeconfig"):
        kubeconfig_endpoint(tmp_path / "none")


def test_what_a_server_sees_of_its_pod():
    trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n        |-- 10.244.1.2\n           /32 host LOCAL\n        |-- 10.244.1.255\n"
    assert [*parse_fib_trie(trie)] == ["10.244.1.2"]
    line = "fd000077003000000000000000000001 02 40 00 80     eth0\n"
    assert [*parse_if_inet6(line)] == ["fd00:77:30::1"]
    assert parse_searches("search a\nnameserver 10.0.0.1\nsearch Example.org . b.\n") == ("example.org.", "b.")
    assert parse_searches("# nothing\n") == ()


# --- the add-on -----------------------------------------------------------------------------------------------------


def test_the_default_corefile_is_one():
    (config,) = parse_config(default_corefile("my.zone"))
    check_directives(config)
    assert [each.name for each in config.directives] == [
        "errors",
        "health",
        "ready",
        "kubernetes",
        "prometheus",
        "forward",
        "cache",
        "loop",
        "reload",
        "loadbalance",
    ]
    (line,) = config.named("kubernetes")
    assert line.words == ("my.zone", "in-addr.arpa", "ip6.arpa")


def test_the_addon_hangs_together():
    objects = {obj["kind"]: obj for _, obj in dns_addon("10.96.0.10")}
    for resource, obj in dns_addon("10.96.0.10"):
        assert (resource.kind, resource.api_version) == (obj["kind"], obj["apiVersion"])
        assert obj["metadata"].get("namespace", "") == ("kube-system" if resource.namespaced else "")
    template = objects["Deployment"]["spec"]["template"]
    assert objects["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert template["spec"]["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]
    assert objects["Deployment"]["spec"]["replicas"] == 2
    ports = {(port["port"], port["protocol"]) for port in objects["Service"]["spec"]["ports"]}
    assert ports == {(53, "UDP"), (53, "TCP"), (9153, "TCP")}
    assert {p["containerPort"] for p in template["spec"]["containers"][0]["ports"]} == {53, 9153}


def test_everything_is_imported_before_there_are_no_files():
    preload()
    missing = [name for name in ORDER if name != "root" and f"podnet.dns.plugins.{name}" not in sys.modules]
    # What a Corefile may name must be there before the container is; `template` and the like come with their file.
    assert [name for name in missing if (ROOT / "dns" / "plugins" / f"{name}.py").exists()] == []


def test_list_of_resources_is_what_names_are_made_of():
    rules = next(obj for _, obj in dns_addon("10.96.0.10") if obj["kind"] == "ClusterRole")["rules"]
    allowed = {(group, name) for rule in rules for group in rule["apiGroups"] for name in rule["resources"]}
    for resource in (NAMESPACES, SERVICES, ENDPOINTSLICES):
        assert (resource.group, resource.plural) in allowed


def test_names_of_nodes_are_an_option():
    assert "nodes" not in default_corefile()
    objects = {obj["kind"]: obj for _, obj in dns_addon("10.96.0.10", node_names=True)}
    (config,) = parse_config(objects["ConfigMap"]["data"]["Corefile"])
    (line,) = config.named("kubernetes")
    assert "nodes" in [each.name for each in line.block]
    assert "nodes" in objects["ClusterRole"]["rules"][0]["resources"]
