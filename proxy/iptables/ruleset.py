"""The rules of the iptables mode as a value: chains by table; and the iptables-restore text of a load, a change, a removal.

Pure. Only our own chains are ever written, by name, and of the built-in chains only the jumps into ours. A change names
the chains that differ and no others (KEP-3453): `:CHAIN - [0:0]` under --noflush empties or makes a chain, `-X` deletes
it, and what is not named stays. Each table is one transaction. Source: iptables-restore(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from podnet.proxy.iptables.listing import Listing, jump_target

TABLES = ("filter", "nat")
TRANSACTION_LINES = 100
"""A rule is up to a kilobyte on its way to the kernel (a comment alone 256 bytes), and 200 of them are allowed."""
EDIT_FROM = 32
_EMPTY: Mapping[str, tuple[str, ...]] = {}
_LEVELS = {
    "KUBE-SEP-": 1,
    "KUBE-SVC-": 2,
    "KUBE-SVL-": 2,
    "KUBE-EXT-": 3,
    "KUBE-FW-": 4,
    "KUBE-NODEPORTS": 5,
    "KUBE-SERVICES": 6,
}

_NEW = "-m conntrack --ctstate NEW "
_SERVICES = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
_EXTERNAL = '-m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES'
_BARRED = '-m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL'

JUMPS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "filter": (
        ("INPUT", '-m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS'),
        ("INPUT", _NEW + _EXTERNAL),
        ("INPUT", _NEW + _BARRED),
        ("INPUT", "-j KUBE-FIREWALL"),
        ("FORWARD", _NEW + _SERVICES),
        ("FORWARD", _NEW + _EXTERNAL),
        ("FORWARD", _NEW + _BARRED),
        ("FORWARD", '-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'),
        ("OUTPUT", _NEW + _SERVICES),
        ("OUTPUT", _NEW + _EXTERNAL),
        ("OUTPUT", _NEW + _BARRED),
        ("OUTPUT", "-j KUBE-FIREWALL"),
    ),
    "nat": (
        ("PREROUTING", _SERVICES),
        ("OUTPUT", _SERVICES),
        ("POSTROUTING", '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'),
    ),
}
"""What leads from the built-in chains into ours, in order. Refusals stand before the load-balancer firewall, which drops
whatever for its addresses is not translated by then."""

FIXED_CHAINS: Mapping[str, tuple[str, ...]] = {
    "filter": ("KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-SERVICES", "KUBE-PROXY-FIREWALL", "KUBE-FORWARD",
               "KUBE-FIREWALL"),
    "nat": ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-POSTROUTING"),
}  # fmt: skip
_PORT_CHAIN = re.compile(r"KUBE-(?:SVC|SVL|EXT|FW|SEP)-[A-Z2-7]{16}")


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Every chain that is ours, by table, with its rules (without `-A CHAIN`)."""

    tables: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def chains(self, table: str) -> Mapping[str, tuple[str, ...]]:
        """The chains of one table."""
        return self.tables.get(table, _EMPTY)


def is_ours(table: str, chain: str) -> bool:
    """Whether a chain belongs to this mode: one of the fixed names, or a Service's chain. KUBE- alone is not enough:
    kubelets and network policy engines have such chains too."""
    return chain in FIXED_CHAINS.get(table, ()) or (table == "nat" and _PORT_CHAIN.fullmatch(chain) is not None)


def render_full(want: Ruleset, listing: Listing) -> str:
    """Make it so, whatever the listing says is there: old chains of ours go, jumps are put first and in order."""
    blocks = []
    for table in TABLES:
        chains = want.chains(table)
        gone = [name for name in listing.get(table, {}) if is_ours(table, name) and name not in chains]
        lines = [line for name in _bottom_up(chains) for line in _fill(name, chains[name])]
        lines += _delete_jumps(table, listing)
        place: dict[str, int] = {}
        for hook, rule in JUMPS[table]:
            place[hook] = place.get(hook, 0) + 1
            lines.append(f"-I {hook} {place[hook]} {rule}")
        blocks.append(_block(table, [*lines, *_remove(gone)]))
    return "".join(blocks)


def render_changes(have: Ruleset, want: Ruleset) -> str:
    """What leads from one to the other; "" where nothing does."""
    blocks = []
    for table in TABLES:
        old, new = have.chains(table), want.chains(table)
        lines: list[str] = []
        for name in _bottom_up(name for name, rules in new.items() if old.get(name) != rules):
            lines += _edit(name, old.get(name, ()), new[name])
        lines += _remove([name for name in old if name not in new])
        if lines:
            blocks.append(_block(table, lines))
    return "".join(blocks)


def split_script(script: str) -> str:
    """The same script in transactions of a bounded size. An ordinary user's netlink socket takes no message beyond
    net.core.wmem_max, and iptables sends a transaction as one. Chains are written bottom up, the long ones are edited in
    place, and one that is filled anew is filled within one transaction unless it alone is too long for it: so what
    stands between two transactions is whole."""
    parts = list[str]()
    for block in split_tables(script):
        table, *lines = block.splitlines()[:-1]
        pending = list[str]()
        for group in _fills(lines):
            if pending and len(pending) + len(group) > TRANSACTION_LINES:
                parts.append(_block(table[1:], pending))
                pending = []
            pending += group
            while len(pending) > TRANSACTION_LINES:
                parts.append(_block(table[1:], pending[:TRANSACTION_LINES]))
                pending = pending[TRANSACTION_LINES:]
        if pending:
            parts.append(_block(table[1:], pending))
    return "".join(parts)


def split_tables(script: str) -> list[str]:
    """The blocks of a script, each of which is taken whole or not at all."""
    return [f"*{block}" for block in re.split(r"^\*", script, flags=re.MULTILINE)[1:]]


def _fills(lines: Iterable[str]) -> list[list[str]]:
    """Lines that belong together: a chain that is emptied, with the rules that it gets at once."""
    groups = list[list[str]]()
    for line in lines:
        head = groups[-1][0] if groups else ""
        if head.startswith(":") and line.startswith(f"-A {head[1:].split(' ', 1)[0]} "):
            groups[-1].append(line)
        else:
            groups.append([line])
    return groups


def _bottom_up(chains: Iterable[str]) -> list[str]:
    """Every chain after those to which it leads."""
    return sorted(chains, key=lambda name: (_LEVELS.get(name, _LEVELS.get(name[: name.rfind("-") + 1], 0)), name))


def _fill(name: str, rules: Iterable[str]) -> list[str]:
    return [f":{name} - [0:0]", *(f"-A {name} {rule}" for rule in rules)]


def _remove(names: Iterable[str]) -> list[str]:
    """Emptied first, all of them: they may lead to each other."""
    gone = list(names)
    return [f":{name} - [0:0]" for name in gone] + [f"-X {name}" for name in gone]


def _edit(name: str, old: tuple[str, ...], new: tuple[str, ...]) -> list[str]:
    """A chain anew; one of the long ones, if what stays keeps its order, rule by rule."""
    if not old or len(new) < EDIT_FROM:  # one that is new has to be made first
        return _fill(name, new)
    # Between the first and the last difference; of thousands of rules that is mostly one.
    start = _length_of_same(zip(old, new, strict=False))
    end = _length_of_same(zip(old[: start - len(old) - 1 : -1], new[: start - len(new) - 1 : -1], strict=False))
    was, now = old[start : len(old) - end], new[start : len(new) - end]
    before, after = set(was), set(now)
    stays = [rule for rule in was if rule in after]
    is_doubled = len(before) < len(was) or len(after) < len(now)
    if is_doubled or stays != [rule for rule in now if rule in before]:
        return _fill(name, new)
    gone = [f"-D {name} {place}" for place, rule in enumerate(was, start + 1) if rule not in after]
    fresh = [f"-I {name} {place} {rule}" for place, rule in enumerate(now, start + 1) if rule not in before]
    return gone[::-1] + fresh


def _length_of_same(pairs: Iterable[tuple[str, str]]) -> int:
    length = 0
    for one, other in pairs:
        if one != other:
            break
        length += 1
    return length


def render_cleanup(listing: Listing) -> str:
    """The removal of all that the listing has of ours; "" where that is nothing."""
    blocks = []
    for table in listing:
        gone = [name for name in listing[table] if is_ours(table, name)]
        if gone:
            lines = [f":{name} - [0:0]" for name in gone]
            blocks.append(_block(table, [*lines, *_delete_jumps(table, listing), *(f"-X {name}" for name in gone)]))
    return "".join(blocks)


def is_listed(want: Ruleset, listing: Listing) -> bool:
    """Whether the kernel has all of the ruleset and nothing of ours besides. iptables prints rules in its own words, so
    they are counted, not compared; the jumps are compared by where they lead."""
    for table in TABLES:
        listed, chains = listing.get(table, {}), want.chains(table)
        if {name for name in listed if is_ours(table, name)} != chains.keys():
            return False
        if any(len(listed[name]) != len(rules) for name, rules in chains.items()):
            return False
        for hook in {hook for hook, _ in JUMPS[table]}:
            leads = [jump_target(rule) for rule in listed.get(hook, ())]
            wanted = [jump_target(rule) for name, rule in JUMPS[table] if name == hook]
            if [target for target in leads if is_ours(table, target)] != wanted:
                return False
    return True


def _delete_jumps(table: str, listing: Listing) -> list[str]:
    """Others' rules that lead into our chains, in iptables-save's own words, which -D understands."""
    return [
        f"-D {name} {rule}"
        for name, rules in listing.get(table, {}).items()
        if not is_ours(table, name)
        for rule in rules
        if is_ours(table, jump_target(rule))
    ]


def _block(table: str, lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in (f"*{table}", *lines, "COMMIT"))
