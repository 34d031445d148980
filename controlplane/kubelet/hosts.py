"""A pod's host name and the text of its /etc/hosts.

Pure. Source: kubelet's managed hosts file; kubernetes.io/docs/concepts/services-networking/dns-pod-service and
docs/tasks/network/customize-hosts-file-for-pods.
"""

from __future__ import annotations

from collections.abc import Sequence

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec
from podnet.controlplane.kubelet.downward import ConfigError

HOSTNAME_MAX = 63
FQDN_MAX = 64

_LOOPBACK = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "fe00::0\tip6-mcastprefix",
    "fe00::1\tip6-allnodes",
    "fe00::2\tip6-allrouters",
)


def hostname_and_domain(pod: Object, cluster_domain: str) -> tuple[str, str]:
    """`("web-0", "web.default.svc.cluster.local")`; the domain is empty without a subdomain."""
    spec = pod["spec"]
    name = spec.get("hostname") or pod_spec.name_of(pod)
    if len(name) > HOSTNAME_MAX:
        name = name[:HOSTNAME_MAX].rstrip("-.")
    subdomain = spec.get("subdomain")
    domain = f"{subdomain}.{pod_spec.namespace_of(pod)}.svc.{cluster_domain}" if subdomain else ""
    return name, domain


def sandbox_hostname(pod: Object, cluster_domain: str, node_hostname: str) -> str:
    """What `hostname` prints in the pod; ConfigError when the FQDN asked for does not fit."""
    if pod_spec.host_network(pod):
        return node_hostname
    name, domain = hostname_and_domain(pod, cluster_domain)
    if not (pod["spec"].get("setHostnameAsFQDN") and domain):
        return name
    fqdn = f"{name}.{domain}"
    if len(fqdn) > FQDN_MAX:
        raise ConfigError(
            "Failed to construct FQDN from Pod hostname and cluster domain, "
            f"FQDN {fqdn} is too long ({FQDN_MAX} characters is the max, {len(fqdn)} characters requested)"
        )
    return fqdn


def render_hosts(pod: Object, ips: Sequence[str], cluster_domain: str, node_hosts: str) -> str:
    """The file; `node_hosts` is the node's own, which a host-network pod gets."""
    if pod_spec.host_network(pod):
        text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts
        return text + _render_aliases(pod)
    name, domain = hostname_and_domain(pod, cluster_domain)
    lines = ["# Kubernetes-managed hosts file.", *_LOOPBACK]
    lines += [f"{ip}\t{name}.{domain}\t{name}" if domain else f"{ip}\t{name}" for ip in ips]
    return "\n".join(lines) + "\n" + _render_aliases(pod)


def _render_aliases(pod: Object) -> str:
    aliases = pod["spec"].get("hostAliases") or ()
    if not aliases:
        return ""
    lines = ["\t".join([alias["ip"], *(alias.get("hostnames") or ())]) for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "\n".join(lines) + "\n"
