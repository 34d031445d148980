"""Quantities: what parses, what it is worth, how it is written back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api import quantity
from podnet.controlplane.api.quantity import FORMAT_ERROR, SUFFIX_ERROR, Quantity, QuantityError


@pytest.mark.parametrize(
    ("text", "value", "canonical"),
    [
        ("0", 0, "0"),
        ("0Gi", 0, "0"),
        ("1", 1, "1"),
        ("+1.", 1, "1"),
        (".5", Fraction(1, 2), "500m"),
        ("0.5", Fraction(1, 2), "500m"),
        ("100m", Fraction(1, 10), "100m"),
        ("1000m", 1, "1"),
        ("1500m", Fraction(3, 2), "1500m"),
        ("-1.5", Fraction(-3, 2), "-1500m"),
        ("1000", 1000, "1k"),
        ("1k", 1000, "1k"),
        ("1e3", 1000, "1e3"),
        ("1E3", 1000, "1e3"),
        ("12e6", 12_000_000, "12e6"),
        ("1e-3", Fraction(1, 1000), "1e-3"),
        ("1E", 10**18, "1E"),
        ("123456789012", 123456789012, "123456789012"),
        ("1Ki", 1024, "1Ki"),
        ("1024Mi", 2**30, "1Gi"),
        ("1.5Gi", 3 * 2**29, "1536Mi"),
        ("64Mi", 64 * 2**20, "64Mi"),
        ("512", 512, "512"),
        ("0.5Ki", 512, "512"),
        ("0.1Ki", Fraction(1024, 10), "102400m"),
        ("1n", Fraction(1, 10**9), "1n"),
        ("0.1n", Fraction(1, 10**9), "1n"),
        ("-0.1n", Fraction(-1, 10**9), "-1n"),
        ("10E", 2**63 - 1, "9223372036854775807"),
    ],
)
def test_parse(text: str, value: Fraction, canonical: str) -> None:
    """The exact value, and the form the server stores."""
    parsed = quantity.parse(text)
    assert parsed.value == value
    assert str(parsed) == canonical
    assert quantity.parse(canonical) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", FORMAT_ERROR),
        ("abc", FORMAT_ERROR),
        ("1.2.3", FORMAT_ERROR),
        ("1 Gi", FORMAT_ERROR),
        ("5x", FORMAT_ERROR),
        (".", FORMAT_ERROR),
        ("1\n", FORMAT_ERROR),
        ("\u0661", FORMAT_ERROR),
        ("1Kii", SUFFIX_ERROR),
        ("1mm", SUFFIX_ERROR),
        ("1ki", SUFFIX_ERROR),
        ("1e", SUFFIX_ERROR),
    ],
)
def test_refusals(text: str, message: str) -> None:
    """In upstream's words."""
    with pytest.raises(QuantityError) as raised:
        quantity.parse(text)
    assert str(raised.value) == message
    assert not quantity.is_valid(text)


def test_numbers_are_quantities_and_booleans_are_not() -> None:
    """JSON may hold a number; Python's bool is no number here."""
    assert quantity.canonical(2) == "2"
    assert quantity.canonical(0.25) == "250m"
    assert not quantity.is_valid(True)
    assert not quantity.is_valid(None)
    assert not quantity.is_valid([])


def test_arithmetic_and_rounding() -> None:
    """Sums are exact and keep the first one's family; whole numbers round up."""
    total = quantity.parse("100m") + quantity.parse("0.9") + quantity.parse("1")
    assert (str(total), total.to_int(), total.to_milli()) == ("2", 2, 2000)
    assert str(quantity.parse("1Gi") - quantity.parse("512Mi")) == "512Mi"
    assert str(Quantity(0) + quantity.parse("1Gi")) == "1Gi"
    assert quantity.parse("1m").to_int() == 1
    assert quantity.parse("-1500m").to_int() == -1
    assert quantity.parse("1u").to_milli() == 1
    assert quantity.parse("1Gi") > quantity.parse("1G") >= quantity.parse("1e9")
    assert hash(quantity.parse("1k")) == hash(quantity.parse("1e3"))


def test_a_huge_exponent_costs_nothing() -> None:
    """No quantity text makes the server compute for long."""
    assert str(quantity.parse("1e999999999")).startswith("9223372036854775807")
    assert quantity.parse("1e-999999999").value == Fraction(1, 10**9)


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["", "n", "u", "m", "k", "M", "Ki", "Mi", "e2", "e-3", "E1"]),
    st.integers(0, 999),
)
def test_canonical_form_is_stable_and_exact(whole: int, suffix: str, fraction: int) -> None:
    """parse(str(q)) is q, and canonicalising twice changes nothing."""
    parsed = quantity.parse(f"{whole}.{fraction:03}{suffix}")
    assert quantity.parse(str(parsed)) == parsed
    assert quantity.canonical(str(parsed)) == str(parsed)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_addition_is_a_group(left: int, right: int) -> None:
    """a + b - b is a; order follows the value."""
    a, b = Quantity(Fraction(left, 1000)), Quantity(Fraction(right, 1000))
    assert a + b - b == a
    assert a + b == b + a
    assert (a < b) == (left < right)
    negative = -a
    assert -negative == a
