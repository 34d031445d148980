"""Incremental updates: only the changed Services' chains and elements, in one transaction.

Pure state and text, no kernel: `RuleTable` remembers what the table holds and writes what takes it further. Chains and
sets that are not needed any more are emptied in the transaction and deleted in the one after it, because kernels before
6.2 refuse to delete a chain in the transaction that drops the last reference to it.

An element wanted by two Services (two with one external IP and port) belongs to the one whose name sorts first, and
falls to the other when that one goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from podnet.proxy.nftables.render import render_table
from podnet.proxy.nftables.ruleset import AFFINITY_SET, EMPTY, FAMILY, TABLE, Element, ElementKey, Fragment
from podnet.proxy.types import NodeFacts

_T = f"{FAMILY} {TABLE}"


@dataclass(frozen=True, slots=True)
class Update:
    """Two scripts, either may be empty: the change itself, then the deletion of what it left unused."""

    change: str = ""
    cleanup: str = ""

    def __bool__(self) -> bool:
        return bool(self.change)


class RuleTable:
    """The table's content, by owner (`namespace/name` of a Service)."""

    def __init__(self, facts: NodeFacts) -> None:
        self.facts = facts
        self._fragments: dict[str, Fragment] = {}
        self._wanted: dict[ElementKey, dict[str, Element]] = {}

    @property
    def owners(self) -> frozenset[str]:
        """Who contributes."""
        return frozenset(self._fragments)

    def fragment(self, owner: str) -> Fragment:
        """What one owner contributes."""
        return self._fragments.get(owner, EMPTY)

    def elements(self) -> dict[ElementKey, Element]:
        """The elements of all maps, each with its winner."""
        return {place: self._winner(place) for place in self._wanted}

    def full(self) -> str:
        """The script of the whole table."""
        return render_table(self.facts, self._fragments, self.elements())

    def update(self, changes: Mapping[str, Fragment]) -> Update:
        """Take new fragments of some owners (an empty one: the owner goes), and say how to bring the kernel along."""
        old = {owner: self.fragment(owner) for owner in changes}
        places = {place for owner, new in changes.items() for place in (*old[owner].elements, *new.elements)}
        before = {place: self._winner(place) for place in places if place in self._wanted}
        for owner, new in changes.items():
            self._replace(owner, old[owner], new)
        after = {place: self._winner(place) for place in places if place in self._wanted}
        return plan_update(_merged(old.values()), _merged(changes.values()), before, after)

    def _winner(self, place: ElementKey) -> Element:
        wanted = self._wanted[place]
        return wanted[min(wanted)]

    def _replace(self, owner: str, old: Fragment, new: Fragment) -> None:
        for place in old.elements:
            wanted = self._wanted[place]
            del wanted[owner]
            if not wanted:
                del self._wanted[place]
        for place, element in new.elements.items():
            self._wanted.setdefault(place, {})[owner] = element
        if new.chains or new.elements or new.sets:
            self._fragments[owner] = new
        else:
            self._fragments.pop(owner, None)


def plan_update(
    old: Fragment, new: Fragment, before: Mapping[ElementKey, Element], after: Mapping[ElementKey, Element]
) -> Update:
    """The scripts that lead from the old chains, sets and elements to the new ones; equal ones are not mentioned."""
    lines = [f"add set {_T} {name} {{ {AFFINITY_SET} }}" for name in sorted(new.sets - old.sets)]
    changed = [name for name in new.chains if old.chains.get(name) != new.chains[name]]
    lines += [f"add chain {_T} {name}" for name in changed if name not in old.chains]
    lines += [f"flush chain {_T} {name}" for name in changed if name in old.chains]
    lines += [f"add rule {_T} {name} {rule}" for name in changed for rule in new.chains[name]]
    for place, element in before.items():
        if after.get(place) != element:
            lines.append(f"delete element {_T} {place.map} {{ {place.key} }}")
    for place, element in after.items():
        if before.get(place) != element:
            lines.append(f"add element {_T} {place.map} {{ {element.render(place.key)} }}")
    gone = [name for name in old.chains if name not in new.chains]
    lines += [f"flush chain {_T} {name}" for name in gone]
    cleanup = [f"delete chain {_T} {name}" for name in gone]
    cleanup += [f"delete set {_T} {name}" for name in sorted(old.sets - new.sets)]
    return Update(_script(lines), _script(cleanup))


def _script(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _merged(fragments: Iterable[Fragment]) -> Fragment:
    chains: dict[str, tuple[str, ...]] = {}
    sets: set[str] = set()
    for fragment in fragments:
        chains.update(fragment.chains)
        sets |= fragment.sets
    return Fragment(chains, frozenset(sets))
