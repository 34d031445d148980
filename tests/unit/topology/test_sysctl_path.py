"""Sysctl names become paths, and nothing outside /proc/sys."""

from __future__ import annotations

import pytest

from podnet.topology.kernel import KernelError
from podnet.topology.linux.sysctl import sysctl_path


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net.bridge.bridge-nf-call-iptables", "net/bridge/bridge-nf-call-iptables"),
        ("net.ipv4.conf.eth0.rp_filter", "net/ipv4/conf/eth0/rp_filter"),
        ("net.ipv4.conf.flannel.1.rp_filter", "net/ipv4/conf/flannel.1/rp_filter"),
        ("net.ipv4.conf.flannel/1.rp_filter", "net/ipv4/conf/flannel.1/rp_filter"),
        ("net/ipv4/conf/flannel.1/rp_filter", "net/ipv4/conf/flannel.1/rp_filter"),
        ("net.ipv4.neigh.vx.7.x.gc_stale_time", "net/ipv4/neigh/vx.7.x/gc_stale_time"),
    ],
)
def test_path(key: str, path: str) -> None:
    assert sysctl_path(key) == f"/proc/sys/{path}"


@pytest.mark.parametrize(
    "key", ["", ".", "net..x", "net/../../../etc/passwd", "../x", "/etc/passwd", "net.ipv4.", "a/../b"]
)
def test_what_is_no_name_is_refused(key: str) -> None:
    with pytest.raises(KernelError, match="not a sysctl"):
        sysctl_path(key)
