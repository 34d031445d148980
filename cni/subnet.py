"""subnet.env: how the overlay tells the plugin which subnet and MTU this node's pods have.

The format is flannel's, so that people find what they know: FLANNEL_NETWORK, FLANNEL_SUBNET (the gateway's address with
the prefix length), FLANNEL_MTU, FLANNEL_IPMASQ, one KEY=VALUE a line.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from podnet.cni.types import IO_FAILURE, TRY_AGAIN_LATER, CNIError


@dataclass(frozen=True, slots=True)
class Subnet:
    """The node's part of the pod network. `subnets` in order, IPv4 first; empty `network`: not said."""

    subnets: tuple[str, ...]
    network: str = ""
    mtu: int = 0


def parse_subnet_env(text: str) -> Subnet:
    """Read the lines. ValueError for a value that is none."""
    pairs = dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)
    subnets = [
        str(ipaddress.ip_interface(pairs[key]).network)
        for key in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET")
        if pairs.get(key)
    ]
    if not subnets:
        raise ValueError("FLANNEL_SUBNET is missing")
    return Subnet(tuple(subnets), pairs.get("FLANNEL_NETWORK", ""), int(pairs.get("FLANNEL_MTU") or 0))


def read_subnet_env(path: Path) -> Subnet:
    """Read the file. CNIError 11 while the overlay has not written it yet, 5 when it is broken."""
    try:
        return parse_subnet_env(path.read_text())
    except FileNotFoundError as error:
        msg = "the node has no pod subnet yet"
        raise CNIError(TRY_AGAIN_LATER, msg, f"{path} does not exist: has the overlay started?") from error
    except (OSError, ValueError) as error:
        raise CNIError(IO_FAILURE, f"cannot read {path}", str(error)) from error
