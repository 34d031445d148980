"""The cache directive, understood. (A neighbour of `cache.py`, and no directive of its own.)"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from podnet.dns.config import Directive, Setup, parse_duration, parse_number

DEFAULT_CAPACITY = 9984
MAX_TTL = 2**31 - 1


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Limits and habits; the defaults are CoreDNS's."""

    zones: tuple[str, ...] = (".",)
    success_capacity: int = DEFAULT_CAPACITY
    success_ttl: int = 3600
    success_min_ttl: int = 5
    denial_capacity: int = DEFAULT_CAPACITY
    denial_ttl: int = 1800
    denial_min_ttl: int = 5
    servfail_s: float = 5.0
    prefetch: int = 0
    prefetch_window_s: float = 60.0
    prefetch_share: float = 0.1
    stale_s: float = 0.0
    verify_stale: bool = False
    success_disabled: tuple[str, ...] = ()
    denial_disabled: tuple[str, ...] = ()
    keep_ttl: bool = False


def parse_cache(setup: Setup) -> CacheOptions:
    """`cache [TTL] [ZONES...] { ... }`."""
    directive = setup.once()
    args = directive.args
    options = CacheOptions()
    if args and args[0].text.isascii() and args[0].text.isdigit():
        ttl = parse_number(args[0], 1, MAX_TTL)
        options = replace(options, success_ttl=ttl, denial_ttl=ttl)
        args = args[1:]
    options = replace(options, zones=setup.zones_of(args))
    for line in directive.block:
        reader = _READERS.get(line.name)
        if reader is None:
            raise line.error(f"unknown property '{line.name}'")
        options = reader(line, options, setup)
    return options


def _capacity(line: Directive, options: CacheOptions, _setup: Setup) -> CacheOptions:
    """`success CAPACITY [TTL] [MINTTL]`, and the same for denial."""
    if not 1 <= len(line.args) <= 3:
        raise line.error(f"{line.name} needs CAPACITY [TTL] [MINTTL]")
    names = (f"{line.name}_capacity", f"{line.name}_ttl", f"{line.name}_min_ttl")
    lows = (1, 1, 0)
    values: dict[str, Any] = {
        name: parse_number(arg, low, MAX_TTL) for name, arg, low in zip(names, line.args, lows, strict=False)
    }
    return replace(options, **values)


def _prefetch(line: Directive, options: CacheOptions, _setup: Setup) -> CacheOptions:
    """`prefetch AMOUNT [DURATION] [PERCENTAGE%]`."""
    if not 1 <= len(line.args) <= 3:
        raise line.error("prefetch needs AMOUNT [DURATION] [PERCENTAGE%]")
    options = replace(options, prefetch=parse_number(line.args[0], 0, MAX_TTL))
    if len(line.args) > 1:
        options = replace(options, prefetch_window_s=parse_duration(line.args[1]))
    if len(line.args) > 2:
        text = line.args[2].text
        if not text.endswith("%") or not text[:-1].isdigit() or not 10 <= int(text[:-1]) <= 90:
            raise line.error(f"percentage should be from 10% to 90%, not '{text}'", line.args[2])
        options = replace(options, prefetch_share=int(text[:-1]) / 100)
    return options


def _serve_stale(line: Directive, options: CacheOptions, _setup: Setup) -> CacheOptions:
    """`serve_stale [DURATION] [REFRESH_MODE]`."""
    if len(line.args) > 2:
        raise line.error("serve_stale takes [DURATION] [REFRESH_MODE]")
    stale_s = parse_duration(line.args[0]) if line.args else 3600.0
    mode = line.words[1].lower() if len(line.args) > 1 else "immediate"
    if mode not in {"immediate", "verify"}:
        raise line.error("invalid value for serve_stale refresh mode: " + mode, line.args[1])
    return replace(options, stale_s=stale_s, verify_stale=mode == "verify")


def _servfail(line: Directive, options: CacheOptions, _setup: Setup) -> CacheOptions:
    """`servfail DURATION`, at most five minutes (RFC 2308 section 7.1)."""
    if len(line.args) != 1:
        raise line.error("servfail needs a DURATION")
    seconds = parse_duration(line.args[0])
    if seconds > 300:
        raise line.error("caching SERVFAIL responses over 5 minutes is not permitted", line.args[0])
    return replace(options, servfail_s=seconds)


def _disable(line: Directive, options: CacheOptions, setup: Setup) -> CacheOptions:
    """`disable success|denial [ZONES...]`."""
    if not line.args or line.words[0] not in {"success", "denial"}:
        raise line.error("disable needs `success` or `denial`")
    zones = setup.zones_of(line.args[1:]) if len(line.args) > 1 else (".",)
    value: dict[str, Any] = {f"{line.words[0]}_disabled": zones}
    return replace(options, **value)


def _keepttl(line: Directive, options: CacheOptions, _setup: Setup) -> CacheOptions:
    """`keepttl`."""
    if line.args:
        raise line.error("keepttl takes no arguments")
    return replace(options, keep_ttl=True)


_READERS = {
    "success": _capacity,
    "denial": _capacity,
    "prefetch": _prefetch,
    "serve_stale": _serve_stale,
    "servfail": _servfail,
    "disable": _disable,
    "keepttl": _keepttl,
}
