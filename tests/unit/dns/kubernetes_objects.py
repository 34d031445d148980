"""API objects for the DNS tests, in few words."""

from __future__ import annotations

from podnet.dns.records.types import Change


def namespace(name, **labels):
    return Change("Namespace", "", name, {"metadata": {"name": name, "labels": labels}})


def node(name, *addresses):
    status = {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]}
    status["addresses"].append({"type": "Hostname", "address": name})
    return Change("Node", "", name, {"metadata": {"name": name}, "status": status})


def service(ns, name, *ips, ports=(("http", "tcp", 80),), external="", labels=None):
    spec = {"ports": [{"name": n, "protocol": p.upper(), "port": number} for n, p, number in ports]}
    if external:
        spec |= {"type": "ExternalName", "externalName": external}
    else:
        spec |= {"type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": [*ips]}
    return Change(
        "Service", ns, name, {"metadata": {"namespace": ns, "name": name, "labels": labels or {}}, "spec": spec}
    )


def headless(ns, name, **kwargs):
    return service(ns, name, "None", **kwargs)


def service_import(ns, name, *ips, ports=(("http", "tcp", 80),)):
    spec = {
        "type": "ClusterSetIP" if ips else "Headless",
        "ips": [*ips],
        "ports": [{"name": n, "protocol": p.upper(), "port": number} for n, p, number in ports],
    }
    return Change("ServiceImport", ns, name, {"metadata": {"namespace": ns, "name": name}, "spec": spec})


def endpoint(ip, hostname="", *, pod="", zone="", ready=True):
    out = {"addresses": [ip], "conditions": {} if ready is None else {"ready": ready}}
    if hostname:
        out["hostname"] = hostname
    if pod:
        out["targetRef"] = {"kind": "Pod", "name": pod}
    if zone:
        out["zone"] = zone
    return out


def endpoint_slice(ns, svc, *endpoints, ports=(("http", "tcp", 80),), name="", cluster="", labels=None):
    prefix = "multicluster.kubernetes.io" if cluster else "kubernetes.io"
    found = {f"{prefix}/service-name": svc, **(labels or {})}
    if cluster:
        found["multicluster.kubernetes.io/source-cluster"] = cluster
    name = name or f"{svc}-slice"
    body = {
        "metadata": {"namespace": ns, "name": name, "labels": found},
        "addressType": "IPv6" if endpoints and ":" in endpoints[0]["addresses"][0] else "IPv4",
        "endpoints": [*endpoints],
        "ports": [{"name": n, "protocol": p.upper(), "port": number} for n, p, number in ports],
    }
    return Change("EndpointSlice", ns, name, body)


def pod(ns, name, *ips, phase="Running", **metadata):
    status = {"phase": phase, "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]} if ips else {"phase": phase}
    return Change("Pod", ns, name, {"metadata": {"namespace": ns, "name": name, **metadata}, "status": status})


def gone(change):
    """The same object, deleted."""
    return Change(change.kind, change.namespace, change.name, None)


NAMESPACES = [namespace(name) for name in ("testns", "podns", "svcns", "kube-system", "unexposedns")]

_HDLS1 = [
    endpoint("172.0.0.2"),
    endpoint("172.0.0.3"),
    endpoint("172.0.0.4", "dup-name"),
    endpoint("172.0.0.5", "dup-name"),
]
_HDLS1_6 = [endpoint("5678:abcd::1"), endpoint("5678:abcd::2")]

SERVICES = [
    service("testns", "svc1", "10.0.0.1"),
    endpoint_slice("testns", "svc1", endpoint("172.0.0.1", "ep1a")),
    service("testns", "svcempty", "10.0.0.1"),
    endpoint_slice("testns", "svcempty"),
    service("testns", "svc6", "1234:abcd::1"),
    endpoint_slice("testns", "svc6", endpoint("5678:abcd::9")),
    service("testns", "svc-dual-stack", "10.0.0.3", "10::3"),
    endpoint_slice("testns", "svc-dual-stack", endpoint("172.0.0.9")),
    headless("testns", "hdls1", ports=()),
    endpoint_slice("testns", "hdls1", *_HDLS1),
    endpoint_slice("testns", "hdls1", *_HDLS1_6, name="hdls1-slice6"),
    headless("testns", "hdlsprtls", ports=()),
    endpoint_slice("testns", "hdlsprtls", endpoint("172.0.0.20"), ports=()),
    headless("testns", "headless-none"),
    endpoint_slice("testns", "headless-none", endpoint("172.0.0.30", ready=False)),
    service("testns", "external", external="ext.interwebs.test"),
    service("testns", "external-to-service", external="svc1.testns.svc.cluster.local."),
    service("unexposedns", "svc1", "10.0.0.2"),
    service("kube-system", "kubedns", "10.0.0.10", ports=(("dns", "udp", 53),)),
    endpoint_slice("kube-system", "kubedns", endpoint("172.0.0.100"), ports=(("dns", "udp", 53),)),
]
CLUSTER = [*NAMESPACES, *SERVICES, pod("podns", "foo", "10.240.0.1")]

MULTICLUSTER = [
    *NAMESPACES,
    service_import("testns", "svc1", "10.0.0.1"),
    endpoint_slice("testns", "svc1", endpoint("172.0.0.1", "ep1a"), cluster="cluster1"),
    service_import("testns", "svcempty", "10.0.0.1"),
    service_import("testns", "svc6", "1234:abcd::1"),
    service_import("testns", "svc-dual-stack", "10.0.0.3", "10::3"),
    service_import("testns", "hdls1"),
    endpoint_slice("testns", "hdls1", *_HDLS1, cluster="cluster1"),
    endpoint_slice("testns", "hdls1", *_HDLS1_6, name="hdls1-slice6", cluster="cluster1"),
    service_import("testns", "hdlsprtls"),
    endpoint_slice("testns", "hdlsprtls", endpoint("172.0.0.20"), ports=(), cluster="cluster1"),
]

REVERSE = [
    *NAMESPACES,
    service("testns", "svc1", "192.168.1.100"),
    endpoint_slice("testns", "svc1", endpoint("10.0.0.100", "ep1a"), endpoint("10.0.0.99", "double-ep"), name="a"),
    endpoint_slice("testns", "svc1", endpoint("10.0.0.100", "ep1a"), name="b"),
    endpoint_slice(
        "testns",
        "svc1",
        endpoint("1234:abcd::1", "ep1b"),
        endpoint("fd00:77:30::a", "ip6svc1ex"),
        endpoint("fd00:77:30::2:9ba6", "ip6svc1in"),
        name="c",
    ),
    endpoint_slice("testns", "svc2", endpoint("10.0.0.99", "double-ep"), name="d"),
]

ZONAL = [
    *NAMESPACES,
    headless("testns", "hdls"),
    endpoint_slice(
        "testns",
        "hdls",
        endpoint("172.0.0.1", zone="us-west-2a"),
        endpoint("172.0.0.2", zone="us-west-2b"),
        endpoint("172.0.0.3", zone="us-west-2b"),
    ),
    service("testns", "clstr", "10.0.0.5"),
    endpoint_slice("testns", "clstr", endpoint("172.0.0.7", zone="us-west-2a")),
]
