"""ClusterSpec → cluster.yaml: `load_cluster_spec(cluster_yaml(spec)) == spec`.

Pure. Everything is written out, defaults too, so that the file in a cluster's state directory is the whole truth.
"""

from __future__ import annotations

from typing import Any

import yaml

from podnet.topology.spec.types import API_VERSION, KIND, ClusterSpec, HostSpec, LinkSpec, NodeSpec, TimingSpec

_RATE_UNITS = ((10**9, "Gbit"), (10**6, "Mbit"), (10**3, "kbit"))


def cluster_yaml(spec: ClusterSpec) -> str:
    """The whole file."""
    return yaml.safe_dump(cluster_dict(spec), sort_keys=False, default_flow_style=None, width=110)


def cluster_dict(spec: ClusterSpec) -> dict[str, Any]:
    """The same as a dict."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": spec.name},
        "spec": {
            "podCIDR": str(spec.pod_cidr),
            "serviceCIDR": str(spec.service_cidr),
            "nodeCIDRMaskSize": spec.node_cidr_mask_size,
            "clusterDomain": spec.cluster_domain,
            "underlay": {
                "cidr": str(spec.underlay.cidr),
                "gateway": str(spec.underlay.gateway),
                "mtu": spec.underlay.mtu,
            },
            "overlay": {
                "mode": spec.overlay.mode,
                "vni": spec.overlay.vni,
                "port": spec.overlay.port,
                "mtu": spec.overlay.mtu,
            },
            "proxy": {"mode": spec.proxy.mode, "masqueradeAll": spec.proxy.masquerade_all},
            "dns": {
                "enabled": spec.dns.enabled,
                "clusterIP": str(spec.dns.cluster_ip),
                "nodeNames": spec.dns.node_names,
            },
            "store": {"driver": spec.store.driver},
            "timing": _timing(spec.timing),
            "nodes": [_node(node) for node in spec.nodes],
            "hosts": [_host(host) for host in spec.hosts],
            "switches": [{"name": switch.name, "kind": switch.kind} for switch in spec.switches],
            "links": [_link(link) for link in spec.links],
        },
    }


def render_rate(rate_bit_s: int) -> str:
    """`100Mbit`: the largest unit that keeps the number whole."""
    for factor, unit in _RATE_UNITS:
        if rate_bit_s >= factor and rate_bit_s % factor == 0:
            return f"{rate_bit_s // factor}{unit}"
    return f"{rate_bit_s}bit"


def _node(node: NodeSpec) -> dict[str, Any]:
    return {
        "name": node.name,
        "role": node.role,
        "ip": str(node.ip),
        "switch": node.switch,
        **({"labels": dict(node.labels)} if node.labels else {}),
        "taints": [taint.to_dict() for taint in node.taints],
    }


def _host(host: HostSpec) -> dict[str, Any]:
    routes = [{"to": str(route.to), "via": str(route.via)} for route in host.routes]
    return {
        "name": host.name,
        "ip": str(host.ip),
        "switch": host.switch,
        "role": host.role,
        **({"routes": routes} if routes else {}),
    }


def _link(link: LinkSpec) -> dict[str, Any]:
    return {
        "endpoints": [link.a, link.b],
        **({"rate": render_rate(link.rate_bit_s)} if link.rate_bit_s else {}),
        **({"delay": f"{link.delay_ms:.3f}ms"} if link.delay_ms else {}),
        **({"loss": f"{link.loss_percent!r}%"} if link.loss_percent else {}),
    }


def _timing(timing: TimingSpec) -> dict[str, Any]:
    return {
        "profile": timing.profile,
        "nodeMonitorPeriod": timing.node_monitor_period_s,
        "nodeMonitorGracePeriod": timing.node_monitor_grace_period_s,
        "nodeStatusUpdateFrequency": timing.node_status_update_frequency_s,
        "nodeLeaseDurationSeconds": timing.node_lease_duration_s,
        "defaultTolerationSeconds": timing.default_toleration_s,
    }
