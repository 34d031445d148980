"""Services, EndpointSlices and a node, as short as the tests of the proxy need them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from podnet.proxy.model import NodeFacts, compile_model

NODE_IP = "192.168.100.11"


def facts(**fields):
    return NodeFacts(
        **{
            "name": "n1",
            "ips": (IPv4Address(NODE_IP),),
            "pod_cidr": IPv4Network("10.244.0.0/16"),
            "service_cidr": IPv4Network("10.96.0.0/16"),
            **fields,
        }
    )


def service(name="web", *, labels=None, ports=None, ingress=(), **spec):
    return {
        "metadata": {"namespace": "default", "name": name, "labels": labels or {}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.5",
            "ports": ports or [{"name": "http", "port": 80, "protocol": "TCP"}],
            **spec,
        },
        "status": {"loadBalancer": {"ingress": list(ingress)}},
    }


def endpoint(ip, node="n1", *, hints=None, **conditions):
    return {"addresses": [ip], "nodeName": node, "conditions": conditions, **({"hints": hints} if hints else {})}


def piece(*endpoints, name="web", ports=None, labels=None, family="IPv4"):
    return {
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": name, **(labels or {})}},
        "addressType": family,
        "ports": ports or [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def model(services, slices, **fields):
    return compile_model(facts(**fields), services, slices)


LOCAL, REMOTE = endpoint("10.244.1.2"), endpoint("10.244.2.2", "n2")
ON_A_NODE_PORT = [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]
"""One port with a node port; for Services of type NodePort and LoadBalancer."""
