"""loadbalance: the order of addresses and mail exchanges in answers; CNAMEs stay first.

Syntax: `loadbalance [round_robin | weighted WEIGHTFILE] { reload DURATION; limit_answers N; prefer CIDR... }`.
`round_robin` shuffles. `weighted` puts one address first, chosen with the weights of its name in WEIGHTFILE (1 where it has
none), and leaves the others in their order. `prefer` then moves the addresses of some networks to the front, and
`limit_answers` keeps the first N records.

WEIGHTFILE: a line with a name, then a line `ADDRESS WEIGHT` (1 to 255) for each of its addresses; `#` is a comment.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from podnet.dns.config import ConfigError, Directive, Setup, Token, parse_duration, parse_number
from podnet.dns.handler import Address, Handler, Plugin, Request, Response, Runtime
from podnet.dns.message import A_, AAAA, AAAA_, CNAME_, MX_, NOERROR, SRV_, A, Record, fqdn, labels_of

log = logging.getLogger("plugin/loadbalance")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Weights = Mapping[str, Mapping[Address, int]]
"""Lower-case name to address to weight."""

RELOAD_INTERVAL_S = 30.0
MAX_WEIGHT = 255
MAX_ANSWERS = 65535


@dataclass(frozen=True, slots=True)
class LoadbalanceOptions:
    """The directive, understood. Without a file of weights the policy is round robin; 0 answers means all."""

    weight_file: Path | None = None
    reload_s: float = RELOAD_INTERVAL_S
    limit: int = 0
    prefer: tuple[Network, ...] = ()

    @property
    def plain(self) -> bool:
        """Nothing but round robin, which the fast path can do too."""
        return self.weight_file is None and not self.limit and not self.prefer


class Loadbalance(Plugin):
    """The fast path turns the addresses instead of shuffling them (`Reuse.rotates`; `exchange.Block` says so of prepared
    ones). It knows nothing of weights, preferences and limits: with these every answer comes by here."""

    name = "loadbalance"

    def __init__(self, options: LoadbalanceOptions, weights: Weights | None = None) -> None:
        self.options = options
        self.weights = weights or {}
        self._text: str | None = None

    @property
    def transparent(self) -> bool:  # type: ignore[override]  # of the instance here, not of the class
        """See `Plugin.transparent`."""
        return self.options.plain

    async def start(self, runtime: Runtime) -> None:
        """Look at the file of weights now and then."""
        if self.options.weight_file is not None and self.options.reload_s > 0:
            runtime.spawn(self._watch(self.options.weight_file))

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Put what comes from below in order."""
        response = await next_(request)
        message = response.message
        if message.rcode != NOERROR or len(message.answers) + len(message.additional) < 2:
            return response
        if self.options.weight_file is None:
            ordered = replace(
                message,
                answers=shuffle(message.answers),
                authority=shuffle(message.authority),
                additional=shuffle(message.additional),
            )
        elif request.qtype in {A_, AAAA_, SRV_}:
            answers, additional = (weighted(part, self.weights) for part in (message.answers, message.additional))
            ordered = replace(message, answers=answers, additional=additional)
        else:
            ordered = message
        if self.options.plain:
            reuse = replace(response.reuse, rotates=True) if response.reuse else None
            return replace(response, message=ordered, reuse=reuse)
        answers = preferred(ordered.answers, self.options.prefer)
        return response.once().with_message(replace(ordered, answers=answers[: self.options.limit or None]))

    def refresh(self, path: Path) -> None:
        """Read the weights if they are others than last time; wrong ones change nothing."""
        try:
            text = path.read_text(encoding="utf-8")
            if text != self._text:
                self.weights = parse_weights(text)
                self._text = text
        except (OSError, ValueError) as error:
            log.warning("weights not reloaded: %s: %s", path, error)

    async def _watch(self, path: Path) -> None:
        while True:
            await asyncio.sleep(self.options.reload_s)
            self.refresh(path)


def shuffle(records: Sequence[Record]) -> tuple[Record, ...]:
    """CNAMEs, other records, addresses in any order, mail exchanges in any order."""
    addresses = [each for each in records if each.type in {A_, AAAA_}]
    exchanges = [each for each in records if each.type == MX_]
    if len(addresses) < 2 and len(exchanges) < 2:
        return tuple(records)
    random.shuffle(addresses)
    random.shuffle(exchanges)
    aliases = [each for each in records if each.type == CNAME_]
    rest = [each for each in records if each.type not in {A_, AAAA_, MX_, CNAME_}]
    return (*aliases, *rest, *addresses, *exchanges)


def weighted(records: Sequence[Record], weights: Weights) -> tuple[Record, ...]:
    """CNAMEs, other records, then the addresses with the chosen one first."""
    addresses = [each for each in records if isinstance(each.data, (A, AAAA))]
    if len(addresses) < 2:
        return tuple(records)
    chances = [weights.get(each.name.lower(), {}).get(_address(each), 1) for each in addresses]
    (chosen,) = random.choices(range(len(addresses)), chances)
    aliases = [each for each in records if each.type == CNAME_]
    rest = [each for each in records if each.type not in {A_, AAAA_, CNAME_}]
    return (*aliases, *rest, addresses.pop(chosen), *addresses)


def preferred(records: Sequence[Record], networks: Sequence[Network]) -> tuple[Record, ...]:
    """Addresses of these networks before all other addresses; everything else stays where it is."""
    if not networks:
        return tuple(records)

    def fits(record: Record) -> bool:
        return any(_address(record) in network for network in networks)

    addresses = [each for each in records if isinstance(each.data, (A, AAAA))]
    ordered = iter([each for each in addresses if fits(each)] + [each for each in addresses if not fits(each)])
    return tuple(next(ordered) if isinstance(each.data, (A, AAAA)) else each for each in records)


def _address(record: Record) -> Address:
    assert isinstance(record.data, (A, AAAA))
    return record.data.address


def parse_weights(text: str) -> dict[str, dict[Address, int]]:
    """Names, addresses, weights. ValueError says the line."""
    found: dict[str, dict[Address, int]] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if len(words) == 1:
            name = fqdn(words[0]).lower()
            labels_of(name)
            if name in found:
                raise ValueError(f"line {number}: {words[0]!r} is here twice")
            found[name] = {}
        elif len(words) == 2 and name:
            address, weight = _weight_of(number, words)
            found[name][address] = weight
        elif words:
            raise ValueError(f"line {number}: neither a name nor ADDRESS WEIGHT")
    return found


def _weight_of(number: int, words: Sequence[str]) -> tuple[Address, int]:
    try:
        address = ipaddress.ip_address(words[0])
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not (words[1].isascii() and words[1].isdigit() and 1 <= int(words[1]) <= MAX_WEIGHT):
        raise ValueError(f"line {number}: a weight is from 1 to {MAX_WEIGHT}, not {words[1]!r}")
    return address, int(words[1])


def setup(setup: Setup) -> Sequence[Plugin]:
    """Policy and options; a file of weights must be readable."""
    directive = setup.once()
    policy = directive.words[0] if directive.args else "round_robin"
    if policy not in {"round_robin", "weighted"}:
        raise directive.error(f"unknown policy: {policy}", directive.args[0])
    if len(directive.args) > (2 if policy == "weighted" else 1):
        raise directive.error("unexpected argument", directive.args[-1])
    options = LoadbalanceOptions()
    weights: Weights = {}
    if policy == "weighted":
        if len(directive.args) < 2:
            raise directive.error("missing weight file argument", directive.args[0])
        path = setup.path(directive.args[1])
        options = replace(options, weight_file=path)
        weights = _read_weights(directive, path)
    for line in directive.block:
        options = _option(line, options)
    return [Loadbalance(options, weights)]


def _read_weights(directive: Directive, path: Path) -> Weights:
    try:
        return parse_weights(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise directive.error(f"cannot read the weight file: {error.strerror}", directive.args[1]) from error
    except ValueError as error:
        raise directive.error(f"weight file: {error}", directive.args[1]) from error


def _option(line: Directive, options: LoadbalanceOptions) -> LoadbalanceOptions:
    if line.name == "reload":
        if options.weight_file is None:
            raise line.error("reload is for the policy weighted")
        return replace(options, reload_s=parse_duration(_one(line)))
    if line.name == "limit_answers":
        return replace(options, limit=parse_number(_one(line), 1, MAX_ANSWERS))
    if line.name == "prefer" and line.args:
        return replace(options, prefer=(*options.prefer, *_networks(line)))
    raise line.error(f"unknown property '{line.name}'")


def _one(line: Directive) -> Token:
    if len(line.args) != 1:
        raise line.error(f"{line.name} needs one value")
    return line.args[0]


def _networks(line: Directive) -> Iterable[Network]:
    for arg in line.args:
        try:
            yield ipaddress.ip_network(arg.text, strict=False)
        except ValueError as error:
            raise ConfigError(f"invalid CIDR '{arg.text}'", arg) from error
