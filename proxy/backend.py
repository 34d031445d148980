"""The seam between the agent and the modes: what a mode has to offer."""

from __future__ import annotations

from typing import Protocol

from podnet.proxy.model import Model


class Backend(Protocol):
    """One way to make a model true in one node's namespace. Methods block for as long as the kernel takes; the agent
    calls them one at a time, from a thread. KernelError where the kernel refuses."""

    def sync(self, model: Model) -> None:
        """Make the kernel's rules those of this model, with as small a change as the mode can. After a failed sync the
        next one replaces everything."""
        ...

    def is_intact(self) -> bool:
        """Whether the rules are still those of the last sync, as far as can be told cheaply. Never raises for rules
        that are gone: that is False."""
        ...

    def invalidate(self) -> None:
        """Trust nothing: the next sync replaces everything in one transaction."""
        ...

    def cleanup(self) -> None:
        """Remove all that this mode ever puts into the kernel, by name; harmless where there is nothing."""
        ...
