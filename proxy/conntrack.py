"""UDP connections of endpoints that are gone: found and deleted, so that a client with a fixed port gets a living one.

UDP has no end of a connection: a client that keeps sending from one port keeps its conntrack entry alive, and with it the
translation to an endpoint that may not exist any more. TCP is never touched. Which entries are stale is decided purely
(`stale_judge`); `topology` reads and deletes them.

    sent to  client -> service address:port        answered by  endpoint -> client
             |_ one of a UDP service port, or a node port       |_ not one of its serving endpoints: stale

A service without any serving endpoint is skipped. Source: kube-proxy's clean-up.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

from podnet.proxy.model import Endpoint, Model, ServicePort
from podnet.topology.kernel import KernelError, Netns
from podnet.topology.linux.conntrack import UDP, Flow, forget_flows


def has_udp(model: Model) -> bool:
    """Whether there is anything to look for."""
    return any(port.protocol == "UDP" for port in model.ports)


def udp_serving(model: Model) -> list[tuple[str, tuple[Endpoint, ...]]]:
    """What makes a look necessary when it changes: looking costs a dump."""
    return [(port.full_name, port.serving) for port in model.ports if port.protocol == "UDP"]


def stale_judge(model: Model) -> Callable[[Flow], bool]:
    """Whether a flow's endpoint no longer serves the UDP service that the flow was opened to."""
    by_address: dict[tuple[IPv4Address, int], frozenset[tuple[IPv4Address, int]]] = {}
    by_node_port: dict[int, frozenset[tuple[IPv4Address, int]]] = {}
    for port in model.ports:
        if port.protocol != "UDP" or not port.serving:
            continue
        serving = frozenset((endpoint.ip, endpoint.port) for endpoint in port.serving)
        for address in _addresses(port):
            by_address[address, port.port] = serving
        if port.node_port:
            by_node_port[port.node_port] = serving

    def is_stale(flow: Flow) -> bool:
        if flow.protocol != UDP:
            return False
        allowed = by_address.get((flow.destination, flow.destination_port)) or by_node_port.get(flow.destination_port)
        return allowed is not None and (flow.reply_source, flow.reply_source_port) not in allowed

    return is_stale


def _addresses(port: ServicePort) -> tuple[IPv4Address, ...]:
    return (port.cluster_ip, *port.outside_ips)


def apply_cleanup(model: Model, netns: Netns = "") -> int:
    """Delete the stale flows of a namespace; how many there were. Raises KernelError."""
    if not has_udp(model):
        return 0
    try:
        return forget_flows(netns, stale_judge(model))
    except OSError as error:
        raise KernelError(f"conntrack: {error}", error.errno or 0) from error
