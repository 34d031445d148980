"""The modes of the proxy, by name: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable

from podnet.proxy.backend import Backend
from podnet.proxy.iptables.backend import IptablesBackend
from podnet.proxy.nftables.backend import NftablesBackend
from podnet.topology.kernel import Kernel, Netns

_BACKENDS: dict[str, Callable[[Kernel, Netns], Backend]] = {
    "nftables": NftablesBackend,
    "iptables": IptablesBackend,
}

MODES = tuple(_BACKENDS)


def new_backend(mode: str, kernel: Kernel, netns: Netns) -> Backend:
    """The backend of a mode. ValueError for one that this build does not have."""
    if mode not in _BACKENDS:
        raise ValueError(f"proxy mode {mode!r} is not available; there is {', '.join(_BACKENDS)}")
    return _BACKENDS[mode](kernel, netns)


def other_modes(mode: str, kernel: Kernel, netns: Netns) -> list[Backend]:
    """The backends of all other modes, for their `cleanup`."""
    return [make(kernel, netns) for name, make in _BACKENDS.items() if name != mode]
