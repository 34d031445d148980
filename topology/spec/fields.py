"""Typed access to the fields of a YAML mapping, collecting every problem instead of stopping at the first.

Pure. A reader hands out defaults for what is absent or wrong, so that one pass reports everything; `done` reports the
fields nobody asked for, with the nearest known name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Any, TypeVar

from podnet.topology.spec.document import Value
from podnet.topology.spec.types import Problem

T = TypeVar("T")

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:bit|bps|bit/s)", re.IGNORECASE)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_RATE_MAX_BIT_S = 10**13


class Fields:
    """The fields of one mapping."""

    def __init__(self, value: Value | None, path: str, problems: list[Problem]) -> None:
        self.problems = problems
        self.path = path
        self.line = value.line if value else 0
        self._known: list[str] = []
        self._data: dict[str, Value] = {}
        if value is None or value.data is None:
            return
        if isinstance(value.data, dict):
            self._data = value.data
        else:
            self.problem(value, f"must be a mapping, not {type_name(value.data)}")

    def problem(self, value: Value | None, message: str, name: str = "") -> None:
        """Note a problem of one value, or of this mapping (or an absent field of it)."""
        if value is not None:
            self.problems.append(Problem(value.path, value.where(), message))
        else:
            path = ".".join(part for part in (self.path, name) if part)
            self.problems.append(Problem(path, self.line, message))

    def has(self, name: str) -> bool:
        """Whether the field is given and not null."""
        return name in self._data and self._data[name].data is not None

    def raw(self, name: str) -> Value | None:
        """The field as it stands; null counts as absent."""
        self._known.append(name)
        value = self._data.get(name)
        return None if value is None or value.data is None else value

    def line_of(self, name: str) -> int:
        """The line of a field, or of the mapping."""
        return self._data[name].where() if name in self._data else self.line

    def mapping(self, name: str) -> Fields:
        """A nested mapping; empty when absent."""
        return Fields(self.raw(name), f"{self.path}.{name}" if self.path else name, self.problems)

    def items(self, name: str) -> list[Value] | None:
        """A list; None when absent."""
        value = self.raw(name)
        if value is None:
            return None
        if not isinstance(value.data, list):
            self.problem(value, f"must be a list, not {type_name(value.data)}")
            return None
        return value.data

    def parsed(self, name: str, default: T, parse: Callable[[Any], T]) -> T:
        """A field through a parser that raises ValueError with what it expected."""
        value = self.raw(name)
        if value is None:
            return default
        try:
            return parse(value.data)
        except ValueError as error:
            self.problem(value, str(error))
            return default

    def required(self, name: str, default: T, parse: Callable[[Any], T]) -> T:
        """As `parsed`, for a field that must be there."""
        if not self.has(name):
            self.raw(name)
            self.problem(None, "is required", name)
            return default
        return self.parsed(name, default, parse)

    def each(self) -> list[tuple[str, Value]]:
        """All fields, where any name may stand."""
        self._known.extend(self._data)
        return list(self._data.items())

    def done(self) -> None:
        """Report fields that nobody asked for."""
        for name, value in self._data.items():
            if name not in self._known:
                self.problem(value, f"unknown field{suggestion(name, self._known)}")


def suggestion(name: str, known: Sequence[str]) -> str:
    """` (did you mean "role"?)`, or what there is to choose from."""
    folded = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if near:
        return f' (did you mean "{folded[near[0]]}"?)'
    return f" (known here: {', '.join(known)})" if known else ""


def type_name(data: Any) -> str:
    """What a YAML value is, in words."""
    if isinstance(data, dict):
        return "a mapping"
    if isinstance(data, list):
        return "a list"
    if isinstance(data, bool):
        return f"the boolean {str(data).lower()}"
    if isinstance(data, int | float):
        return f"the number {data}"
    return "null" if data is None else f"the string {data!r}" if isinstance(data, str) else f"{data!r}"


# --- parsers: each returns the value or raises ValueError saying what it expected ---------------------------------


def text(data: Any) -> str:
    """A string."""
    if not isinstance(data, str):
        raise ValueError(f"must be a string, not {type_name(data)}")  # noqa: TRY004 - parsers raise one kind
    return data


def boolean(data: Any) -> bool:
    """True or false."""
    if not isinstance(data, bool):
        raise ValueError(f"must be true or false, not {type_name(data)}")  # noqa: TRY004 - parsers raise one kind
    return data


def one_of(choices: Sequence[T]) -> Callable[[Any], T]:
    """One of some words."""

    def parse(data: Any) -> T:
        for choice in choices:
            if data == choice and not isinstance(data, bool):
                return choice
        words = [str(choice) for choice in choices]
        raise ValueError(f"must be one of {', '.join(words)}, not {type_name(data)}{_meant(data, words)}")

    return parse


def _meant(data: Any, words: list[str]) -> str:
    near = difflib.get_close_matches(str(data).lower(), words, n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""


def integer(low: int, high: int) -> Callable[[Any], int]:
    """A whole number in a range."""

    def parse(data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            raise ValueError(f"must be a whole number, not {type_name(data)}")  # noqa: TRY004 - parsers raise one kind
        if not low <= data <= high:
            raise ValueError(f"must be from {low} to {high}, not {data}")
        return data

    return parse


def dns_label(data: Any) -> str:
    """RFC 1123: up to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit."""
    name = text(data)
    if len(name) > 63 or not _LABEL.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a DNS-1123 label: at most 63 lower case alphanumeric characters or '-', "
            "starting and ending with an alphanumeric character"
        )
    return name


def dns_subdomain(data: Any) -> str:
    """RFC 1123: labels joined by dots, up to 253 characters."""
    name = text(data)
    if len(name) > 253 or not all(len(label) <= 63 and _LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f"{name!r} is not a DNS-1123 subdomain: labels of [a-z0-9-], joined by dots")
    return name


def ipv4_address(data: Any) -> IPv4Address:
    """An IPv4 address."""
    try:
        return IPv4Address(text(data))
    except AddressValueError as error:
        raise ValueError(f"{data!r} is not an IPv4 address") from error


def machine_address(data: Any) -> IPv4Address:
    """An IPv4 address that a machine can have."""
    address = ipv4_address(data)
    if address.is_multicast or address.is_loopback or address.is_unspecified or int(address) == 0xFFFFFFFF:
        raise ValueError(f"{data!r} is no address of a machine")
    return address


def ipv4_network(data: Any) -> IPv4Network:
    """A network without host bits."""
    words = text(data)
    if "/" not in words:
        raise ValueError(f"{data!r} is not a CIDR block: it has no /prefix")
    try:
        return IPv4Network(words)
    except (AddressValueError, NetmaskValueError) as error:
        raise ValueError(f"{data!r} is not an IPv4 CIDR block, such as 10.244.0.0/16") from error
    except ValueError as error:
        fixed = IPv4Network(words, strict=False)
        raise ValueError(f'{data!r} has host bits set (did you mean "{fixed}"?)') from error


def rate_bit_s(data: Any) -> int:
    """`100Mbit`, `1Gbit`, `500kbit`, as tc(8) writes rates."""
    matched = _RATE.fullmatch(data.strip()) if isinstance(data, str) else None
    if matched is None:
        raise ValueError(f"must be a rate such as 100Mbit, not {type_name(data)}")
    rate = round(float(matched[1]) * _FACTORS[matched[2].lower()])
    if not 8_000 <= rate <= _RATE_MAX_BIT_S:
        raise ValueError(f"must be from 8kbit to 10Tbit, not {data}")
    return rate


def duration_s(low: float, high: float) -> Callable[[Any], float]:
    """`40s`, `500ms`, `1m30s`, as Kubernetes writes durations; a bare number is seconds."""

    def parse(data: Any) -> float:
        if isinstance(data, int | float) and not isinstance(data, bool):
            seconds = float(data)
        elif isinstance(data, str) and _DURATION.fullmatch(data):
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(data))
        else:
            raise ValueError(f"must be a duration such as 40s or 500ms, not {type_name(data)}")
        if not low <= seconds <= high:
            raise ValueError(f"must be from {low:g}s to {high:g}s, not {data}")
        return seconds

    return parse


def percent(data: Any) -> float:
    """`1%` or `0.5%`; a bare number is percent too."""
    words = data.removesuffix("%").strip() if isinstance(data, str) else data
    try:
        value = float(words) if not isinstance(words, bool) else -1.0
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 100:
        raise ValueError(f"must be a percentage such as 1%, not {type_name(data)}")
    return value
