"""The nftables mode at the kernel: full load the first time and after a failure, else only what has changed.

What the kernel has is remembered, never listed on the way: an update costs what it changes. Listing happens twice: before
a full load, to carry clients' affinity over, and when the generation number says that somebody else wrote rules.

What the kernel refuses as too long for one transaction goes in several, see split.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from podnet.proxy.fragments import Fragments
from podnet.proxy.model import Model, NodeFacts
from podnet.proxy.nftables.generation import Generations
from podnet.proxy.nftables.listing import dynamic_elements, is_listed, observed_ruleset
from podnet.proxy.nftables.render import assemble, claims_of, compile_port
from podnet.proxy.nftables.ruleset import TABLE, Ruleset, diff_ruleset, render_cleanup, render_full
from podnet.proxy.nftables.split import halve_steps, join_steps, plan_steps
from podnet.topology.kernel import Kernel, KernelError, Netns

LOG = logging.getLogger(__name__)

_TOO_LONG = (90, 105)
"""EMSGSIZE, ENOBUFS: nothing of the transaction was taken."""


class NftablesBackend:
    """A `Backend` (see proxy/backend.py) over one table."""

    def __init__(self, kernel: Kernel, netns: Netns = "", generation: Callable[[Netns], int] | None = None) -> None:
        self._kernel = kernel
        self._netns = netns
        self._observe_generation = generation or Generations()
        self._fragments = Fragments(compile_port, claims_of)
        self._node: NodeFacts | None = None
        """Of what the kernel has; None while that is not known."""
        self._generation: int | None = None
        self._must_split = False

    def sync(self, model: Model) -> None:
        """Make the table that of the model."""
        change = self._fragments.follow(model)
        have, self._node = self._node, None  # unknown, until all scripts have gone through
        if have is None:
            self._load(self._whole(model.node))
        else:
            changes = diff_ruleset(assemble(have, change.before), assemble(model.node, change.after))
            try:
                self._run(*(script for script in (changes.update, changes.prune) if script))
            except KernelError as error:
                if error.errno not in _TOO_LONG:
                    raise
                self._load(self._whole(model.node))  # the update may have gone through and its prune not
        self._node = model.node

    def is_intact(self) -> bool:
        """See `Backend`: one small request while nobody else writes rules, a listing when somebody did."""
        if self._node is None:
            return False
        generation = self._generation_or_none()
        if generation is not None and generation == self._generation:
            return True
        if not is_listed(self._whole(self._node), self._listing()):
            return False
        self._generation = generation
        return True

    def invalidate(self) -> None:
        """Replace everything next time."""
        self._node = None

    def cleanup(self) -> None:
        """Delete the table."""
        self._node = None
        self._kernel.nft(self._netns, render_cleanup())

    def _whole(self, node: NodeFacts) -> Ruleset:
        return assemble(node, self._fragments.all())

    def _load(self, want: Ruleset) -> None:
        """Everything: in one transaction if the kernel takes it, else step by step over what is there."""
        before = self._generation_or_none()
        listing = self._listing()
        if not self._must_split:
            try:
                self._run(_full(want, listing))
            except KernelError as error:
                if error.errno not in _TOO_LONG:
                    raise
                LOG.info("the rules do not fit into one transaction (an ordinary user's limit): several from now on")
                self._must_split = True
            else:
                return
        try:
            self._run_steps(before, plan_steps(observed_ruleset(listing), want))
        except KernelError as error:
            # What was there is not ours to build on: a set of another make, or somebody writes at the same time.
            LOG.warning("table %s cannot be taken over, it is made anew: %s", TABLE, error)
            self._kernel.nft(self._netns, render_cleanup())
            self._run_steps(self._generation_or_none(), plan_steps(Ruleset(), want))

    def _run_steps(self, before: int | None, steps: Iterable[str]) -> None:
        """`before`: the generation of which the steps know."""
        waiting: list[Sequence[str]] = []
        waiting += list(join_steps(steps))[::-1]
        done = 0
        while waiting:
            together = waiting.pop()
            try:
                self._kernel.nft(self._netns, "".join(together))
            except KernelError as error:
                halves = halve_steps(together) if error.errno in _TOO_LONG else None
                if halves is None:
                    raise
                waiting += halves[::-1]
            else:
                done += 1
        after = self._generation_or_none()
        # Raised by more than we did, somebody else wrote too: then `is_intact` has to look closer.
        self._generation = after if before is not None and after == before + done else -1

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


def _full(want: Ruleset, listing: str) -> str:
    script = render_full(want)
    for name, elements in dynamic_elements(want, listing).items():
        script += f"add element ip {TABLE} {name} {{ {', '.join(elements)} }}\n"
    return script
