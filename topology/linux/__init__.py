"""The real kernel: netlink, nft, sysctls, namespaces and exec. `LinuxKernel` implements `topology.kernel.Kernel`."""

from __future__ import annotations

from podnet.topology.linux.kernel import LinuxKernel

__all__ = ["LinuxKernel"]
