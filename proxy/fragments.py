"""What of the last pass can be used again: each Service port's share of the rules is compiled once.

Both modes write their rules port by port, and put the shares together (`assemble` in each mode's render.py). A change
touches one Service of a thousand, so a backend keeps the shares of its last model. `follow` compares the next model
with it by the identity of its `ServicePort`s (the agent keeps what did not change) and tells which shares the
difference can depend on, before and after:

    shares that are gone, shares that are new, and of each claim of theirs the first one that stays

A claim is a thing that several ports may want; the first in the model's order has it. Whoever stays has the same
share on both sides, so what nobody gained or lost is the same there, too. What a change needs is therefore the
difference of two small rulesets put together of these shares, by the functions that serve for the large ones. Proven
equal, letter by letter, to the difference of the whole rulesets in tests/unit/proxy/test_proxy_fragments.py.

Models are sorted: of two ports that stay the first one stays the first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from podnet.proxy.model import Model, NodeFacts, ServicePort

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Change(Generic[F]):
    """The shares on which the difference between two models depends, in the models' order."""

    before: list[F]
    after: list[F]


class Fragments(Generic[F]):
    """Shares of the ports of the last model, found by identity: comparing ports costs more than compiling some."""

    def __init__(
        self,
        compile_port: Callable[[NodeFacts, ServicePort], F],
        claims_of: Callable[[F], Iterable[Hashable]] = lambda _: (),
    ) -> None:
        self._compile_port = compile_port
        self._claims_of = claims_of
        self._node: NodeFacts | None = None
        # Both by the port's id. A port that is held here keeps its id to itself.
        self._shares: dict[int, tuple[ServicePort, F]] = {}
        self._places: Mapping[int, int] = {}
        self._claimants: dict[Hashable, set[int]] = {}

    def all(self) -> list[F]:
        """The share of each port of the last model, in its order."""
        return [self._shares[number][1] for number in self._places]

    def follow(self, model: Model) -> Change[F]:
        """Take over a model; how it differs from the last one."""
        places = {id(port): place for place, port in enumerate(model.ports)}
        shares, old_places = self._shares, self._places
        is_other_node = model.node != self._node
        gone = set(shares) if is_other_node else shares.keys() - places.keys()
        new = set(places) if is_other_node else places.keys() - shares.keys()
        compiled = {number: self._compiled(model, places[number]) for number in new}
        claims = {claim for number in gone for claim in self._claims_of(shares[number][1])}
        before = [(old_places[number], shares[number][1]) for number in gone]
        for number in gone:
            self._drop(number)
        claims.update(claim for _, share in compiled.values() for claim in self._claims_of(share))
        # Of those that stay: what is new is not among the claimants yet.
        staying = [claimants for claim in claims if (claimants := self._claimants.get(claim))]
        beside = {min(claimants, key=places.__getitem__) for claimants in staying}
        before += [(old_places[number], shares[number][1]) for number in beside]
        shares.update(compiled)
        after = [(places[number], shares[number][1]) for number in new | beside]
        for number in new:
            for claim in self._claims_of(shares[number][1]):
                self._claimants.setdefault(claim, set()).add(number)
        self._node, self._places = model.node, places
        return Change(_in_order(before), _in_order(after))

    def _compiled(self, model: Model, place: int) -> tuple[ServicePort, F]:
        port = model.ports[place]
        return port, self._compile_port(model.node, port)

    def _drop(self, number: int) -> None:
        _, share = self._shares.pop(number)
        for claim in self._claims_of(share):
            claimants = self._claimants.get(claim, set())
            claimants.discard(number)
            if not claimants:
                self._claimants.pop(claim, None)


def _in_order(shares: list[tuple[int, F]]) -> list[F]:
    return [share for _, share in sorted(shares, key=lambda entry: entry[0])]
