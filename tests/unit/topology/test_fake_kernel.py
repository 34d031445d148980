"""What only the fake has: a window for tests, and limits of the real kernel that take long to reach there."""

from __future__ import annotations

import pytest

from podnet.topology.fake import FakeKernel
from podnet.topology.kernel import AddBridge, AddVeth, KernelError, LimitRate


def test_nft_scripts_are_kept_by_namespace() -> None:
    kernel = FakeKernel()
    kernel.create_netns("a")
    kernel.nft("a", "add table ip t")
    kernel.nft("", "add table ip u")
    assert kernel.scripts("a") == ("add table ip t",)


def test_rates_can_be_looked_at() -> None:
    kernel = FakeKernel()
    kernel.apply("", [AddVeth("x", "y"), LimitRate("x", 1000)])
    assert (kernel.rate_bit_s("", "x"), kernel.rate_bit_s("", "y")) == (1000, 0)


def test_a_bridge_takes_1023_ports() -> None:
    kernel = FakeKernel()
    kernel.apply("", [AddBridge("b"), *(AddVeth(f"v{n}", f"p{n}", master="b") for n in range(1023))])
    with pytest.raises(KernelError) as caught:
        kernel.apply("", [AddVeth("one-more", "p", master="b")])
    assert caught.value.errno == 54


def test_macs_differ() -> None:
    kernel = FakeKernel()
    kernel.apply("", [AddVeth(f"v{n}", f"p{n}") for n in range(300)])
    macs = [link.mac for link in kernel.observe("").links]
    assert len(set(macs)) == len(macs)
