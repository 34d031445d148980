"""Services and their endpoints as kubectl and clients see them on a booted cluster; no packet is sent here.

The Service, EndpointSlice and EndpointSliceMirroring lines of the conformance list that need no data path.
"""

from __future__ import annotations

import json
import time

import pytest

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.53"
MIRRORED = "endpointslicemirroring-controller.k8s.io"
MANAGED = "endpointslice-controller.k8s.io"


def service(name: str, **spec) -> dict:
    spec.setdefault("ports", [{"name": "http", "port": 80}])
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def pod(name: str, *, ports: tuple[dict, ...] = (), **spec) -> dict:
    container = {"name": "c", "image": AGNHOST, "args": ["pause"], "ports": [*ports]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec}


class Room:
    """One namespace of the shared cluster."""

    def __init__(self, cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def kubectl(self, *words: str, check: bool = True, **kwargs):
        return self.cluster.kubectl("-n", self.namespace, *words, check=check, **kwargs)

    def apply(self, *objects: dict, check: bool = True):
        body = {"apiVersion": "v1", "kind": "List", "items": [*objects]}
        return self.kubectl("apply", "-f", "-", input=json.dumps(body), check=check)

    def create(self, body: dict, *words: str, check: bool = True):
        return self.kubectl("create", "-f", "-", *words, input=json.dumps(body), check=check)

    def get(self, *words: str) -> dict:
        return json.loads(self.kubectl("get", *words, "-o", "json").stdout)

    def patch(self, kind: str, name: str, body: dict, *words: str, check: bool = True):
        return self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(body), *words, check=check)

    def slices(self, service_name: str) -> list[dict]:
        return self.get("endpointslices", "-l", f"kubernetes.io/service-name={service_name}")["items"]

    def addresses(self, service_name: str, *, only_ready: bool = True) -> list[str]:
        return sorted(
            address
            for found in self.slices(service_name)
            for endpoint in found.get("endpoints") or ()
            for address in endpoint["addresses"]
            if not only_ready or endpoint.get("conditions", {}).get("ready", True)
        )

    def endpoints(self, service_name: str) -> list[str]:
        found = self.get("endpoints", service_name)
        return sorted(row["ip"] for subset in found.get("subsets") or () for row in subset.get("addresses") or ())

    def pod_ips(self, *names: str) -> list[str]:
        return sorted(self.get("pod", name)["status"]["podIP"] for name in names)

    def ready(self, *names: str) -> None:
        self.kubectl("wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), "--timeout=60s")

    def wait(self, condition, what: str) -> None:
        self.cluster.wait(condition, what)


@pytest.fixture
def room(cluster, namespace) -> Room:
    return Room(cluster, namespace)


# -- addresses and ports


def test_the_secure_service_of_the_api_server_is_there(cluster):
    found = cluster.kubectl_json("get", "svc", "kubernetes", "-n", "default")
    assert found["spec"]["clusterIP"] == "10.96.0.1"
    assert [(port["name"], port["port"]) for port in found["spec"]["ports"]] == [("https", 443)]
    (found_slice,) = cluster.kubectl_json("get", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes")[
        "items"
    ]
    endpoints = cluster.kubectl_json("get", "endpoints", "kubernetes", "-n", "default")
    address = endpoints["subsets"][0]["addresses"][0]["ip"]
    assert found_slice["endpoints"][0]["addresses"] == [address]
    everywhere = cluster.kubectl("get", "svc", "-A").stdout
    assert any(line.split()[:2] == ["default", "kubernetes"] for line in everywhere.splitlines())


def test_a_node_port_is_taken_once_and_free_again(room):
    wanted = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 31999}]}
    room.apply(service("first", **wanted))
    refused = room.apply(service("second", **wanted), check=False)
    assert refused.returncode == 1
    assert "spec.ports[0].nodePort: Invalid value: 31999: provided port is already allocated" in refused.stderr
    room.kubectl("delete", "svc", "first")
    room.apply(service("second", **wanted))


def test_a_node_port_out_of_range_is_refused(room):
    refused = room.apply(service("x", type="NodePort", ports=[{"port": 80, "nodePort": 29999}]), check=False)
    assert "provided port is not in the valid range. The range of valid ports is 30000-32767" in refused.stderr


def test_changing_types_gives_back_what_the_type_has_no_use_for(room):
    room.apply(service("x", type="NodePort", ports=[{"port": 80, "nodePort": 31998}]))
    address = room.get("svc", "x")["spec"]["clusterIP"]
    room.patch("svc", "x", {"spec": {"type": "ExternalName", "externalName": "example.org"}})
    spec = room.get("svc", "x")["spec"]
    assert "clusterIP" not in spec
    assert "nodePort" not in spec["ports"][0]
    assert f"ipaddress.networking.k8s.io/{address}" not in room.kubectl("get", "ipaddresses", "-o", "name").stdout
    room.apply(service("y", type="NodePort", ports=[{"port": 80, "nodePort": 31998}], clusterIP=address))
    room.patch("svc", "x", {"spec": {"type": "ClusterIP", "externalName": None}})
    again = room.get("svc", "x")["spec"]["clusterIP"]
    assert again.startswith("10.96.")
    assert again != address


def test_who_holds_an_address_is_an_object(room):
    room.apply(service("x"))
    address = room.get("svc", "x")["spec"]["clusterIP"]
    row = room.kubectl("get", "ip", address, "--no-headers").stdout.split()
    assert row == [address, f"services/{room.namespace}/x"]
    assert room.kubectl("get", "servicecidrs", "kubernetes", "--no-headers").stdout.split()[1] == "10.96.0.0/16"


def test_a_server_side_dry_run_takes_nothing(room):
    wanted = service("x", type="NodePort", clusterIP="10.96.200.200", ports=[{"port": 80, "nodePort": 31997}])
    room.create(wanted, "--dry-run=server")
    room.create({**wanted, "metadata": {"name": "y"}})


def test_the_status_of_a_service_has_a_door_of_its_own(room):
    room.apply(service("x", type="LoadBalancer"))
    assert room.get("svc", "x")["status"] == {"loadBalancer": {}}
    room.patch("svc", "x", {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}})
    assert room.get("svc", "x")["status"] == {"loadBalancer": {}}, "not through the front door"
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}}
    room.patch("svc", "x", ingress, "--subresource=status")
    assert room.get("svc", "x")["status"]["loadBalancer"]["ingress"] == [{"ip": "203.0.113.1", "ipMode": "VIP"}]
    assert "203.0.113.1" in room.kubectl("get", "svc", "x").stdout


def test_a_collection_of_services_goes_at_once(room):
    room.apply(*(service(f"s{number}") for number in range(5)), service("kept"))
    room.kubectl("label", "svc", *(f"s{number}" for number in range(5)), "of=many")
    room.kubectl("delete", "svc", "-l", "of=many")
    assert [item["metadata"]["name"] for item in room.get("svc")["items"]] == ["kept"]


# -- endpoints


def test_endpoints_and_slices_follow_the_pods(room):
    room.apply(service("web", selector={"app": "web"}, ports=[{"name": "http", "port": 80, "targetPort": 8080}]))
    room.wait(lambda: len(room.slices("web")) == 1 and room.endpoints("web") == [], "an empty slice for nobody")
    room.apply(pod("a"))
    room.ready("a")
    room.wait(lambda: room.addresses("web") == room.endpoints("web") == room.pod_ips("a"), "one pod")
    room.apply(pod("b"))
    room.ready("b")
    room.wait(lambda: room.addresses("web") == room.endpoints("web") == room.pod_ips("a", "b"), "two pods")
    (found,) = room.slices("web")
    assert found["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert found["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == MANAGED
    assert {e["targetRef"]["name"]: e["nodeName"] for e in found["endpoints"]} == {
        name: room.get("pod", name)["spec"]["nodeName"] for name in ("a", "b")
    }
    room.kubectl("delete", "pod", "a")
    room.wait(lambda: room.addresses("web") == room.endpoints("web") == room.pod_ips("b"), "one pod again")
    room.kubectl("label", "pod", "b", "app-")
    room.wait(lambda: room.addresses("web") == room.endpoints("web") == [], "no pod")
    room.kubectl("delete", "svc", "web")
    room.wait(lambda: not room.slices("web"), "slices go with their Service")
    assert "NotFound" in room.kubectl("get", "endpoints", "web", check=False).stderr


def test_several_ports_and_ports_by_name_of_each_pod(room):
    ports = [
        {"name": "one", "port": 80, "targetPort": 100},
        {"name": "two", "port": 81, "targetPort": "named"},
    ]
    room.apply(
        service("web", selector={"app": "web"}, ports=ports),
        pod("a", ports=({"name": "named", "containerPort": 8001},)),
        pod("b", ports=({"name": "named", "containerPort": 8002},)),
    )
    room.ready("a", "b")

    def by_address() -> dict[str, dict[str, int]]:
        return {
            endpoint["addresses"][0]: {port["name"]: port["port"] for port in found["ports"]}
            for found in room.slices("web")
            for endpoint in found.get("endpoints") or ()
        }

    (a,), (b,) = room.pod_ips("a"), room.pod_ips("b")
    room.wait(lambda: by_address() == {a: {"one": 100, "two": 8001}, b: {"one": 100, "two": 8002}}, "ports per pod")


def test_unready_pods_are_published_only_when_asked_for(room):
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    unready = pod("a")
    unready["spec"]["containers"][0]["readinessProbe"] = probe
    room.apply(
        service("web", selector={"app": "web"}),
        service("all", selector={"app": "web"}, publishNotReadyAddresses=True),
        unready,
    )
    room.wait(lambda: len(room.addresses("web", only_ready=False)) == 1, "the pod has an address")
    assert room.addresses("web") == room.endpoints("web") == []
    room.wait(lambda: room.addresses("all") == room.endpoints("all") == room.pod_ips("a"), "published anyway")


def test_a_headless_service_gives_its_pods_their_names(room):
    room.apply(service("db", clusterIP="None", selector={"app": "web"}), pod("db-0", hostname="db-0", subdomain="db"))
    room.ready("db-0")
    room.wait(lambda: len(room.addresses("db")) == 1, "the pod is there")
    (found,) = room.slices("db")
    assert found["endpoints"][0]["hostname"] == "db-0"
    assert found["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_hand_made_endpoints_live_and_are_mirrored(room):
    def body(*ips: str) -> dict:
        subset = {"addresses": [{"ip": ip} for ip in ips], "ports": [{"name": "http", "port": 8080}]}
        return {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "db"}, "subsets": [subset]}

    room.apply(service("db"), body("192.0.2.5"))
    room.wait(lambda: room.addresses("db") == ["192.0.2.5"], "created")
    (found,) = room.slices("db")
    assert found["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == MIRRORED
    room.apply(body("192.0.2.6", "192.0.2.7"))
    room.wait(lambda: room.addresses("db") == ["192.0.2.6", "192.0.2.7"], "updated")
    room.kubectl("delete", "endpoints", "db")
    room.wait(lambda: not room.slices("db"), "deleted")


def test_a_slice_takes_every_verb(room):
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "x", "of": "test"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "http", "port": 80}],
    }
    room.create(body)
    room.patch("endpointslice", "mine", {"metadata": {"annotations": {"patched": "true"}}})
    body["metadata"]["annotations"] = {"patched": "true"}
    room.kubectl("replace", "-f", "-", input=json.dumps({**body, "endpoints": [{"addresses": ["192.0.2.2"]}]}))
    assert room.addresses("x") == ["192.0.2.2"]
    assert room.get("endpointslice", "mine")["metadata"]["generation"] == 2
    room.kubectl("delete", "endpointslices", "-l", "of=test")
    assert room.slices("x") == []


def test_a_thousand_endpoints_are_ten_slices(room):
    addresses = [{"ip": f"192.0.{number // 250}.{number % 250 + 1}"} for number in range(1000)]
    subset = {"addresses": addresses, "ports": [{"name": "http", "port": 8080}]}
    room.apply(
        service("big"), {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "big"}, "subsets": [subset]}
    )
    room.wait(lambda: len(room.addresses("big")) == 1000, "all are there")
    assert [len(found["endpoints"]) for found in room.slices("big")] == [100] * 10


def test_a_hundred_services_see_their_endpoint_quickly(room):
    """Conformance allows 20 s for the middle and 50 s for the slowest."""
    room.apply(pod("a"))
    room.ready("a")
    started = time.monotonic()
    room.apply(*(service(f"s{number}", selector={"app": "web"}) for number in range(100)))

    def all_there() -> bool:
        found = room.get("endpointslices")["items"]
        return sum(bool(item.get("endpoints")) for item in found) == 100

    room.wait(all_there, "a hundred endpoints")
    assert time.monotonic() - started < 20


# -- every verb of every resource around Services, as HTTP

PORT_80 = [{"name": "http", "port": 80, "protocol": "TCP"}]
BACKEND = {"service": {"name": "x", "port": {"number": 80}}}

# Group and version, plural name, has a namespace, kind, name, the rest of the object.
RESOURCES = {
    "services": ("v1", True, "Service", "verbs", {"spec": {"ports": PORT_80}}),
    "endpoints": (
        "v1",
        True,
        "Endpoints",
        "verbs",
        {"subsets": [{"addresses": [{"ip": "192.0.2.9"}], "ports": PORT_80}]},
    ),
    "endpointslices": (
        "discovery.k8s.io/v1",
        True,
        "EndpointSlice",
        "verbs",
        {"addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.9"]}], "ports": PORT_80},
    ),
    "ingresses": ("networking.k8s.io/v1", True, "Ingress", "verbs", {"spec": {"defaultBackend": BACKEND}}),
    "ingressclasses": ("networking.k8s.io/v1", False, "IngressClass", "verbs", {"spec": {"controller": "a.test/b"}}),
    "servicecidrs": (
        "networking.k8s.io/v1beta1",
        False,
        "ServiceCIDR",
        "verbs",
        {"spec": {"cidrs": ["10.200.0.0/24"]}},
    ),
    "ipaddresses": (
        "networking.k8s.io/v1beta1",
        False,
        "IPAddress",
        "192.0.2.77",
        {"spec": {"parentRef": {"group": "", "resource": "services", "namespace": "default", "name": "nobody"}}},
    ),
}


@pytest.mark.parametrize("plural", RESOURCES)
def test_every_verb(room, plural):
    version, is_namespaced, kind, name, rest = RESOURCES[plural]
    base = f"/{'api' if version == 'v1' else 'apis'}/{version}"
    collection = f"{base}/namespaces/{room.namespace}/{plural}" if is_namespaced else f"{base}/{plural}"
    chosen = f"labelSelector=of%3D{room.namespace}"

    def get(url: str) -> dict:
        return json.loads(room.kubectl("get", "--raw", url).stdout)

    before = get(collection)["metadata"]["resourceVersion"]
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": {"of": room.namespace}}, **rest}
    made = json.loads(room.kubectl("create", "--raw", collection, "-f", "-", input=json.dumps(body)).stdout)
    assert made["metadata"]["uid"]
    assert [item["metadata"]["name"] for item in get(f"{collection}?{chosen}")["items"]] == [name]
    everywhere = get(f"{base}/{plural}?{chosen}")["items"]
    assert [item["metadata"]["uid"] for item in everywhere] == [made["metadata"]["uid"]]
    room.patch(plural, name, {"metadata": {"annotations": {"patched": "yes"}}})
    found = get(f"{collection}/{name}")
    assert found["metadata"]["annotations"]["patched"] == "yes"
    # Without a version, since controllers write to it meanwhile: a range is marked ready.
    found["metadata"]["annotations"]["updated"] = "yes"
    del found["metadata"]["resourceVersion"], found["metadata"]["uid"]
    room.kubectl("replace", "-f", "-", input=json.dumps(found))
    assert set(get(f"{collection}/{name}")["metadata"]["annotations"]) >= {"patched", "updated"}
    room.kubectl("delete", "--raw", f"{collection}?{chosen}")
    room.wait(lambda: get(f"{collection}?{chosen}")["items"] == [], "the collection is gone")
    told = room.kubectl("get", "--raw", f"{collection}?watch=1&{chosen}&resourceVersion={before}&timeoutSeconds=1")
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert {event["object"]["metadata"]["name"] for event in events} == {name}
    kinds = [event["type"] for event in events]
    assert kinds[0] == "ADDED"
    assert kinds[-1] == "DELETED"
    assert kinds.count("MODIFIED") >= 2
