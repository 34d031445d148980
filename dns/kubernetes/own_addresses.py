"""The addresses this process can be reached at, from the kernel's own tables: no netlink library for two files."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

_IPV4 = Path("/proc/net/fib_trie")
_IPV6 = Path("/proc/net/if_inet6")


def observe_own_addresses() -> tuple[str, ...]:
    """Every address of this network namespace that is not only of use on one link or one machine."""
    found = dict.fromkeys((*parse_fib_trie(_read(_IPV4)), *parse_if_inet6(_read(_IPV6))))
    return tuple(text for text in found if not (ip_address(text).is_loopback or ip_address(text).is_link_local))


def parse_fib_trie(text: str) -> Iterator[str]:
    """The addresses of `/32 host LOCAL` leaves."""
    last = ""
    for line in text.splitlines():
        if "|--" in line:
            last = line.split("|--")[1].strip()
        elif "/32 host LOCAL" in line:
            yield last


def parse_if_inet6(text: str) -> Iterator[str]:
    """The first column: 32 digits without colons."""
    for line in text.splitlines():
        if line.strip():
            yield str(IPv6Address(int(line.split()[0], 16)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
