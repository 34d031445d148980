"""What of the last pass can be used again: each Service port's share of the rules is compiled once.

Both modes write their rules port by port, and put the shares together (`assemble` in each mode's render.py). A change
touches one Service of a thousand, so a backend keeps the shares of its last model and compiles those only whose
`ServicePort` is another object than before; the agent keeps what did not change. Proven equal to compiling everything in
tests/unit/proxy/test_proxy_fragments.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from podnet.proxy.model import Model, NodeFacts, ServicePort

F = TypeVar("F")


class Fragments(Generic[F]):
    """Shares of the ports of the last model, found by identity: comparing ports costs more than compiling some."""

    def __init__(self, compile_port: Callable[[NodeFacts, ServicePort], F]) -> None:
        self._compile_port = compile_port
        self._node: NodeFacts | None = None
        # A port that is held here keeps its id to itself.
        self._known: dict[int, tuple[ServicePort, F]] = {}

    def of(self, model: Model) -> list[F]:
        """The share of each port, in the model's order."""
        known = self._known if model.node == self._node else {}
        now: dict[int, tuple[ServicePort, F]] = {}
        for port in model.ports:
            now[id(port)] = known.get(id(port)) or (port, self._compile_port(model.node, port))
        self._node, self._known = model.node, now
        return [now[id(port)][1] for port in model.ports]
