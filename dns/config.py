"""What a Corefile means: which server blocks listen on which ports for which zones, and what a plugin is made from.

The rule kept here: pure but for the reading of files that the Corefile imports. `corefile.py` has the grammar,
`registry.py` the plugins.

    example.org 10.0.0.0/15 dns://.:1053 { … }
      └ port 53    └ 0.10.in-addr.arpa.:53, 1.10.in-addr.arpa.:53    └ root zone on port 1053
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from podnet.dns.corefile import ConfigError, Directive, ServerBlock, Token, parse_corefile
from podnet.dns.message import fqdn, is_subdomain, labels_of
from podnet.dns.metrics import Registry

__all__ = [
    "ConfigError",
    "Directive",
    "ServerConfig",
    "Setup",
    "Token",
    "Zone",
    "cidr_zones",
    "is_zone",
    "load_config",
    "longest_match",
    "parse_config",
    "parse_duration",
    "parse_zone",
]

DEFAULT_PORT = 53
DEFAULT_COREFILE = ".:53 {\n    whoami\n    log\n}\n"
"""What CoreDNS serves when there is no Corefile."""
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
MAX_CIDR_ZONES = 256


@dataclass(frozen=True, slots=True)
class Zone:
    """One key of a server block: a zone on a port."""

    name: str
    port: int
    token: Token

    def __str__(self) -> str:
        return f"dns://{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """A server block with its keys understood."""

    zones: tuple[Zone, ...]
    directives: tuple[Directive, ...]

    def named(self, name: str) -> tuple[Directive, ...]:
        """The lines that begin with `name`."""
        return tuple(each for each in self.directives if each.name == name)


@dataclass(frozen=True, slots=True)
class Setup:
    """What one plugin of one server block is made from: all lines with its name, and the block around them."""

    directives: tuple[Directive, ...]
    zones: tuple[str, ...]
    port: int = DEFAULT_PORT
    block: tuple[Directive, ...] = ()
    metrics: Registry = field(default_factory=Registry)
    root: Path = Path()
    corefile: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    def once(self) -> Directive:
        """The one line; most plugins may stand in a server block only once."""
        if len(self.directives) > 1:
            raise self.directives[1].error("this plugin can only be used once per Server Block")
        return self.directives[0]

    def zones_of(self, args: Sequence[Token]) -> tuple[str, ...]:
        """Zones given as arguments (networks become reverse zones), else the server block's."""
        if not args:
            return self.zones
        return tuple(name for arg in args for name in _zone_names(arg, arg.text))

    def path(self, token: Token) -> Path:
        """A file named in the Corefile; the root plugin's directory (or that of the Corefile) is where it starts."""
        return self.root / token.text

    def plugin_words(self, name: str) -> tuple[Directive, ...]:
        """The lines of another plugin of the same block."""
        return tuple(each for each in self.block if each.name == name)


def parse_duration(token: Token, *, unit: str = "") -> float:
    """Seconds of `5s`, `1m30s`, `250ms`; a bare number is taken in `unit` where one is given."""
    text = token.text
    if text.isascii() and text.isdigit() and (unit or text == "0"):
        return int(text) * _UNITS[unit or "s"]
    parts = _DURATION.findall(text)
    if not parts or "".join(number + name for number, name in parts) != text:
        raise ConfigError(f"invalid duration '{text}'", token)
    return math.fsum(float(number) * _UNITS[name] for number, name in parts)


def parse_number(token: Token, low: int, high: int) -> int:
    """A whole number within bounds."""
    text = token.text
    if not (text.isascii() and text.isdigit() and len(text) < 19 and low <= int(text) <= high):
        raise ConfigError(f"'{text}' is not a number from {low} to {high}", token)
    return int(text)


def parse_config(
    text: str, file: str = "Corefile", environ: Mapping[str, str] | None = None, *, port: int = DEFAULT_PORT
) -> list[ServerConfig]:
    """The server blocks of a Corefile; no two of them may serve the same zone on the same port and address."""
    configs = [_server_config(block, port) for block in parse_corefile(text, file, environ)]
    if not configs:
        raise ConfigError("no server block", file=file)
    taken: dict[tuple[str, int, tuple[str, ...]], Zone] = {}
    for config in configs:
        addresses = tuple(word for line in config.named("bind") for word in line.words)
        for zone in config.zones:
            other = taken.setdefault((zone.name, zone.port, addresses), zone)
            if other is not zone:
                where = f"{other.token.file}:{other.token.line}"
                raise ConfigError(f"cannot serve {zone} - it is already defined at {where}", zone.token)
    return configs


def load_config(
    path: Path, environ: Mapping[str, str] | None = None, *, port: int = DEFAULT_PORT
) -> tuple[list[ServerConfig], str]:
    """The server blocks of a file, and its text."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ConfigError(f"loading Corefile: {reason}", file=str(path)) from error
    return parse_config(text, str(path), environ, port=port), text


def _server_config(block: ServerBlock, port: int) -> ServerConfig:
    zones = tuple(zone for key in block.keys for zone in parse_zone(key, port))
    return ServerConfig(zones, block.directives)


def parse_zone(token: Token, default_port: int = DEFAULT_PORT) -> list[Zone]:
    """`[dns://]ZONE[:PORT]`; a network may be several zones."""
    text = token.text
    scheme, separator, rest = text.partition("://")
    if separator:
        if scheme in {"tls", "grpc", "https", "https3", "quic"}:
            raise ConfigError(f"'{scheme}' is not served here, only dns", token)
        if scheme != "dns":
            raise ConfigError(f"unknown scheme '{scheme}'", token)
        text = rest
    port = default_port
    network = re.fullmatch(r"(.*/\d+)(?::(\d+))?", text)
    if network:
        host, given = network[1], network[2]
    else:
        host, _, given = text.partition(":") if text.count(":") == 1 else (text, "", "")
    if given:
        port = parse_number(Token(given, token.file, token.line), 1, 65535)
    elif text.endswith(":"):
        raise ConfigError(f"'{token.text}' has no port after ':'", token)
    return [Zone(name, port, token) for name in _zone_names(token, host or ".")]


def _zone_names(token: Token, host: str) -> list[str]:
    if "/" in host:
        try:
            return cidr_zones(host)
        except ValueError as error:
            raise ConfigError(f"'{host}' is no network: {error}", token) from error
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [fqdn(address.reverse_pointer)]
    name = fqdn(host).lower()
    try:
        labels_of(name)
    except ValueError as error:
        raise ConfigError(f"'{host}' is no zone: {error}", token) from error
    return [name]


def is_zone(text: str) -> bool:
    """Can this be the name of a zone, or a network?"""
    try:
        return bool(_zone_names(Token(text, "", 0), text))
    except ConfigError:
        return False


def cidr_zones(text: str) -> list[str]:
    """The reverse zones of a network: 10.0.0.0/15 is 0.10.in-addr.arpa. and 1.10.in-addr.arpa. (RFC 2317 is not)."""
    network = ipaddress.ip_network(text, strict=False)
    step = 8 if network.version == 4 else 4
    length = min(-(-network.prefixlen // step) * step, network.max_prefixlen)
    if network.prefixlen == 0:
        return ["in-addr.arpa." if network.version == 4 else "ip6.arpa."]
    names = []
    for subnet in network.subnets(new_prefix=length):
        labels = subnet.network_address.reverse_pointer.split(".")
        names.append(".".join(labels[(network.max_prefixlen - length) // step :]) + ".")
    assert len(names) <= MAX_CIDR_ZONES
    return names


def longest_match(name: str, zones: Sequence[str]) -> str | None:
    """The zone of `zones` that `name` (lower-case) is in; of several the longest."""
    best: str | None = None
    for zone in zones:
        if is_subdomain(name, zone) and (best is None or len(zone) > len(best)):
            best = zone
    return best
