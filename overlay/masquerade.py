"""Masquerading: pods reach the world beyond the cluster with their node's address.

This file decides; the text is one nft transaction over one table of our own. Between pods, and between pods and nodes,
nothing is ever translated: the receiver sees the sender's own address, which is the first rule of Kubernetes networking.

    from a pod -> to a pod, a node, or a group   leave alone
    from a pod -> anywhere else                  masquerade
    everything else                              never looked at

A packet to a Service's address has been given an endpoint by the time it comes here (postrouting is last), so Services
need no rule. Source: Kubernetes' network model; nft(8).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

TABLE = "podnet-masq"


def render_masquerade(
    pod_network: IPv4Network, nodes: Iterable[IPv4Address], direct: Iterable[IPv4Network] = ()
) -> str:
    """The whole table, replacing what there was. `nodes` are the nodes' addresses, `direct` further destinations that
    know their way back to pods."""
    networks = sorted(collapse_addresses([pod_network, *direct]))
    # An interval set refuses elements that overlap.
    singles = sorted(address for address in set(nodes) if not any(address in network for network in networks))
    elements = ", ".join(str(element) for element in (*networks, *singles))
    return (
        f"add table ip {TABLE}\n"
        f"delete table ip {TABLE}\n"
        f"table ip {TABLE} {{\n"
        "  set cluster {\n"
        "    type ipv4_addr\n"
        "    flags interval\n"
        f"    elements = {{ {elements} }}\n"
        "  }\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        f"    ip saddr != {pod_network} return\n"
        "    ip daddr @cluster return\n"
        "    ip daddr 224.0.0.0/4 return\n"
        "    masquerade fully-random\n"
        "  }\n"
        "}\n"
    )


def render_no_masquerade() -> str:
    """The removal of the table, whether it is there or not."""
    return f"add table ip {TABLE}\ndelete table ip {TABLE}\n"
