"""Whole numbers in text: those of Go's strconv.Atoi, and no exception for anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.api.numbers import integer, natural

ODD = [None, "", "x", " 1", "1 ", "1_0", "²", "٣", "+1", "0x1", "1.0", "9" * 5000, str(2**63)]


@pytest.mark.parametrize("text", ODD, ids=lambda text: repr(text)[:20])
def test_no_number(text):
    assert natural(text) is None
    assert integer(text) is None


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("0" * 5000 + "1", 1), (str(2**63 - 1), 2**63 - 1)])
def test_numbers(text, number):
    assert natural(text) == integer(text) == number


def test_a_sign_is_for_integers():
    assert (natural("-5"), integer("-5"), integer("--5"), integer("-")) == (None, -5, None, None)


@given(st.text())
def test_any_text(text):
    assert natural(text) is None or text.isdigit()
