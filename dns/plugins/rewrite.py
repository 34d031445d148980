"""rewrite: changes questions on their way in, and answers on their way out so that they fit the question asked.

Syntax: `rewrite [continue|stop] FIELD ...`, or `rewrite [continue|stop] { FIELD ...; answer ... }` with

    name  [exact|prefix|suffix|substring|regex] FROM TO [answer auto] [answer name FROM TO] [answer value FROM TO]
    type  FROM TO          class FROM TO
    ttl   [exact|...] NAME SECONDS | MIN-MAX
    rcode [exact|...] NAME FROM TO
    cname [exact|...] FROM TO            edns0 ... (see `rewrite_edns.py`)

`stop` (the default) ends with the first rule that fits, `continue` goes on. An exact name, and any with `answer auto`,
is put back in the answer: owners and targets that are the rewritten name become the one asked for. `cname` sends an alias
that leads to FROM to TO instead, and looks that up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from podnet.dns.chase import follow_cname
from podnet.dns.config import Directive, Setup, Token, parse_number
from podnet.dns.handler import Handler, Plugin, Request, Response, Runtime
from podnet.dns.message import (
    CLASS_NUMBERS,
    CNAME,
    MX,
    NS,
    PTR,
    RCODE_NUMBERS,
    SRV,
    TYPE_NUMBERS,
    Message,
    Rdata,
    Record,
    fqdn,
    labels_of,
)
from podnet.dns.plugins.rewrite_edns import edns_rule

MATCHES = ("exact", "prefix", "suffix", "substring", "regex")
MAX_TTL = 2**31 - 1

Undo: TypeAlias = Callable[[Message], Message]
Change: TypeAlias = tuple[Request, Undo | None]
NameMatch: TypeAlias = Callable[[str], "str | None"]
"""From a lower-case name to what the rule makes of it; None where it does not fit."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: `apply` gives the changed request and how to change the answer, or None."""

    apply: Callable[[Request], Change | None]
    stop: bool = True
    target: NameMatch | None = None  # of a cname rule, which acts on the answer


class Rewrite(Plugin):
    """All rules of a server block, in order."""

    name = "rewrite"

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self._resolve: Handler | None = None

    async def start(self, runtime: Runtime) -> None:
        """Aliases that lead elsewhere are followed by asking this server."""
        self._resolve = runtime.resolve

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Change, ask, change back in the opposite order."""
        current, undos = request, []
        targets: list[NameMatch] = []
        for rule in self.rules:
            if rule.target is not None:
                targets.append(rule.target)
                continue
            change = rule.apply(current)
            if change is None:
                continue
            current = change[0]
            if change[1] is not None:
                undos.append(change[1])
            if rule.stop:
                break
        response = await next_(current)
        for target in targets:
            response = await self._redirect(current, response, target)
        if current is request and not undos:
            return response
        message = response.message
        for undo in reversed(undos):
            message = undo(message)
        return response.with_message(replace(message, questions=request.message.questions))

    async def _redirect(self, request: Request, response: Response, target: NameMatch) -> Response:
        """The answer with its first alias that fits leading elsewhere, and what is there."""
        for index, each in enumerate(response.message.answers):
            new = target(each.data.target.lower()) if isinstance(each.data, CNAME) else None
            if new is None or not _is_name(new) or self._resolve is None:
                continue
            kept = (*response.message.answers[:index], replace(each, data=CNAME(new)))
            changed = response.once().with_message(replace(response.message, answers=kept))
            return await follow_cname(request, changed, self._resolve)
        return response


def name_match(kind: str, pattern: Token, to: Token) -> NameMatch:
    """How a name is changed."""
    target = to.text.lower()
    if kind == "regex":
        return _regex(pattern, to)
    source = pattern.text.lower()
    if kind == "exact":
        source, target = fqdn(source), fqdn(target)
        return lambda name: target if name == source else None
    if kind == "prefix":
        return lambda name: target + name[len(source) :] if name.startswith(source) else None
    if kind == "suffix":
        source, target = fqdn(source), fqdn(target)
        return lambda name: name[: -len(source)] + target if name.endswith(source) else None
    return lambda name: name.replace(source, target) if source in name else None


def _regex(pattern: Token, to: Token) -> NameMatch:
    """`{0}` is the whole match, `{1}` the first group."""
    try:
        expression = re.compile(pattern.text)
    except re.error as error:
        raise Directive(pattern).error(f"invalid regex pattern: {error}") from error
    groups = [int(number) for number in re.findall(r"\{(\d+)\}", to.text)]
    if any(number > expression.groups for number in groups):
        raise Directive(to).error(f"the rewrite regex pattern '{pattern.text}' has not that many groups")

    def change(name: str) -> str | None:
        found = expression.search(name)
        if found is None:
            return None
        return fqdn(re.sub(r"\{(\d+)\}", lambda group: found[int(group[1])] or "", to.text))

    return change


def rename_records(message: Message, owner: NameMatch, value: NameMatch | None) -> Message:
    """The message with other owners and, where wanted, other targets."""

    def renamed(records: tuple[Record, ...]) -> tuple[Record, ...]:
        return tuple(
            replace(
                each,
                name=_new_name(owner, each.name),
                data=each.data if value is None else _new_target(value, each.data),
            )
            for each in records
        )

    return replace(
        message,
        answers=renamed(message.answers),
        authority=renamed(message.authority),
        additional=renamed(message.additional),
    )


def _new_name(match: NameMatch, name: str) -> str:
    new = match(name.lower())
    return name if new is None or not _is_name(new) else new


def _new_target(match: NameMatch, data: Rdata) -> Rdata:
    if isinstance(data, (CNAME, NS, PTR, SRV)):
        return replace(data, target=_new_name(match, data.target))
    if isinstance(data, MX):
        return replace(data, exchange=_new_name(match, data.exchange))
    return data


def _is_name(text: str) -> bool:
    try:
        labels_of(text)
    except ValueError:
        return False
    return True


def _name_rule(line: Directive, answers: Sequence[Directive], *, stop: bool) -> Rule:
    kind, args = _kind(line, line.args)
    if len(args) < 2:
        raise line.error("rewrite name needs FROM and TO")
    match = name_match(kind, args[0], args[1])
    auto, owners, values = kind == "exact", *_answer_rules(line, [args[2:], *[each.args for each in answers]])
    if ("auto",) in {tuple(word.text for word in part) for part in _parts(args[2:])}:
        auto = True
    if any(each.words == ("auto",) for each in answers):
        auto = True

    def apply(request: Request) -> Change | None:
        new = match(request.name)
        if new is None or not _is_name(new):
            return None
        if new == request.name:
            return None
        asked = request.qname

        def back(name: str) -> str | None:
            return asked if name == new else None

        def undo(message: Message) -> Message:
            if auto and not owners and not values:
                return rename_records(message, back, back)
            for owner in owners:
                message = rename_records(message, owner, None)
            for value in values:
                message = rename_records(message, lambda _: None, value)
            return message

        return request.asking(new), undo

    return Rule(apply, stop)


def _parts(words: Sequence[Token]) -> list[list[Token]]:
    """The words after each `answer`."""
    parts: list[list[Token]] = []
    for word in words:
        if word.text == "answer":
            parts.append([])
        elif not parts:
            raise Directive(word).error("expected 'answer'")
        else:
            parts[-1].append(word)
    return parts


def _answer_rules(line: Directive, sources: Sequence[Sequence[Token]]) -> tuple[list[NameMatch], list[NameMatch]]:
    """`answer name FROM TO` and `answer value FROM TO`."""
    owners: list[NameMatch] = []
    values: list[NameMatch] = []
    parts = [*_parts(sources[0]), *[list(each) for each in sources[1:]]]
    for part in parts:
        words = [word.text for word in part]
        if words == ["auto"]:
            continue
        kind = words[0] if words and words[0] in {"name", "value"} else "name"
        rest = part[1:] if words and words[0] in {"name", "value"} else part
        if len(rest) != 2:
            raise line.error("answer needs `auto`, or [name|value] FROM TO", part[0] if part else None)
        (owners if kind == "name" else values).append(name_match("regex", rest[0], rest[1]))
    return owners, values


def _kind(line: Directive, args: Sequence[Token]) -> tuple[str, list[Token]]:
    if args and args[0].text.lower() in MATCHES and len(args) > 2:
        return args[0].text.lower(), list(args[1:])
    if len(args) > 2 and args[2].text != "answer" and line.name == "name":
        raise line.error(
            f"name rule supports only exact, prefix, suffix, substring, and regex: '{args[0].text}'", args[0]
        )
    return "exact", list(args)


def _number_rule(line: Directive, numbers: dict[str, int], *, stop: bool) -> Rule:
    """Type and class."""
    if len(line.args) != 2:
        raise line.error(f"{line.name} rules must have exactly two arguments")
    unknown = [arg for arg in line.args if arg.text.upper() not in numbers]
    if unknown:
        raise line.error(f"invalid {line.name} '{unknown[0].text}'", unknown[0])
    old, new = (numbers[word.upper()] for word in line.words)

    def apply(request: Request) -> Change | None:
        if line.name == "type":
            return (request.asking(qtype=new), None) if request.qtype == old else None
        return (request.asking(qclass=new), None) if request.qclass == old else None

    return Rule(apply, stop)


def _ttl_rule(line: Directive, *, stop: bool) -> Rule:
    kind, args = _kind(line, line.args)
    if len(args) != 2:
        raise line.error("ttl rules need NAME and SECONDS or MIN-MAX")
    fits = _fits(kind, args[0])
    low, dash, high = args[1].text.partition("-")
    lowest = parse_number(replace(args[1], text=low), 0, MAX_TTL) if low else 0
    highest = lowest
    if dash:
        highest = parse_number(replace(args[1], text=high), 0, MAX_TTL) if high else MAX_TTL

    def undo(message: Message) -> Message:
        def limited(records: tuple[Record, ...]) -> tuple[Record, ...]:
            return tuple(replace(each, ttl=min(max(each.ttl, lowest), highest)) for each in records)

        return replace(
            message,
            answers=limited(message.answers),
            authority=limited(message.authority),
            additional=limited(message.additional),
        )

    return Rule(lambda request: (request, undo) if fits(request.name) else None, stop)


def _rcode_rule(line: Directive, *, stop: bool) -> Rule:
    kind, args = _kind(line, line.args)
    if len(args) != 3:
        raise line.error("rcode rules need NAME, FROM and TO")
    fits = _fits(kind, args[0])
    codes = []
    for arg in args[1:]:
        if arg.text.upper() not in RCODE_NUMBERS and not (arg.text.isdigit() and int(arg.text) < 4096):
            raise line.error(f"invalid rcode '{arg.text}'", arg)
        codes.append(RCODE_NUMBERS.get(arg.text.upper(), int(arg.text) if arg.text.isdigit() else 0))

    def undo(message: Message) -> Message:
        return replace(message, rcode=codes[1]) if message.rcode == codes[0] else message

    return Rule(lambda request: (request, undo) if fits(request.name) else None, stop)


def _cname_rule(line: Directive, *, stop: bool) -> Rule:
    kind, args = _kind(line, line.args)
    if len(args) != 2:
        raise line.error("cname rules need FROM and TO")
    return Rule(lambda _: None, stop, target=name_match(kind, args[0], args[1]))


def _fits(kind: str, pattern: Token) -> Callable[[str], bool]:
    match = name_match(kind, pattern, replace(pattern, text="."))
    return lambda name: match(name) is not None


def _rule(line: Directive, answers: Sequence[Directive], *, stop: bool) -> Rule:
    match line.name:
        case "name":
            return _name_rule(line, answers, stop=stop)
        case "type":
            return _number_rule(line, TYPE_NUMBERS, stop=stop)
        case "class":
            return _number_rule(line, CLASS_NUMBERS, stop=stop)
        case "ttl":
            return _ttl_rule(line, stop=stop)
        case "rcode":
            return _rcode_rule(line, stop=stop)
        case "edns0":
            return Rule(edns_rule(line), stop)
        case "cname":
            return _cname_rule(line, stop=stop)
    raise line.error(f"invalid rule type '{line.name}'")


def setup(setup: Setup) -> Sequence[Plugin]:
    """All lines, in order."""
    return [Rewrite([_parse(directive) for directive in setup.directives])]


def _parse(directive: Directive) -> Rule:
    args = list(directive.args)
    stop = True
    if args and args[0].text.lower() in {"continue", "stop"}:
        stop = args.pop(0).text.lower() == "stop"
    if directive.has_block:
        lines = [line for line in directive.block if line.name != "answer"]
        answers = [line for line in directive.block if line.name == "answer"]
        if args or len(lines) != 1:
            raise directive.error("a rewrite block has one rule and its answers")
        return _rule(lines[0], answers, stop=stop)
    if not args:
        raise directive.error("rewrite needs a rule")
    return _rule(Directive(args[0], tuple(args[1:])), (), stop=stop)
