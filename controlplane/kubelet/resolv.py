"""A pod's /etc/resolv.conf from dnsPolicy, dnsConfig and the node's own file.

Pure. Source: kubernetes.io/docs/concepts/services-networking/dns-pod-service (policies, limits: 3 name servers, 32
search domains, 2048 characters); resolv.conf(5).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from podnet.controlplane.api.types import Object
from podnet.controlplane.kubelet import pod_spec

NAMESERVERS_MAX = 3
SEARCHES_MAX = 32
SEARCH_CHARACTERS_MAX = 2048
SEARCH_DOMAIN_MAX = 253
MISSING_CLUSTER_DNS = (
    'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. '
    'Falling back to "Default" policy.'
)


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The three lines that matter; an option is `name` or `name:value`."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def render(self) -> str:
        """The file's text, in the order in which a container runtime writes it."""
        lines = []
        if self.searches:
            lines.append("search " + " ".join(self.searches))
        lines += [f"nameserver {server}" for server in self.nameservers]
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "".join(line + "\n" for line in lines)


def parse_resolv_conf(text: str) -> ResolvConf:
    """Read a resolv.conf: the last `search` or `domain` line counts, a search of `.` alone is none."""
    nameservers: list[str] = []
    searches: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        keyword, values = words[0], words[1:]
        if keyword == "nameserver" and values:
            nameservers.append(values[0])
        elif keyword in {"search", "domain"}:
            searches = tuple(value if value == "." else value.rstrip(".") for value in values)
        elif keyword == "options":
            options += values
    return ResolvConf(tuple(nameservers), searches, tuple(options))


def pod_resolv_conf(
    pod: Object, node: ResolvConf, cluster_dns: Iterable[str], cluster_domain: str
) -> tuple[ResolvConf, list[str]]:
    """(what the pod gets, one message for each limit that cut something: events DNSConfigForming)."""
    dns = _by_policy(pod, node, tuple(cluster_dns), cluster_domain)
    config = pod["spec"].get("dnsConfig") or {}
    dns = ResolvConf(
        _unique((*dns.nameservers, *(config.get("nameservers") or ()))),
        _unique((*dns.searches, *(config.get("searches") or ()))),
        _merge_options(dns.options, config.get("options") or ()),
    )
    return _limit(dns)


def wants_cluster_dns(pod: Object) -> bool:
    """Whether the pod's policy means the cluster's name server."""
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    # ClusterFirst means the cluster's DNS only for a pod with a network of its own.
    return policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not pod_spec.host_network(pod))


def _by_policy(pod: Object, node: ResolvConf, cluster_dns: tuple[str, ...], cluster_domain: str) -> ResolvConf:
    if pod["spec"].get("dnsPolicy") == "None":
        return ResolvConf()
    if not wants_cluster_dns(pod) or not cluster_dns:
        return node
    namespace = pod_spec.namespace_of(pod)
    searches = (f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain)
    return ResolvConf(cluster_dns, _unique((*searches, *node.searches)), ("ndots:5",))


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _merge_options(options: Iterable[str], more: Iterable[dict[str, str]]) -> tuple[str, ...]:
    merged = {option.partition(":")[0]: option for option in options}
    for entry in more:
        name = entry.get("name", "")
        value = entry.get("value")
        merged[name] = f"{name}:{value}" if value else name
    return tuple(merged.values())


def _limit(dns: ResolvConf) -> tuple[ResolvConf, list[str]]:
    messages: list[str] = []
    nameservers, searches = dns.nameservers, dns.searches
    if len(nameservers) > NAMESERVERS_MAX:
        nameservers = nameservers[:NAMESERVERS_MAX]
        messages.append(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
            + " ".join(nameservers)
        )
    kept: list[str] = []
    length = 0
    # A domain that is longer than any name makes no name: it is left out, the rest stays.
    possible = [search for search in searches if len(search.rstrip(".")) <= SEARCH_DOMAIN_MAX]
    for search in possible[:SEARCHES_MAX]:
        length += len(search) + (1 if kept else 0)
        if length > SEARCH_CHARACTERS_MAX:
            break
        kept.append(search)
    if len(kept) < len(searches):
        messages.append(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
            + " ".join(kept)
        )
    return ResolvConf(nameservers, tuple(kept), dns.options), messages
