"""The nftables mode at the kernel: full load the first time and after a failure, else only what has changed.

What the kernel has is remembered, never listed on the way: an update costs what it changes. Listing happens twice: before
a full load, to carry clients' affinity over, and when the generation number says that somebody else wrote rules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from podnet.proxy.model import Model
from podnet.proxy.nftables.generation import observe_generation
from podnet.proxy.nftables.listing import dynamic_elements, is_listed
from podnet.proxy.nftables.render import compile_ruleset
from podnet.proxy.nftables.ruleset import TABLE, Ruleset, diff_ruleset, render_cleanup, render_full
from podnet.topology.kernel import Kernel, KernelError, Netns

LOG = logging.getLogger(__name__)


class NftablesBackend:
    """A `Backend` (see proxy/backend.py) over one table."""

    def __init__(
        self, kernel: Kernel, netns: Netns = "", generation: Callable[[Netns], int] = observe_generation
    ) -> None:
        self._kernel = kernel
        self._netns = netns
        self._observe_generation = generation
        self._applied: Ruleset | None = None
        self._generation: int | None = None

    def sync(self, model: Model) -> None:
        """Make the table that of the model."""
        want = compile_ruleset(model)
        have, self._applied = self._applied, None  # unknown, until all scripts have gone through
        if have is None:
            self._run(self._full(want))
        else:
            changes = diff_ruleset(have, want)
            self._run(*(script for script in (changes.update, changes.prune) if script))
        self._applied = want

    def is_intact(self) -> bool:
        """See `Backend`: one small request while nobody else writes rules, a listing when somebody did."""
        if self._applied is None:
            return False
        generation = self._generation_or_none()
        if generation is not None and generation == self._generation:
            return True
        if not is_listed(self._applied, self._listing()):
            return False
        self._generation = generation
        return True

    def invalidate(self) -> None:
        """Replace everything next time."""
        self._applied = None

    def cleanup(self) -> None:
        """Delete the table."""
        self._applied = None
        self._kernel.nft(self._netns, render_cleanup())

    def _full(self, want: Ruleset) -> str:
        script = render_full(want)
        for name, elements in dynamic_elements(want, self._listing()).items():
            script += f"add element ip {TABLE} {name} {{ {', '.join(elements)} }}\n"
        return script

    def _run(self, *scripts: str) -> None:
        before = self._generation_or_none()
        unchanged = before is not None and before == self._generation
        for script in scripts:
            self._kernel.nft(self._netns, script)
        after = self._generation_or_none()
        full = self._generation is None
        # Raised by more than we did, somebody else wrote too: then `is_intact` has to look closer.
        ours = before is not None and after == before + len(scripts)
        self._generation = after if ours and (unchanged or full) else -1

    def _listing(self) -> str:
        try:
            return self._kernel.nft(self._netns, f"list table ip {TABLE}\n")
        except KernelError as error:
            if not error.is_not_found:
                LOG.warning("cannot list table %s: %s", TABLE, error)
            return ""

    def _generation_or_none(self) -> int | None:
        try:
            return self._observe_generation(self._netns)
        except KernelError as error:
            LOG.debug("%s", error)
            return None
