"""What a server can see of the pod it runs in: its addresses, from the kernel's own tables (no netlink library for two
files), and the search domains of its resolv.conf."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

_IPV4 = Path("/proc/net/fib_trie")
_IPV6 = Path("/proc/net/if_inet6")
_RESOLV_CONF = Path("/etc/resolv.conf")


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


def observe_searches() -> tuple[str, ...]:
    """The domains of the last `search` or `domain` line, absolute."""
    return parse_searches(_read(_RESOLV_CONF))


def parse_searches(text: str) -> tuple[str, ...]:
    """See resolv.conf(5)."""
    lines = [line.split() for line in text.splitlines()]
    found = [words[1:] for words in lines if words and words[0] in ("search", "domain")]
    return tuple(f"{name.strip('.').lower()}." for name in found[-1] if name.strip(".")) if found else ()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
