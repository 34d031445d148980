"""The one signature everything passes through: a request goes in, a response comes out.

    request ──▶ errors ──▶ log ──▶ … ──▶ cache ──▶ kubernetes ──▶ forward ──▶ (end: REFUSED)
    response ◀────────────────────────────────────────────────────────────────────┘

The rule kept here: a plugin that answers returns a `Response`; a plugin that does not want the request says so by
returning `await next_(request)`. There is no third thing: no rcode means "nothing was written". A plugin feels those
below it in the chain and need not care about those above (CoreDNS' plugin.md).

A response may say how long the same bytes hold for the same question (`Reuse`). Only what depends on nothing but the
question and on data with a `Validity` may say so; a plugin that answers by client, by chance or with side effects drops
it (`response.once()`). `fastpath.py` lives on this.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Self, TypeAlias

from podnet.dns.http import HttpListeners
from podnet.dns.message import REFUSED, SERVFAIL, Message, Question, reply
from podnet.dns.metrics import Registry

Address: TypeAlias = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Request:
    """One query and how it came. `server_zone` is the key of the server block that matched."""

    message: Message
    client: Address
    client_port: int = 0
    transport: str = "udp"
    server_zone: str = "."
    local: Address | None = None
    local_port: int = 53
    size: int = 0
    received: float = field(default=0.0, compare=False)

    @cached_property
    def name(self) -> str:
        """The name asked for, lower-case: what to look up with."""
        return self.message.questions[0].name.lower()

    @property
    def qname(self) -> str:
        """The name as it was written: what to answer with."""
        return self.message.questions[0].name

    @property
    def qtype(self) -> int:
        """The type asked for."""
        return self.message.questions[0].type

    @property
    def qclass(self) -> int:
        """The class asked for."""
        return self.message.questions[0].qclass

    @property
    def do(self) -> bool:
        """Does the client ask for DNSSEC records?"""
        return self.message.edns is not None and self.message.edns.do

    def asking(self, name: str | None = None, qtype: int | None = None, qclass: int | None = None) -> Request:
        """The same client asking something else."""
        old = self.message.questions[0]
        new = Question(
            old.name if name is None else name,
            old.type if qtype is None else qtype,
            old.qclass if qclass is None else qclass,
        )
        return replace(self, message=replace(self.message, questions=(new,)))


class Validity:
    """Shared by all answers made from one piece of data; `revoke()` ends them at once. Never becomes valid again."""

    __slots__ = ("valid",)

    def __init__(self) -> None:
        self.valid = True

    def revoke(self) -> None:
        """The data changed."""
        self.valid = False


@dataclass(frozen=True, slots=True)
class Reuse:
    """How long an answer holds for whoever asks the same: while all `validities` hold and until `expires` (monotonic).

    `ages_from`: the moment at which the TTLs in the message were true, for a cache's answers, which grow older; None
    when TTLs stand still. `rotates`: addresses may be served in any order (the loadbalance plugin sets it). `counted`
    is told now and then how often the answer was served without asking again.
    """

    validities: tuple[Validity, ...] = ()
    expires: float = math.inf
    ages_from: float | None = None
    rotates: bool = False
    counted: Callable[[int], None] | None = None

    def and_(self, other: Reuse) -> Reuse:
        """Both must hold, as for an answer put together from two."""
        ages = [each for each in (self.ages_from, other.ages_from) if each is not None]
        return Reuse(
            (*self.validities, *other.validities),
            min(self.expires, other.expires),
            min(ages, default=None),
            self.rotates or other.rotates,
            self.counted or other.counted,
        )


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. `error` is for the log and goes with SERVFAIL; `reuse` None means this once only.

    `silent` answers are not sent at all (acl's `drop`).
    """

    message: Message
    reuse: Reuse | None = None
    error: str = ""
    silent: bool = False

    def once(self) -> Response:
        """The same, not to be served again without asking."""
        return self if self.reuse is None else replace(self, reuse=None)

    def with_message(self, message: Message) -> Response:
        """Another message, the same conditions."""
        return replace(self, message=message)


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


def failure(request: Request, error: str) -> Response:
    """SERVFAIL, and why."""
    return Response(reply(request.message, SERVFAIL, authoritative=False), error=error)


async def refuse(request: Request) -> Response:
    """The end of every chain: nobody here answers for that name."""
    return Response(reply(request.message, REFUSED, authoritative=False))


@dataclass(frozen=True)
class Runtime:
    """What a plugin meets when it starts.

    `spawn` runs background work that is cancelled when this instance of the Corefile ends. `siblings` are the plugins
    of the same server block by directive (the first of each), `all_plugins` those of every block. `resolve` asks this
    very server, from the top of the chain that is responsible (CoreDNS' upstream lookup). `listening` are the addresses
    of the server block. `http` serves small pages. `reload` reads the Corefile again; `stop` ends the process, saying why.
    """

    spawn: Callable[[Coroutine[object, object, None]], object]
    metrics: Registry
    siblings: Mapping[str, Plugin]
    all_plugins: Sequence[Plugin]
    resolve: Handler
    http: HttpListeners
    listening: Sequence[tuple[str, int]] = ()
    zones: Sequence[str] = ()
    reload: Callable[[], Awaitable[bool]] | None = None
    stop: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """An answer that is bytes already. `body` is everything behind the question, which stands at offset 12, so that
    compression pointers into it may be used; OPT and id are not in it.

    `case_safe`: right whatever the case of the question, because what repeats names of it does so by pointers.
    `stride` is the length of one address record when the answer section is nothing but addresses of one type.
    """

    rcode: int
    authoritative: bool
    answers: int
    authority: int
    additional: int
    body: bytes
    reuse: Reuse | None
    case_safe: bool
    stride: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """`times` answers of one kind that were sent."""

    zone: str
    transport: str
    family: int
    qtype: int
    rcode: int
    request_size: int
    response_size: int
    seconds: float
    times: int = 1
    do: bool = False


class Plugin:
    """A behaviour in the chain. `name` is its directive. `serve` left alone means: has no part in answering."""

    name: ClassVar[str] = ""
    transparent: ClassVar[bool] = False
    """True where neither question nor answer is changed by this plugin for anybody: `prepare` of those below counts."""

    def prepare(self, question: bytes) -> WireAnswer | None:  # noqa: ARG002 - most have nothing prepared
        """The answer for a question given as lower-case wire bytes (name, type, class), or None: ask `serve`.

        Only for answers which every client gets; always the same as what `serve` says."""
        return None

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Answer, or return `await next_(request)`."""
        return await next_(request)

    def served(self, what: Served) -> None:
        """Told after an answer of this server block was sent; the fast path tells of many at once, and later."""

    async def start(self, runtime: Runtime) -> None:
        """Called once before the first query; background work belongs into `runtime.tasks`."""

    async def stop(self) -> None:
        """Called once after the last query; close what `start` opened."""

    async def lameduck(self) -> None:
        """Called when the server was asked to stop and still answers: how long it goes on is up to `health`."""

    def ready(self) -> bool:
        """Asked by the ready plugin until it has been true once."""
        return True


def link(plugins: Sequence[Plugin], last: Handler = refuse) -> Handler:
    """Fold plugins, first one outermost, into one handler; those that only run beside the chain are not in it."""
    handler = last
    for plugin in reversed(plugins):
        if type(plugin).serve is not Plugin.serve:
            handler = _Link(plugin.serve, handler)
    return handler


class _Link(partial):  # type: ignore[type-arg]
    """`plugin.serve` with its `next_` filled in."""

    def __new__(cls, serve: Callable[[Request, Handler], Awaitable[Response]], next_: Handler) -> Self:
        return super().__new__(cls, serve, next_=next_)
