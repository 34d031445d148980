"""What an explanation is made of, and who is behind an address.

Pure values. Rules are texts as the kernel's own tools print them, without their comments' and counters' part where the
field says so; whatever a sentence claims was read from the rule beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Rule:
    """A live rule. `packets` and `bytes` are None where the rule has no counter."""

    text: str
    packets: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a packet meets: where, what stands there, and what that means. `depth`: how many jumps from the
    hook."""

    hook: str
    chain: str
    rule: str
    sentence: str
    packets: int | None = None
    bytes: int | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class EndpointState:
    """One address behind a Service port. `inside` and `outside`: the part of new connections that the rules give it,
    by way of the cluster IP and of the addresses for the outside; None where nothing leads there. `opened`: what its own
    counter says, None where it has none."""

    address: str
    port: int
    pod: str = ""
    node: str = ""
    is_local: bool = False
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    inside: float | None = None
    outside: float | None = None
    connections: int = 0
    opened: int | None = None

    @property
    def state(self) -> str:
        """Its conditions in a word."""
        if self.terminating:
            return "terminating, still serving" if self.serving else "terminating"
        return "ready" if self.ready else "not ready"


@dataclass(frozen=True, slots=True)
class Connection:
    """One tracked connection. `packets` and `bytes` are 0 where the node does not count them."""

    protocol: str
    state: str
    timeout_s: int
    client: str
    sent_to: str
    answered_by: str
    endpoint: str
    translated: str
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class PortExplanation:
    """One port of the Service. `opened`: connections that its DNAT rules counted."""

    name: str
    protocol: str
    port: int
    addresses: tuple[str, ...]
    node_port: int = 0
    opened: int = 0
    steps: tuple[Step, ...] = ()
    endpoints: tuple[EndpointState, ...] = ()
    connections: tuple[Connection, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of one Service on one node. `why_none`: why the node has no rules for it."""

    service: str
    type: str
    node: str
    mode: str
    facts: tuple[str, ...] = ()
    why_none: str = ""
    ports: tuple[PortExplanation, ...] = ()


@dataclass(frozen=True, slots=True)
class People:
    """Names behind addresses, for sentences. `owners`: address -> (pod, node)."""

    here: str
    owners: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def name(self, address: str) -> str:
        """`10.244.1.3:8080`, with the pod and the node where they are known.

        >>> People("n1", {"10.0.0.2": ("web", "n1")}).name("10.0.0.2:80")
        '10.0.0.2:80 (pod web, on this node)'
        """
        pod, node = self.owners.get(address.partition(":")[0], ("", ""))
        where = "on this node" if node == self.here else f"on {node}" if node else ""
        known = ", ".join(part for part in (f"pod {pod}" if pod else "", where) if part)
        return f"{address} ({known})" if known else address


@dataclass(slots=True)
class Walk:
    """What a walk over the rules gathers. `seen`: chains that were shown already."""

    steps: list[Step] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def add(self, hook: str, chain: str, rule: Rule, sentence: str, depth: int) -> None:
        """The next thing that the packet meets."""
        self.steps.append(Step(hook, chain, rule.text, sentence, rule.packets, rule.bytes, depth))


FOREIGN = "Not written by podnet's kube-proxy: somebody added it by hand."


def percent(share: float | Fraction) -> str:
    """A share for people.

    >>> percent(1 / 3), percent(1), percent(1 / 1000)
    ('33 %', '100 %', '0.1 %')
    """
    value = float(share) * 100
    return f"{value:.0f} %" if value >= 1 else f"{value:.2g} %"
