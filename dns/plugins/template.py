"""template: answers made from the question by a pattern.

Syntax: `template CLASS TYPE [ZONE...] { match REGEX...; answer RR; additional RR; authority RR; rcode CODE; ederror CODE
[REASON]; fallthrough [ZONE...] }`. In RR, `{{ .Name }}`, `.Type`, `.Class`, `.Zone`, `.Remote`, `.Question.Name`, `{{ .Group.NAME }}`,
`{{ index .Match N }}`, `{{ parseInt .Group.NAME BASE BITS }}` and `{{ .Meta NAME }}` (always empty here) stand for parts of the question, as in CoreDNS; of Go's
template language only these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from podnet.dns.chase import follow_cname
from podnet.dns.config import Directive, Setup, Token, longest_match, parse_number
from podnet.dns.handler import Handler, Plugin, Request, Response, Reuse, Runtime, failure
from podnet.dns.message import (
    ANY_,
    ANY_CLASS,
    CLASS_NUMBERS,
    IN,
    RCODE_NUMBERS,
    Edns,
    Record,
    class_name,
    fqdn,
    reply,
    type_name,
    type_number,
)
from podnet.dns.zonefile import parse_record
from podnet.dns.zones import Fallthrough, parse_fallthrough

MAX_PAYLOAD = 65535
"""Of an answer's OPT: the client's own size is the lower one and counts."""
_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_INDEX = re.compile(r"index\s+\.Match\s+(\d+)")
_PARSE_INT = re.compile(r"parseInt\s+\.Group\.(\w+)\s+(\d+)\s+(\d+)")
EXTENDED_ERROR = 15
_FIELDS = (
    "Name",
    "Type",
    "Class",
    "Zone",
    "Remote",
    "Question.Name",
    "Question.Qtype",
    "Question.Qclass",
    "Message.Id",
)


@dataclass(frozen=True)
class Template:
    """One directive."""

    qclass: int
    qtype: int
    zones: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...] = (re.compile(".*"),)
    answers: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()
    authority: tuple[str, ...] = ()
    rcode: int = 0
    fallthrough: Fallthrough | None = None
    extended_error: bytes = b""  # code and reason of an extended DNS error (RFC 8914)

    @property
    def by_client(self) -> bool:
        """Does the answer depend on more than the question? (The fast path keeps no options, so with one it does.)"""
        return bool(self.extended_error) or any(
            ".Remote" in text or ".Message" in text for text in (*self.answers, *self.additional, *self.authority)
        )


class Templates(Plugin):
    """All templates of a server block, in order."""

    name = "template"

    def __init__(self, templates: Sequence[Template]) -> None:
        self.templates = templates
        self._resolve: Handler | None = None

    async def start(self, runtime: Runtime) -> None:
        """CNAMEs are followed by asking this server."""
        self._resolve = runtime.resolve

    async def serve(self, request: Request, next_: Handler) -> Response:
        """The first template that fits."""
        for template in self.templates:
            zone = longest_match(request.name, template.zones)
            if zone is None or not _asks(template, request):
                continue
            match = next((found for each in template.patterns if (found := each.search(request.name))), None)
            if match is None:
                if template.fallthrough is None or not template.fallthrough.through(request.name):
                    return failure(request, "")
                continue
            try:
                return await self._answer(template, request, zone, match)
            except ValueError as error:  # of a record that is none, or a number that is none
                return failure(request, f"template makes no record: {error}")
        return await next_(request)

    async def _answer(self, template: Template, request: Request, zone: str, match: re.Match[str]) -> Response:
        def made(texts: Sequence[str]) -> list[Record]:
            return [parse_record(expand(text, request, zone, match)) for text in texts]

        message = reply(
            request.message,
            template.rcode,
            answers=made(template.answers),
            additional=made(template.additional),
            authority=made(template.authority),
        )
        if template.extended_error:
            message = replace(message, edns=Edns(MAX_PAYLOAD, options=((EXTENDED_ERROR, template.extended_error),)))
        response = Response(message, None if template.by_client else Reuse())
        if self._resolve is not None and template.answers:
            return await follow_cname(request, response, self._resolve)
        return response


def _asks(template: Template, request: Request) -> bool:
    return template.qclass in {request.qclass, ANY_CLASS} and template.qtype in {request.qtype, ANY_}


def expand(text: str, request: Request, zone: str, match: re.Match[str]) -> str:
    """The text with its actions carried out."""
    values = {
        "Name": request.name,
        "Type": type_name(request.qtype),
        "Class": class_name(request.qclass),
        "Zone": zone,
        "Remote": str(request.client),
        "Question.Name": request.qname,
        "Question.Qtype": str(request.qtype),
        "Question.Qclass": str(request.qclass),
        "Message.Id": str(request.message.id),
    }

    def value(found: re.Match[str]) -> str:
        action = found[1]
        index = _INDEX.fullmatch(action)
        if index:
            return match[int(index[1])] or ""
        if action.startswith(".Group."):
            return match[action[7:]] or ""
        number = _PARSE_INT.fullmatch(action)
        if number:
            return str(parse_int(match[number[1]] or "", int(number[2]), int(number[3])))
        return "" if action.startswith(".Meta") else values[action[1:]]

    return _ACTION.sub(value, text)


def parse_int(text: str, base: int, bits: int) -> int:
    """Go's strconv.ParseUint; ValueError where it does not fit."""
    value = int(text, base)
    if value < 0 or value >> (bits or 64):
        raise ValueError(f"'{text}' does not fit {bits} bits")
    return value


def check_template(token: Token, patterns: Sequence[re.Pattern[str]]) -> str:
    """Every action is one that `expand` knows, for every pattern."""
    for action in _ACTION.findall(token.text):
        index = _INDEX.fullmatch(action)
        if index and all(int(index[1]) <= each.groups for each in patterns):
            continue
        number = _PARSE_INT.fullmatch(action)
        if number and all(number[1] in each.groupindex for each in patterns):
            if not (int(number[2]) == 0 or 2 <= int(number[2]) <= 36) or int(number[3]) > 64:
                raise Directive(token).error(f"parseInt has no base {number[2]} with {number[3]} bits")
            continue
        if action.startswith(".Group.") and all(action[7:] in each.groupindex for each in patterns):
            continue
        if not action.startswith(".Meta ") and not (action.startswith(".") and action[1:] in _FIELDS):
            raise Directive(token).error(f"template cannot do '{action}'")
    return token.text


def setup(setup: Setup) -> Sequence[Plugin]:
    """All lines of the block are one plugin."""
    return [Templates([_template(directive, setup) for directive in setup.directives])]


def _template(directive: Directive, setup: Setup) -> Template:
    if len(directive.args) < 2:
        raise directive.error("template needs CLASS and TYPE")
    qclass = CLASS_NUMBERS.get(directive.words[0].upper())
    if qclass is None:
        raise directive.error(f"invalid query class '{directive.words[0]}'", directive.args[0])
    try:
        qtype = type_number(directive.words[1])
    except KeyError as error:
        raise directive.error(f"invalid RR class '{directive.words[1]}'", directive.args[1]) from error
    patterns = [_pattern(arg, line) for line in directive.block if line.name == "match" for arg in line.args]
    patterns = patterns or [re.compile(".*")]
    sections: dict[str, list[str]] = {"answer": [], "additional": [], "authority": []}
    rcode, fallthrough, extended_error = 0, None, b""
    for line in directive.block:
        if line.name in sections and line.args:
            sections[line.name] += [check_template(arg, patterns) for arg in line.args]
        elif line.name == "rcode" and len(line.args) == 1 and line.words[0].upper() in RCODE_NUMBERS:
            rcode = RCODE_NUMBERS[line.words[0].upper()]
        elif line.name == "fallthrough":
            fallthrough = parse_fallthrough(line, setup)
        elif line.name == "ederror" and 1 <= len(line.args) <= 2:
            code = parse_number(line.args[0], 0, 65535)
            extended_error = code.to_bytes(2, "big") + "".join(line.words[1:]).encode()
        elif line.name not in {"match", "upstream"} or (line.name == "match" and not line.args):
            raise line.error(f"unknown or incomplete property '{line.name}'")
    return Template(
        IN if qclass == IN else qclass,
        qtype,
        tuple(fqdn(zone) for zone in setup.zones_of(directive.args[2:])),
        tuple(patterns),
        tuple(sections["answer"]),
        tuple(sections["additional"]),
        tuple(sections["authority"]),
        rcode,
        fallthrough,
        extended_error,
    )


def _pattern(arg: Token, line: Directive) -> re.Pattern[str]:
    try:
        return re.compile(arg.text)
    except re.error as error:
        raise line.error(f"could not parse regex: {error}", arg) from error
