"""bind: listen on these addresses only, instead of everywhere.

Syntax: `bind ADDRESS|IFACE... { except ADDRESS|IFACE... }`. An interface stands for all its addresses.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from podnet.dns.config import Directive, Setup, Token
from podnet.dns.handler import Plugin

_SIOCGIFADDR = 0x8915


class Bind(Plugin):
    """Only says where: `instance.bound_addresses` reads it."""

    name = "bind"

    def __init__(self, listen_addresses: tuple[str, ...]) -> None:
        self.listen_addresses = listen_addresses


def observe_addresses(word: Token) -> list[str]:
    """The address itself, or those which an interface has now."""
    try:
        return [str(ipaddress.ip_address(word.text))]
    except ValueError:
        pass
    if word.text not in {name for _, name in socket.if_nameindex()}:
        raise Directive(word).error(f"not a valid IP address or interface name: '{word.text}'")
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        import fcntl  # only interfaces need it

        try:
            answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, struct.pack("256s", word.text.encode()[:15]))
            found.append(socket.inet_ntoa(answer[20:24]))
        except OSError:
            pass  # it has no IPv4 address
    table = Path("/proc/net/if_inet6")
    for line in table.read_text(encoding="ascii").splitlines() if table.exists() else ():
        digits, _, _, _, _, name = line.split()
        address = ipaddress.IPv6Address(bytes.fromhex(digits))
        if name == word.text and not address.is_link_local:
            found.append(str(address))
    return found


def setup(setup: Setup) -> Sequence[Plugin]:
    """Several lines add up."""
    wanted: list[str] = []
    excluded: set[str] = set()
    for directive in setup.directives:
        if not directive.args:
            raise directive.error("bind needs at least one address or interface name")
        for line in directive.block:
            if line.name != "except" or not line.args:
                raise line.error(f"unknown property '{line.name}'")
            excluded.update(address for arg in line.args for address in observe_addresses(arg))
        wanted += [address for arg in directive.args for address in observe_addresses(arg)]
    addresses = tuple(dict.fromkeys(each for each in wanted if each not in excluded))
    if not addresses:
        raise setup.directives[0].error("nothing is left to listen on")
    return [Bind(addresses)]
