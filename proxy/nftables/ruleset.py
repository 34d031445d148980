"""An nftables ruleset as a value: chains, sets and maps of the one table; its text, and the text of a change.

Pure. `render_full` replaces the table in one transaction, which established connections do not notice. `diff_ruleset`
mentions only what differs; what is not needed any more is emptied in that transaction and deleted in the one after it,
because kernels before 6.2 refuse to delete a chain in the transaction that drops the last reference to it.
Source: nft(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

TABLE = "kube-proxy"
_T = f"ip {TABLE}"


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in order; a base chain has a hook."""

    rules: tuple[str, ...] = ()
    hook: str = ""

    @property
    def header(self) -> str:
        """What stands between the braces when it is made."""
        return f"{self.hook}; policy accept;" if self.hook else ""


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set or a map. `elements` is key → verdict ("" in a set), each with its comment in `comments`; a `dynamic` one is
    filled by packets."""

    kind: Literal["set", "map"]
    declaration: str
    elements: Mapping[str, str] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)
    dynamic: bool = False

    def render_element(self, key: str) -> str:
        """One element as nft reads it."""
        comment = self.comments.get(key, "")
        note = f' comment "{comment}"' if comment else ""
        verdict = self.elements[key]
        return f"{key}{note} : {verdict}" if verdict else f"{key}{note}"

    def has_same(self, other: NamedSet, key: str) -> bool:
        """Whether the other one has the same element under a key."""
        return (
            key in other.elements
            and self.elements[key] == other.elements[key]
            and self.comments.get(key) == other.comments.get(key)
        )


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The table."""

    chains: Mapping[str, Chain] = field(default_factory=dict)
    sets: Mapping[str, NamedSet] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """Two scripts, either may be empty: the change itself, then the deletion of what it left unused."""

    update: str = ""
    prune: str = ""

    def __bool__(self) -> bool:
        return bool(self.update or self.prune)


def render_full(ruleset: Ruleset) -> str:
    """The whole table, replacing what there was."""
    lines = [f"add table {_T}", f"delete table {_T}", f"table {_T} {{", '  comment "rules of kube-proxy"']
    # Elements and rules may only name what is there already: names first, then elements, then rules.
    lines += [f"  chain {name} {{ {chain.header}\n  }}" for name, chain in ruleset.chains.items()]
    for name, item in ruleset.sets.items():
        lines.append(f"  {item.kind} {name} {{\n    {item.declaration}")
        if item.elements:
            members = ",\n      ".join(item.render_element(key) for key in item.elements)
            lines.append(f"    elements = {{\n      {members}\n    }}")
        lines.append("  }")
    for name, chain in ruleset.chains.items():
        if chain.rules:
            lines += [f"  chain {name} {{", *(f"    {rule}" for rule in chain.rules), "  }"]
    return _script([*lines, "}"])


def render_cleanup() -> str:
    """The removal of the table, whether it is there or not."""
    return f"add table {_T}\ndelete table {_T}\n"


def diff_ruleset(have: Ruleset, want: Ruleset) -> Changes:
    """What leads from one ruleset to the other. A set whose declaration changed cannot be changed in place; none of
    ours ever does, since a different declaration means a different name."""
    new_sets = [name for name in want.sets if name not in have.sets]
    lines = [f"add {(s := want.sets[name]).kind} {_T} {name} {{ {s.declaration}\n}}" for name in new_sets]
    changed = [name for name, chain in want.chains.items() if not _is_same(have.chains.get(name), chain)]
    for name in changed:
        header = want.chains[name].header
        if name in have.chains:
            lines.append(f"flush chain {_T} {name}")
        else:
            lines.append(f"add chain {_T} {name}" + (f" {{ {header} }}" if header else ""))
    lines += [f"add rule {_T} {name} {rule}" for name in changed for rule in want.chains[name].rules]
    for name, item in want.sets.items():
        lines += _diff_elements(name, have.sets.get(name), item)
    gone = [name for name in have.chains if name not in want.chains]
    gone_sets = [name for name in have.sets if name not in want.sets]
    lines += [f"flush chain {_T} {name}" for name in gone]
    lines += [f"flush {have.sets[name].kind} {_T} {name}" for name in gone_sets if not have.sets[name].dynamic]
    prune = [f"delete chain {_T} {name}" for name in gone]
    prune += [f"delete {have.sets[name].kind} {_T} {name}" for name in gone_sets]
    return Changes(_script(lines), _script(prune))


def _is_same(have: Chain | None, want: Chain) -> bool:
    # Mostly one object: a share of the last pass, used again.
    return have is want or have == want


def _diff_elements(name: str, have: NamedSet | None, want: NamedSet) -> list[str]:
    if have is None and not want.elements:
        return []
    if have is not None and have.elements == want.elements and have.comments == want.comments:
        return []  # nearly always, and dictionaries that share their strings are quickly compared
    old: Iterable[str] = have.elements if have is not None else ()
    gone = [key for key in old if have is not None and not have.has_same(want, key)]
    fresh = [key for key in want.elements if have is None or not want.has_same(have, key)]
    lines = [f"delete element {_T} {name} {{ {', '.join(gone)} }}"] if gone else []
    if fresh:
        lines.append(f"add element {_T} {name} {{ {', '.join(want.render_element(key) for key in fresh)} }}")
    return lines


def _script(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
