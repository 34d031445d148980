"""A change in steps, for where it does not fit into one transaction.

Pure. nft sends a transaction as one netlink message, and the kernel refuses one beyond the socket's send buffer. Root raises
that buffer as it needs; in a user namespace it stays net.core.wmem_default, which is full at about 165 Services. The steps
are in such an order that between any two of them every Service is either as it was or as it shall be:

    names -> rules to which others lead -> shared elements -> Service by Service -> hooks -> detach -> empty -> delete

A Service is one step: its chains are emptied and filled and what leads to them is exchanged at once. The hooks of a new
table are one step after all else, so that it begins to work as a whole. Source: nft(8), netlink(7).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from podnet.proxy.nftables.ruleset import TABLE, Chain, NamedSet, Ruleset

_T = f"ip {TABLE}"
TRANSACTION_BYTES = 60_000
"""Text of one transaction; a rule is about five times as long on its way to the kernel."""
_ELEMENTS_PER_STEP = 50
_SERVICE_CHAINS = ("service-", "local-", "external-", "firewall-")
_DISPATCH = ("firewall-ips", "service-ips", "service-nodeports", "no-endpoint-services", "no-endpoint-nodeports")
"""Their elements lead to one Service, which the comment names; those of the other sets are shared, and harmless alone."""


def plan_steps(have: Ruleset, want: Ruleset) -> list[str]:
    """What leads from one to the other, in steps that may each be a transaction, or several together."""
    changed = [name for name, chain in want.chains.items() if have.chains.get(name) != chain]
    hooks = [name for name in changed if want.chains[name].hook]
    inner = [name for name in changed if not want.chains[name].hook]
    shared = [name for name in want.sets if name not in _DISPATCH]
    gone = [name for name in have.chains if name not in want.chains]
    return [
        f'add table {_T} {{ comment "rules of kube-proxy"; }}\n',
        *(_declare(name, want.sets[name]) for name in want.sets if name not in have.sets),
        *(f"add chain {_T} {name}\n" for name in inner if name not in have.chains),
        *(_fill(have, want, name) for name in inner if not _owner_of_chain(name)),
        *(step for name in shared for step in _put(name, have.sets.get(name), want.sets[name])),
        *_services(have, want, [name for name in inner if _owner_of_chain(name)]),
        *(["".join(_fill(have, want, name) for name in hooks)] if hooks else ()),
        *(step for name in shared for step in _take(name, have.sets.get(name), want.sets[name])),
        *(f"flush chain {_T} {name}\n" for name in gone),
        *(f"delete chain {_T} {name}\n" for name in gone),
        *(f"delete {item.kind} {_T} {name}\n" for name, item in have.sets.items() if name not in want.sets),
    ]


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


def halve_steps(steps: Sequence[str]) -> tuple[Sequence[str], Sequence[str]] | None:
    """Two parts of what was still too much. A step that is too much by itself (a Service with hundreds of endpoints and
    session affinity) is divided line by line: a new one is still not reached before it is whole, a changed one is for
    that moment. None: there is nothing left to divide."""
    lines = steps if len(steps) > 1 else steps[0].splitlines(keepends=True)
    middle = len(lines) // 2
    return (lines[:middle], lines[middle:]) if middle else None


def _owner_of_chain(name: str) -> str:
    """The Service, `namespace/name`, of a chain; "" for a chain of the table or of one endpoint."""
    if not name.startswith(_SERVICE_CHAINS) or "/" not in name:  # service-endpoints-check is nobody's
        return ""
    return name.split("-", 2)[2].rsplit("/", 2)[0]


def _services(have: Ruleset, want: Ruleset, chains: Iterable[str]) -> Iterable[str]:
    """One step for each Service of which anything changes: rules, then what does not lead to it any more, then what
    does."""
    steps: dict[str, list[str]] = defaultdict(list)
    for name in chains:
        steps[_owner_of_chain(name)].append(_fill(have, want, name))
    puts: dict[str, list[str]] = defaultdict(list)
    for name in _DISPATCH:
        old, new = have.sets.get(name) or NamedSet("map", ""), want.sets[name]
        for key in old.elements:
            if key not in new.elements:
                steps[_owner_of_element(old, key)].append(_delete(name, [key]))
            elif not old.has_same(new, key):
                steps[_owner_of_element(new, key)].append(_delete(name, [key]))
        for key in new.elements:
            if key not in old.elements or not new.has_same(old, key):
                puts[_owner_of_element(new, key)].append(f"add element {_T} {name} {{ {new.render_element(key)} }}\n")
    return ["".join((*steps.get(owner, ()), *puts.get(owner, ()))) for owner in dict.fromkeys((*steps, *puts))]


def _owner_of_element(item: NamedSet, key: str) -> str:
    return item.comments.get(key, "").split(":")[0]


def _declare(name: str, item: NamedSet) -> str:
    return f"add {item.kind} {_T} {name} {{ {item.declaration}\n}}\n"


def _fill(have: Ruleset, want: Ruleset, name: str) -> str:
    chain: Chain = want.chains[name]
    if name in have.chains:
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
