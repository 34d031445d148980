"""Quantities such as `100m`, `1Gi`, `1e3`: exact arithmetic and the canonical form the server writes back.

The rule: no precision is lost below nano; finer values round away from zero to nano, as upstream does. The canonical
form has no fraction, the largest exponent that needs none, and keeps the family of suffixes it was written in.
Source: k8s.io/apimachinery pkg/api/resource (documentation of Quantity).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache, total_ordering
from typing import Literal

Format = Literal["DecimalSI", "BinarySI", "DecimalExponent"]

_PATTERN = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i|)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_BY_EXPONENT = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_BY_EXPONENT = {exponent: suffix for suffix, exponent in _BINARY.items()}
_NANO = 10**9
_MAX = 2**63 - 1  # upstream caps at this; it "cannot represent" more

FORMAT_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_ERROR = "unable to parse quantity's suffix"
_LOOSE = re.compile(r"[+-]?[0-9.]+[eEinumkKMGTP]*[-+]?[0-9]*", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)


class QuantityError(ValueError):
    """The text is no quantity; the message is upstream's."""


@total_ordering
class Quantity:
    """An exact number with the suffix family it prints in. Immutable, hashable, ordered by value."""

    __slots__ = ("_nanos", "format")

    def __init__(self, value: Fraction | int, format: Format = "DecimalSI") -> None:  # noqa: A002 - upstream's word
        nanos = Fraction(value) * _NANO
        whole = nanos.numerator // nanos.denominator
        if nanos.denominator != 1 and nanos > 0:
            whole += 1
        self._nanos = max(-_MAX * _NANO, min(_MAX * _NANO, whole))
        self.format: Format = format

    @property
    def value(self) -> Fraction:
        """The exact value."""
        return Fraction(self._nanos, _NANO)

    def to_int(self) -> int:
        """The value rounded up to a whole number (`Value()` upstream)."""
        return -(-self._nanos // _NANO)

    def to_milli(self) -> int:
        """Thousandths, rounded up (`MilliValue()` upstream)."""
        return -(-self._nanos // 10**6)

    def is_zero(self) -> bool:
        """Nothing of it."""
        return self._nanos == 0

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.value + other.value, other.format if self.is_zero() else self.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.value - other.value, other.format if self.is_zero() else self.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.value, self.format)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self._nanos == other._nanos

    def __lt__(self, other: Quantity) -> bool:
        return self._nanos < other._nanos

    def __hash__(self) -> int:
        return hash(self._nanos)

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __str__(self) -> str:
        """The canonical form."""
        if self._nanos == 0:
            return "0"
        if self.format == "BinarySI":
            # Below 1 Ki, or with a fraction, binary suffixes would mislead: upstream prints decimal there.
            if abs(self._nanos) >= 1024 * _NANO and self._nanos % _NANO == 0:
                return self._binary()
            return self._decimal(_DECIMAL_BY_EXPONENT)
        return self._decimal(_DECIMAL_BY_EXPONENT if self.format == "DecimalSI" else None)

    def _binary(self) -> str:
        number, exponent = self._nanos // _NANO, 0
        while exponent < 60 and number % 1024 == 0:
            number //= 1024
            exponent += 10
        return f"{number}{_BINARY_BY_EXPONENT.get(exponent, '')}"

    def _decimal(self, suffixes: dict[int, str] | None) -> str:
        number, exponent = self._nanos, -9
        while number % 1000 == 0 and exponent < 18:
            number //= 1000
            exponent += 3
        if suffixes is None:
            return f"{number}e{exponent}" if exponent else str(number)
        return f"{number}{suffixes[exponent]}"


@lru_cache(maxsize=4096)
def parse(text: str) -> Quantity:
    """A quantity from its text. Raises QuantityError with upstream's message."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        well_formed = _LOOSE.fullmatch(text) is not None and _NUMBER.match(text) is not None
        raise QuantityError(SUFFIX_ERROR if well_formed and text.count(".") < 2 else FORMAT_ERROR)
    sign, digits, suffix = match.groups()
    value = Fraction(digits if not digits.startswith(".") else "0" + digits)
    if sign == "-":
        value = -value
    if suffix in _BINARY:
        return Quantity(value * 2 ** _BINARY[suffix], "BinarySI")
    if suffix in _DECIMAL:
        return Quantity(value * Fraction(10) ** _DECIMAL[suffix], "DecimalSI")
    exponent = int(suffix[1:])
    if abs(exponent) > 400:  # beyond what can be held either way; keeps `1e999999999` from eating the machine
        exponent = 400 if exponent > 0 else -400
    return Quantity(value * Fraction(10) ** exponent, "DecimalExponent")


def of(value: str | float) -> Quantity:
    """A quantity from what stands in JSON: text or a number."""
    return parse(value if isinstance(value, str) else repr(value))


def canonical(value: str | float) -> str:
    """The text the server stores: `0.5` -> `500m`, `1024Mi` -> `1Gi`."""
    return str(of(value))


def is_valid(value: object) -> bool:
    """Whether `value` (text or number, not bool) parses."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return False
    try:
        of(value)
    except QuantityError:
        return False
    return True
