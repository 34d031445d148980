"""A change in steps, for where it does not fit into one transaction.

Pure. nft sends a transaction as one netlink message, and the kernel refuses one beyond the socket's send buffer. Root raises
that buffer as it needs; in a user namespace it stays net.core.wmem_default, which is full at about 150 Services. The steps
are in such an order that between any two of them every Service is either as it was or as it shall be:

    names -> rules, those first to which others lead -> elements -> hooks -> detach: elements -> empty -> delete

A step is never divided: a chain is emptied and filled in one, an element replaced in one. The hooks of a new table are
one step after all else, so that it begins to work as a whole. Source: nft(8), netlink(7).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from podnet.proxy.nftables.ruleset import TABLE, Chain, NamedSet, Ruleset

_T = f"ip {TABLE}"
TRANSACTION_BYTES = 60_000
"""Text of one transaction; a rule is about five times as long on its way to the kernel."""
_ELEMENTS_PER_STEP = 50
_LEVELS = ("endpoint-", "service-", "local-", "external-", "firewall-")
# Who is kept out stands before the way in, and is forgotten after it; what has no endpoint yet is told last.
_SETS_IN_ORDER = (
    "nodeport-ips", "hairpin-ips", "firewall-ips", "cluster-ips", "service-ips", "service-nodeports",
    "no-endpoint-services", "no-endpoint-nodeports",
)  # fmt: skip


def plan_steps(have: Ruleset, want: Ruleset) -> list[str]:
    """What leads from one to the other, in steps that may each be a transaction, or several together."""
    changed = {name: chain for name, chain in want.chains.items() if have.chains.get(name) != chain}
    inner = sorted((name for name in changed if not want.chains[name].hook), key=_level)
    hooks = [name for name in changed if want.chains[name].hook]
    sets = sorted(want.sets, key=lambda name: _SETS_IN_ORDER.index(name) if name in _SETS_IN_ORDER else 0)
    gone = [name for name in have.chains if name not in want.chains]
    gone_sets = [name for name in have.sets if name not in want.sets]
    return [
        f"add table {_T} {{ comment \"rules of kube-proxy\"; }}\n",
        *(_declare(name, want.sets[name]) for name in want.sets if name not in have.sets),
        *(f"add chain {_T} {name}\n" for name in inner if name not in have.chains),
        *(_fill(name, want.chains[name], is_new=name not in have.chains) for name in inner),
        *(step for name in sets for step in _put(name, have.sets.get(name), want.sets[name])),
        *(["".join(_fill(name, want.chains[name], is_new=name not in have.chains) for name in hooks)] if hooks else ()),
        *(step for name in reversed(sets) for step in _take(name, have.sets.get(name), want.sets[name])),
        *(f"flush chain {_T} {name}\n" for name in gone),
        *(f"delete chain {_T} {name}\n" for name in gone),
        *(f"delete {have.sets[name].kind} {_T} {name}\n" for name in gone_sets),
    ]  # fmt: skip


def join_steps(steps: Iterable[str], size: int = TRANSACTION_BYTES) -> Iterator[list[str]]:
    """The same steps, as many together as stay within a size; one that is longer by itself is alone."""
    together: list[str] = []
    length = 0
    for step in steps:
        if together and length + len(step) > size:
            yield together
            together, length = [], 0
        together.append(step)
        length += len(step)
    if together:
        yield together


def halve_steps(steps: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Two parts of what was still too much."""
    middle = len(steps) // 2
    return steps[:middle], steps[middle:]


def _level(name: str) -> int:
    kind = name[: name.find("-") + 1]
    # The fixed chains are reached by hooks only; `service-endpoints-check` looks like a Service's and may come early.
    return _LEVELS.index(kind) if kind in _LEVELS else len(_LEVELS)


def _declare(name: str, item: NamedSet) -> str:
    return f"add {item.kind} {_T} {name} {{ {item.declaration}\n}}\n"


def _fill(name: str, chain: Chain, *, is_new: bool) -> str:
    if not is_new:
        first = f"flush chain {_T} {name}\n"
    else:
        first = f"add chain {_T} {name} {{ {chain.header} }}\n" if chain.hook else ""
    return first + "".join(f"add rule {_T} {name} {rule}\n" for rule in chain.rules)


def _put(name: str, have: NamedSet | None, want: NamedSet) -> Iterator[str]:
    """Elements that are new or different."""
    old = have.elements if have is not None else {}
    keys = [key for key in want.elements if have is None or not want.has_same(have, key)]
    for start in range(0, len(keys), _ELEMENTS_PER_STEP):
        some = keys[start : start + _ELEMENTS_PER_STEP]
        replaced = [key for key in some if key in old]
        yield _delete(name, replaced) + f"add element {_T} {name} {{ {', '.join(map(want.render_element, some))} }}\n"


def _take(name: str, have: NamedSet | None, want: NamedSet) -> Iterator[str]:
    """Elements that are not wanted any more."""
    gone = [key for key in (have.elements if have is not None else ()) if key not in want.elements]
    for start in range(0, len(gone), _ELEMENTS_PER_STEP):
        yield _delete(name, gone[start : start + _ELEMENTS_PER_STEP])


def _delete(name: str, keys: Sequence[str]) -> str:
    return f"delete element {_T} {name} {{ {', '.join(keys)} }}\n" if keys else ""
