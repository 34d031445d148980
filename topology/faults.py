"""Breaking and mending cables: what one direction loses, delays or carries at most.

Rate and delay are queues (tbf, netem) at both ends. Loss is an nft rule at both ends' ingress, since many kernels are
built without netem: `numgen random` drops as many frames in ten thousand as asked. This file decides; `underlay` applies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from podnet.topology.kernel import KernelError

RATE_MIN_BIT_S, RATE_MAX_BIT_S = 8_000, 10**13
DELAY_MAX_MS = 10_000
_PARTS = 10_000
NO_NETEM = (
    "delay needs the netem queue, which this kernel does not have (CONFIG_NET_SCH_NETEM, module sch_netem; "
    "on Ubuntu: apt install linux-modules-extra-$(uname -r))"
)
NO_NUMGEN = "loss needs nftables' netdev family and numgen, which this kernel does not have (module nft_numgen)"


@dataclass(frozen=True, slots=True)
class LinkState:
    """A cable as it is now. `up` is whether it is plugged in; `a_interface` and `b_interface` name its ends."""

    a: str
    b: str
    up: bool
    rate_bit_s: int
    delay_ms: float
    loss_percent: float
    a_interface: str
    b_interface: str


def shape_problem(rate_bit_s: float, delay_ms: float, loss_percent: float) -> str:
    """What is wrong with the shape wished for a cable, or nothing. Not-a-number is outside every range."""
    if not (rate_bit_s == 0 or RATE_MIN_BIT_S <= rate_bit_s <= RATE_MAX_BIT_S):
        return f"the rate must be 0 (no limit) or from 8kbit to 10Tbit, not {rate_bit_s} bit/s"
    if not 0 <= delay_ms <= DELAY_MAX_MS:
        return f"the delay must be from 0 to 10s, not {delay_ms} ms"
    if not 0 <= loss_percent <= 100:
        return f"the loss must be from 0% to 100%, not {loss_percent}%"
    return ""


def loss_table(ifname: str) -> str:
    """The nft table that holds an interface's loss."""
    return "podnet_loss_" + re.sub(r"[^A-Za-z0-9]", "_", ifname)


def render_loss(ifname: str, loss_percent: float) -> str:
    """The nft script that makes an interface lose so much of what arrives; 0 takes the rule away."""
    table = loss_table(ifname)
    clean = f"add table netdev {table}\ndelete table netdev {table}\n"
    if not loss_percent:
        return clean
    lost = max(1, round(loss_percent * _PARTS / 100))
    rule = "drop" if lost >= _PARTS else f"numgen random mod {_PARTS} < {lost} drop"
    return (
        f"{clean}table netdev {table} {{\n"
        f"  chain ingress {{\n"
        f'    type filter hook ingress device "{ifname}" priority 0; policy accept;\n'
        f"    {rule}\n"
        f"  }}\n"
        f"}}\n"
    )


def unsupported(error: KernelError, reason: str) -> str:
    """The reason, with what the kernel said."""
    return f"{reason}: {str(error).splitlines()[0]}"
