"""What a cable carries, written into the kernel at one of its ends: the queue that limits and delays, the rule that loses.

`faults` decides what is possible and words it; this applies it.
"""

from __future__ import annotations

from podnet.topology import faults, links
from podnet.topology.kernel import Kernel, KernelError
from podnet.topology.links import End
from podnet.topology.node import UnderlayError
from podnet.topology.spec.types import LinkSpec


def apply_queue(kernel: Kernel, end: End, link: LinkSpec, before: LinkSpec) -> None:
    """Rate and delay of one direction; nothing is done where there is none and was none."""
    try:
        if not link.rate_bit_s and not link.delay_ms and not (before.rate_bit_s or before.delay_ms):
            return
        kernel.apply(end.netns, [links.plan_rate(end.ifname, link.rate_bit_s, link.delay_ms)])
    except KernelError as error:
        if error.is_unsupported and link.delay_ms:
            raise UnderlayError(faults.unsupported(error, faults.NO_NETEM)) from error
        raise


def apply_loss(kernel: Kernel, end: End, loss_percent: float) -> None:
    """What one direction loses."""
    try:
        kernel.nft(end.netns, faults.render_loss(end.ifname, loss_percent))
    except KernelError as error:
        raise UnderlayError(faults.unsupported(error, faults.NO_NUMGEN)) from error
