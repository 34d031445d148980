"""rewrite edns0: options added to questions on their way to other servers, and taken out of the answers again.

    edns0 local  set|append|replace|unset CODE [DATA] [revert]      DATA: text, 0x..., {qname} {qtype} {client_ip} ...
    edns0 nsid   set|append|replace|unset [revert]
    edns0 subnet set|append|replace|unset [V4BITS V6BITS] [revert]  the client's network (RFC 7871)

`set` adds or replaces, `append` only adds, `replace` only replaces. (A neighbour of `rewrite.py`, and no directive of its
own.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import replace

from podnet.dns.config import Directive, Token, parse_number
from podnet.dns.handler import Request
from podnet.dns.message import Edns, Message

NSID, SUBNET = 3, 8
MAX_CODE = 65535
ACTIONS = ("set", "append", "replace", "unset")

Data = Callable[[Request], bytes]
Undo = Callable[[Message], Message]
Change = tuple[Request, "Undo | None"]
Apply = Callable[[Request], "Change | None"]

_VARIABLES: dict[str, Data] = {
    "{qname}": lambda request: request.qname.encode(),
    "{qtype}": lambda request: request.qtype.to_bytes(2, "big"),
    "{client_ip}": lambda request: request.client.packed,
    "{client_port}": lambda request: request.client_port.to_bytes(2, "big"),
    "{protocol}": lambda request: request.transport.encode(),
    "{server_ip}": lambda request: request.local.packed if request.local is not None else b"",
    "{server_port}": lambda request: request.local_port.to_bytes(2, "big"),
}


def edns_rule(line: Directive) -> Apply:
    """What an `edns0` line does to a request."""
    args = list(line.args)
    if len(args) < 2:
        raise line.error("edns0 needs local, nsid or subnet, and an action")
    kind, action = args[0].text.lower(), args[1].text.lower()
    if action not in ACTIONS:
        raise line.error(f"invalid action '{args[1].text}': one of {', '.join(ACTIONS)}", args[1])
    rest = args[2:]
    revert = bool(rest) and rest[-1].text.lower() == "revert"
    rest = rest[:-1] if revert else rest
    if kind == "local":
        code, data = _local(line, rest, action)
    elif kind == "nsid":
        _expect(line, rest, 0)
        code, data = NSID, _nothing
    elif kind == "subnet":
        code, data = SUBNET, _subnet(line, rest, action)
    else:
        raise line.error(f"invalid rule type '{args[0].text}': one of local, nsid, subnet", args[0])

    def apply(request: Request) -> Change | None:
        edns = request.message.edns or Edns()
        options = changed(edns.options, action, code, data(request) if action != "unset" else b"")
        if options == edns.options:
            return None
        fresh = replace(request.message, edns=replace(edns, options=options))
        return replace(request, message=fresh), (_without(code) if revert else None)

    return apply


def changed(
    options: tuple[tuple[int, bytes], ...], action: str, code: int, data: bytes
) -> tuple[tuple[int, bytes], ...]:
    """The options after an action on one code."""
    there = any(each == code for each, _ in options)
    if action == "unset":
        return tuple(each for each in options if each[0] != code)
    if there and action in {"set", "replace"}:
        return tuple((each, data if each == code else old) for each, old in options)
    return options if there or action == "replace" else (*options, (code, data))


def _without(code: int) -> Undo:
    def undo(message: Message) -> Message:
        if message.edns is None:
            return message
        return replace(message, edns=replace(message.edns, options=changed(message.edns.options, "unset", code, b"")))

    return undo


def _nothing(_request: Request) -> bytes:
    return b""


def _expect(line: Directive, args: Sequence[Token], count: int) -> None:
    if len(args) != count:
        raise line.error(f"edns0 {line.words[0]} {line.words[1]} needs {count} more values", args[-1] if args else None)


def _local(line: Directive, args: Sequence[Token], action: str) -> tuple[int, Data]:
    _expect(line, args, 1 if action == "unset" else 2)
    try:
        code = int(args[0].text, 0)
    except ValueError:
        code = -1
    if not 0 <= code <= MAX_CODE:
        raise line.error(f"'{args[0].text}' is no option code", args[0])
    return code, _nothing if action == "unset" else _data(line, args[1])


def _data(line: Directive, arg: Token) -> Data:
    text = arg.text
    if text.startswith("{") and text.endswith("}"):
        variable = _VARIABLES.get(text)
        if variable is None and "/" not in text:
            raise line.error(f"unsupported variable name '{text}': one of {' '.join(_VARIABLES)}", arg)
        return variable or _nothing  # metadata of plugins, of which there is none here: empty, as in CoreDNS
    if text.startswith("0x"):
        try:
            constant = bytes.fromhex(text[2:])
        except ValueError as error:
            raise line.error(f"'{text}' is no hexadecimal data", arg) from error
    else:
        constant = text.encode()
    return lambda _request: constant


def _subnet(line: Directive, args: Sequence[Token], action: str) -> Data:
    if action == "unset":
        _expect(line, args, 0)
        return _nothing
    _expect(line, args, 2)
    bits = {4: parse_number(args[0], 0, 32), 6: parse_number(args[1], 0, 128)}

    def data(request: Request) -> bytes:
        client = request.client
        length = bits[client.version]
        network = ipaddress.ip_network((client, length), strict=False)
        family = 1 if client.version == 4 else 2
        return family.to_bytes(2, "big") + bytes((length, 0)) + network.network_address.packed[: (length + 7) // 8]

    return data
