"""log: a line for each answer.

Syntax: `log [NAMES...] [FORMAT] { class success|denial|error|all... }`. The default line is CoreDNS's:
`127.0.0.1:40000 - 29008 "A IN example.org. udp 41 false 4096" NOERROR qr,rd,ra 68 0.0379s`.

An answer that is logged is not for the fast path: whoever wants every line gets every line.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from podnet.dns.config import Directive, Setup, is_zone
from podnet.dns.handler import Handler, Plugin, Request, Response
from podnet.dns.message import NOERROR, NXDOMAIN, SOA, Message, class_name, is_subdomain, rcode_name, type_name
from podnet.dns.wire import WireError, encode

log = logging.getLogger("plugin/log")

COMMON = '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}'
COMBINED = COMMON + ' "{>opcode}"'
CLASSES = frozenset({"success", "denial", "error", "all"})
_FIELD = re.compile(r"\{([>a-z]+)\}")


@dataclass(frozen=True, slots=True)
class Rule:
    """Names, what of them, and how it is written."""

    zone: str
    format: str
    classes: frozenset[str]


class Log(Plugin):
    """The first rule for a name decides."""

    name = "log"

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules

    async def serve(self, request: Request, next_: Handler) -> Response:
        """Ask below, then write."""
        began = time.monotonic()
        response = await next_(request)
        for rule in self.rules:
            if is_subdomain(request.name, rule.zone):
                if "all" in rule.classes or response_class(response.message) in rule.classes:
                    log.info("%s", format_line(rule.format, request, response, time.monotonic() - began))
                    return response.once()
                return response
        return response


def response_class(message: Message) -> str:
    """success, denial (NXDOMAIN or no data) or error."""
    if message.rcode == NXDOMAIN:
        return "denial"
    if message.rcode != NOERROR:
        return "error"
    no_data = not message.answers and any(isinstance(each.data, SOA) for each in message.authority)
    return "denial" if no_data else "success"


def format_line(text: str, request: Request, response: Response, seconds: float) -> str:
    """Fill in the fields; what is no field stays as it is."""
    message = request.message
    answer = response.message
    edns = message.edns
    host = str(request.client) if request.client.version == 4 else f"[{request.client}]"
    values: dict[str, Callable[[], str]] = {
        "type": lambda: type_name(request.qtype),
        "name": lambda: request.qname,
        "class": lambda: class_name(request.qclass),
        "proto": lambda: request.transport,
        "remote": lambda: host,
        "local": lambda: str(request.local),
        "port": lambda: str(request.client_port),
        "size": lambda: str(request.size),
        "rcode": lambda: rcode_name(answer.rcode),
        "rsize": lambda: _size(answer),
        "duration": lambda: f"{seconds:.9f}s",
        ">rflags": lambda: flags(answer),
        ">id": lambda: str(message.id),
        ">opcode": lambda: str(message.opcode),
        ">do": lambda: str(request.do).lower(),
        ">bufsize": lambda: str(edns.payload if edns else 512),
    }
    text = text.replace("{common}", COMMON).replace("{combined}", COMBINED)
    return _FIELD.sub(lambda found: values[found[1]]() if found[1] in values else found[0], text)


def flags(message: Message) -> str:
    """`qr,aa,rd`."""
    names = {
        "qr": message.response,
        "aa": message.authoritative,
        "tc": message.truncated,
        "rd": message.recursion_desired,
        "ra": message.recursion_available,
        "ad": message.authentic_data,
        "cd": message.checking_disabled,
    }
    return ",".join(name for name, is_set in names.items() if is_set)


def _size(message: Message) -> str:
    try:
        return str(len(encode(message)))
    except WireError:
        return "0"


def setup(setup: Setup) -> Sequence[Plugin]:
    """Several lines are several rules."""
    rules: list[Rule] = []
    for directive in setup.directives:
        classes = frozenset(word for line in directive.block for word in _classes(line)) or frozenset({"all"})
        args = list(directive.args)
        text = COMMON
        if args and (args[-1].quoted or "{" in args[-1].text or not is_zone(args[-1].text)):
            text = {"{common}": COMMON, "{combined}": COMBINED}.get(args[-1].text, args[-1].text)
            args.pop()
        zones = setup.zones_of(args) if args else (".",)
        rules += [Rule(zone, text, classes) for zone in zones]
    return [Log(rules)]


def _classes(line: Directive) -> Sequence[str]:
    if line.name != "class" or not line.args:
        raise line.error(f"unknown property '{line.name}'")
    for arg in line.args:
        if arg.text not in CLASSES:
            raise line.error(f"unknown class '{arg.text}'", arg)
    return line.words
