"""The iptables mode at the kernel: everything the first time and after a failure, else only the chains that changed.

What the kernel has is remembered, never listed on the way. Listing happens before a full load, to find what an earlier
life or another hand left in our chains, and when somebody else may have written rules: with iptables over nf_tables the
generation number tells, with legacy iptables every check looks.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from podnet.proxy.fragments import Fragments
from podnet.proxy.iptables.listing import parse_save
from podnet.proxy.iptables.program import EMSGSIZE, Iptables
from podnet.proxy.iptables.render import Chains, add_own, compile_port, fixed_chains, is_fixed_same
from podnet.proxy.iptables.ruleset import (
    TRANSACTION_LINES,
    Ruleset,
    is_listed,
    render_changes,
    render_cleanup,
    render_full,
    split_script,
    split_tables,
)
from podnet.proxy.model import HealthCheck, Model
from podnet.proxy.nftables.generation import Generations
from podnet.topology.kernel import Kernel, KernelError, Netns, SetSysctl

LOG = logging.getLogger(__name__)

ROUTE_LOCALNET = "net.ipv4.conf.all.route_localnet"
"""Lets a node port be reached at 127.0.0.1; KUBE-FIREWALL keeps everybody else away from that network."""


class Program(Protocol):
    """The part of `Iptables` used here."""

    def restore(self, netns: Netns, script: str) -> None:
        """Apply."""
        ...

    def save(self, netns: Netns) -> str:
        """List."""
        ...

    def is_nftables(self) -> bool:
        """Whether generations tell."""
        ...


class IptablesBackend:
    """A `Backend` (see proxy/backend.py) over the KUBE- chains of the filter and nat tables."""

    def __init__(
        self,
        kernel: Kernel,
        netns: Netns = "",
        program: Program | None = None,
        generation: Callable[[Netns], int] | None = None,
    ) -> None:
        self._kernel = kernel
        self._netns = netns
        self._program = program or Iptables()
        self._observe_generation = generation or Generations()
        self._fragments = Fragments(compile_port)
        self._fixed: Chains | None = None
        """The fixed chains that the kernel has; None while that is not known."""
        self._health_checks: tuple[HealthCheck, ...] = ()
        self._generation: int | None = None
        self._must_split = False

    def sync(self, model: Model) -> None:
        """Make the chains those of the model."""
        change = self._fragments.follow(model)
        have, self._fixed = self._fixed, None  # unknown, until all tables have gone through
        want = have
        is_same = model.health_checks == self._health_checks and is_fixed_same(change.before, change.after)
        if want is None or not is_same:
            want = fixed_chains(model, self._fragments.all())
        self._health_checks = model.health_checks
        if have is None:
            # The guard of 127/8 before what makes it needed.
            self._load(add_own(want, self._fragments.all()))
            self._kernel.apply(self._netns, (SetSysctl(ROUTE_LOCALNET, "1"),))
        elif script := render_changes(add_own(have, change.before), add_own(want, change.after)):
            self._restore_changes(script)
        self._fixed = want

    def is_intact(self) -> bool:
        """See `Backend`: one small request while nobody else writes rules, a listing when somebody may have."""
        if self._fixed is None:
            return False
        generation = self._generation_or_none()
        if generation is not None and generation == self._generation:
            return True
        try:
            if not is_listed(add_own(self._fixed, self._fragments.all()), parse_save(self._program.save(self._netns))):
                return False
        except KernelError as error:
            LOG.warning("%s", error)
            return False
        self._generation = generation
        return True

    def invalidate(self) -> None:
        """Replace everything next time."""
        self._fixed = None

    def cleanup(self) -> None:
        """Delete our chains and the jumps to them, and nothing else."""
        self._fixed = self._generation = None
        try:
            listing = self._program.save(self._netns)
        except KernelError as error:
            if not error.is_not_found:
                raise
            return  # a machine without iptables has no rules of it, and the other modes do not need it
        if script := render_cleanup(parse_save(listing)):
            with contextlib.suppress(KernelError):  # where it cannot be written, it was never raised
                self._kernel.apply(self._netns, (SetSysctl(ROUTE_LOCALNET, "0"),))
            # In small transactions at once: removal need not be atomic.
            self._program.restore(self._netns, split_script(script))

    def _load(self, want: Ruleset) -> None:
        self._generation = None
        while True:
            try:
                self._restore(render_full(want, parse_save(self._program.save(self._netns))))
            except KernelError as error:
                if self._must_split or error.errno != EMSGSIZE:
                    raise
                self._must_split = True
            else:
                return

    def _restore(self, script: str) -> int:
        """Apply it; the number of transactions it took."""
        parts = split_script(script) if self._must_split else script
        self._program.restore(self._netns, parts)
        return parts.count("COMMIT\n")

    def _restore_or_split(self, script: str) -> int:
        """As `_restore`; what the kernel refuses as too long, of which it took nothing, goes in several transactions.
        A full load in its place would leave Services without rules for a moment."""
        if not self._must_split:
            try:
                return self._restore(script)
            except KernelError as error:
                if error.errno != EMSGSIZE:
                    raise
                self._must_split = True
        return self._restore(script)

    def _restore_changes(self, script: str) -> None:
        before = self._generation_or_none()
        known = before is not None and before == self._generation
        is_long = script.count("\n") > TRANSACTION_LINES
        transactions = sum(self._restore_or_split(block) for block in (split_tables(script) if is_long else [script]))
        after = self._generation_or_none()
        # Raised by more than our transactions, or by somebody since the last look: then `is_intact` looks closer.
        ours = known and before is not None and after == before + transactions
        self._generation = after if ours else None

    def _generation_or_none(self) -> int | None:
        try:
            return self._observe_generation(self._netns) if self._program.is_nftables() else None
        except KernelError as error:
            LOG.debug("%s", error)
            return None
