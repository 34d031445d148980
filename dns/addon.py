"""The DNS add-on: the objects that make a cluster resolve names, as kubeadm installs them. Pure: it only states them.

    ConfigMap coredns ──▶ Deployment coredns (2 pods) ◀── Service kube-dns (10.96.0.10: dns, dns-tcp, metrics)
    ServiceAccount coredns ──▶ ClusterRole system:coredns: list and watch what names are made of

Source: kubeadm's CoreDNS manifests (Kubernetes 1.32). One number is ours: readiness is probed every second, not every ten,
so that a cluster that has just booted need not wait for the second try.
"""

from __future__ import annotations

from podnet.controlplane.api.resources import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    CONFIGMAPS,
    DEPLOYMENTS,
    SERVICEACCOUNTS,
    SERVICES,
)
from podnet.controlplane.api.types import Object, Resource

NAMESPACE = "kube-system"
DEPLOYMENT = "coredns"
SERVICE = "kube-dns"
REPLICAS = 2
IMAGE = "registry.k8s.io/coredns/coredns:v1.11.3"
METRICS_PORT = 9153

_LABELS = {"k8s-app": "kube-dns"}
_READINESS_PERIOD_S = 1

_COREFILE = """\
.:53 {{
    errors
    health {{
       lameduck 5s
    }}
    ready
    kubernetes {domain} in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30{nodes}
    }}
    prometheus :{metrics}
    forward . /etc/resolv.conf {{
       max_concurrent 1000
    }}
    cache 30 {{
       disable success {domain}
       disable denial {domain}
    }}
    loop
    reload
    loadbalance
}}
"""


def default_corefile(cluster_domain: str = "cluster.local", *, node_names: bool = False) -> str:
    """The cluster's Corefile; `node_names` adds what Kubernetes does not have, names of nodes."""
    nodes = "\n       nodes" if node_names else ""
    return _COREFILE.format(domain=cluster_domain, metrics=METRICS_PORT, nodes=nodes)


def dns_addon(
    cluster_ip: str, cluster_domain: str = "cluster.local", *, node_names: bool = False
) -> list[tuple[Resource, Object]]:
    """Every object, in an order in which each finds what it needs."""
    corefile = default_corefile(cluster_domain, node_names=node_names)
    return [
        (SERVICEACCOUNTS, _object("v1", "ServiceAccount", "coredns")),
        (CLUSTERROLES, _cluster_role(node_names=node_names)),
        (CLUSTERROLEBINDINGS, _cluster_role_binding()),
        (CONFIGMAPS, {**_object("v1", "ConfigMap", "coredns"), "data": {"Corefile": corefile}}),
        (SERVICES, _service(cluster_ip)),
        (DEPLOYMENTS, _deployment()),
    ]


def _object(api_version: str, kind: str, name: str, *, namespace: str = NAMESPACE, **metadata: object) -> Object:
    where = {"namespace": namespace} if namespace else {}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **where, **metadata}}


def _cluster_role(*, node_names: bool) -> Object:
    role = _object("rbac.authorization.k8s.io/v1", "ClusterRole", "system:coredns", namespace="")
    core = ["endpoints", "services", "pods", "namespaces", *(["nodes"] if node_names else [])]
    verbs = ["list", "watch"]
    return {
        **role,
        "rules": [
            {"apiGroups": [""], "resources": core, "verbs": verbs},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
        ],
    }


def _cluster_role_binding() -> Object:
    binding = _object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "system:coredns", namespace="")
    return {
        **binding,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": NAMESPACE}],
    }


def _service(cluster_ip: str) -> Object:
    labels = {**_LABELS, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    annotations = {"prometheus.io/port": str(METRICS_PORT), "prometheus.io/scrape": "true"}
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
        {"name": "metrics", "port": METRICS_PORT, "protocol": "TCP", "targetPort": METRICS_PORT},
    ]
    return {
        **_object("v1", "Service", SERVICE, labels=labels, annotations=annotations),
        "spec": {"clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "selector": _LABELS, "ports": ports},
    }


def _deployment() -> Object:
    return {
        **_object("apps/v1", "Deployment", DEPLOYMENT, labels=_LABELS),
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": _LABELS},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {"metadata": {"labels": _LABELS}, "spec": _pod_spec()},
        },
    }


def _pod_spec() -> Object:
    apart = {
        "labelSelector": {"matchExpressions": [{"key": "k8s-app", "operator": "In", "values": ["kube-dns"]}]},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": apart}]
            }
        },
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": "coredns",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [
            {"key": "CriticalAddonsOnly", "operator": "Exists"},
            {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
        ],
        "dnsPolicy": "Default",  # the node's resolv.conf: asking itself would be a loop
        "containers": [_container()],
        "volumes": [
            {
                "name": "config-volume",
                "configMap": {"name": "coredns", "items": [{"key": "Corefile", "path": "Corefile"}]},
            }
        ],
    }


def _container() -> Object:
    return {
        "name": "coredns",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "volumeMounts": [{"name": "config-volume", "mountPath": "/etc/coredns", "readOnly": True}],
        "ports": [
            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
            {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
            {"containerPort": METRICS_PORT, "name": "metrics", "protocol": "TCP"},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": 8080, "scheme": "HTTP"},
            "initialDelaySeconds": 60,
            "timeoutSeconds": 5,
            "successThreshold": 1,
            "failureThreshold": 5,
        },
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": 8181, "scheme": "HTTP"},
            "periodSeconds": _READINESS_PERIOD_S,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
