"""Label selectors: the text of `-l` and `labelSelector=`, and the LabelSelector object of specs, one value for both.

    a=b,c!=d,e in (x,y),f notin (z),g,!h,i>3

The rule: `!=` and `notin` also match an object that has no such label. Requirements print sorted by key, as upstream.
Source: apimachinery pkg/labels (grammar in Parse's documentation), meta/v1 LabelSelector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podnet.controlplane.api import names
from podnet.controlplane.api.errors import GoSyntax, StatusError, bad_request, invalid_value

_TOKEN = re.compile(r"\s*(?:(?P<symbol>==|!=|[()=!,<>])|(?P<word>[^()=!,<>\s]+))", re.ASCII)
_OPERATORS = {"=": "=", "==": "==", "!=": "!=", "in": "in", "notin": "notin", ">": "gt", "<": "lt"}
_BINARY = "in, notin, =, ==, !=, gt, lt"
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term. `operator` is one of = == != in notin exists ! gt lt; `values` are sorted."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, Any]) -> bool:
        """Whether these labels satisfy the term."""
        value = labels.get(self.key)
        if self.operator in {"=", "==", "in"}:
            return value is not None and value in self.values
        if self.operator in {"!=", "notin"}:
            return value is None or value not in self.values
        if self.operator == "exists":
            return value is not None
        if self.operator == "!":
            return value is None
        if value is None or _INTEGER.fullmatch(str(value)) is None:
            return False
        left, right = int(value), int(self.values[0])
        return left > right if self.operator == "gt" else left < right

    def __str__(self) -> str:
        if self.operator == "exists":
            return self.key
        if self.operator == "!":
            return f"!{self.key}"
        if self.operator in {"in", "notin"}:
            return f"{self.key} {self.operator} ({','.join(self.values)})"
        symbol = {"gt": ">", "lt": "<"}.get(self.operator, self.operator)
        return f"{self.key}{symbol}{self.values[0]}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All of `requirements` must hold; `nothing` selects no object at all."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, Any] | None) -> bool:
        """Whether an object with these labels is selected."""
        if self.nothing:
            return False
        labels = labels or {}
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """It selects everything."""
        return not self.requirements and not self.nothing

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


def parse_label_selector(text: str | None) -> LabelSelector:
    """The selector a query or a command line spells; empty text selects everything. Raises StatusError 400."""
    if not text:
        return EVERYTHING
    try:
        requirements = _Parser(text).parse()
    except _SyntaxError as error:
        raise bad_request(f"unable to parse requirement: {error}") from None
    return _selector(requirements)


def from_label_selector_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """The selector of a spec: None selects nothing, `{}` everything. Raises StatusError 400 on a bad operator."""
    if selector is None:
        return NOTHING
    requirements = [Requirement(key, "=", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    requirements += [_from_expression(expression) for expression in selector.get("matchExpressions") or ()]
    return _selector(requirements)


def from_labels(labels: Mapping[str, str] | None) -> LabelSelector:
    """The selector of a plain map (Service, ReplicationController): None and `{}` select everything."""
    return _selector([Requirement(key, "=", (value,)) for key, value in (labels or {}).items()])


def format_label_selector(selector: Mapping[str, Any] | None) -> str:
    """A spec's selector as tables print it: `a=b,c in (d,e)`, `<none>`, `<error>`."""
    try:
        return str(from_label_selector_object(selector)) or "<none>"
    except StatusError:
        return "<error>"


def format_labels(labels: Mapping[str, str] | None) -> str:
    """Labels as tables print them: `a=b,c=d` by key, `<none>` when there are none."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def _selector(requirements: list[Requirement]) -> LabelSelector:
    return LabelSelector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def _from_expression(expression: Mapping[str, Any]) -> Requirement:
    key, operator = expression.get("key") or "", expression.get("operator") or ""
    values = tuple(sorted(set(expression.get("values") or ())))
    if operator in {"In", "NotIn"}:
        if not values:
            raise bad_request(
                str(
                    _invalid("values", GoSyntax("[]string{}"), "for 'in', 'notin' operators, values set can't be empty")
                )
            )
        return Requirement(key, operator.lower(), values)
    if operator in {"Exists", "DoesNotExist"}:
        if values:
            raise bad_request(
                str(_invalid("values", list(values), "values set must be empty for exists and does not exist"))
            )
        return Requirement(key, "exists" if operator == "Exists" else "!")
    raise bad_request(f'"{operator}" is not a valid label selector operator')


class _SyntaxError(ValueError):
    """What is wrong with the text, in upstream's words."""


def _invalid(field: str, value: object, detail: str) -> _SyntaxError:
    return _SyntaxError(f"{field}: {invalid_value(field, value, detail).message}")


class _Parser:
    """Recursive descent over the tokens; `in` and `notin` are words wherever a key or a value may stand."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:  # only characters that are space to Unicode but not to ASCII end here
                raise _SyntaxError(f"found '{text[position:]}', expected: !, identifier, or 'end of string'")
            kind = "symbol" if match["symbol"] else "word"
            self._tokens.append((kind, match[kind]))
            position = match.end()
        self._tokens.append(("end", ""))
        self._next = 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next]

    def _take(self) -> tuple[str, str]:
        token = self._tokens[self._next]
        if token[0] != "end":
            self._next += 1
        return token

    def parse(self) -> list[Requirement]:
        requirements: list[Requirement] = []
        while True:
            kind, text = self._peek()
            if kind == "end":
                return requirements
            if kind != "word" and text != "!":
                raise _SyntaxError(f"found '{text}', expected: !, identifier, or 'end of string'")
            requirements.append(self._requirement())
            kind, text = self._take()
            if kind == "end":
                return requirements
            if text != ",":
                raise _SyntaxError(f"found '{text}', expected: ',' or 'end of string'")
            kind, text = self._peek()
            if kind != "word" and text != "!":
                raise _SyntaxError(f"found '{text}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        kind, text = self._take()
        negated = (kind, text) == ("symbol", "!")
        if negated:
            kind, text = self._take()
        if kind != "word":
            raise _SyntaxError(f"found '{text}', expected: identifier")
        key = text
        for message in names.qualified_name(key):
            raise _invalid("<nil>", key, message)
        if negated:
            return Requirement(key, "!")
        kind, text = self._peek()
        if kind == "end" or text == ",":
            return Requirement(key, "exists")
        self._take()
        operator = _OPERATORS.get(text)
        if operator is None:
            raise _SyntaxError(f"found '{text}', expected: {_BINARY}")
        values = self._value_set() if operator in {"in", "notin"} else [self._exact_value()]
        return _checked(key, operator, values)

    def _exact_value(self) -> str:
        kind, text = self._peek()
        if kind == "end" or text == ",":
            return ""
        if kind != "word":
            raise _SyntaxError(f"found '{text}', expected: identifier")
        self._take()
        return text

    def _value_set(self) -> list[str]:
        _, text = self._take()
        if text != "(":
            raise _SyntaxError(f"found '{text}' expected: '('")
        values = [""]
        while True:
            kind, text = self._take()
            if kind == "word":
                if values[-1]:
                    raise _SyntaxError(f"found '{text}', expected: ',' or ')'")
                values[-1] = text
            elif text == ",":
                values.append("")
            elif text == ")":
                return values
            else:
                raise _SyntaxError(f"found '{text}', expected: ',', or ')'")


def _checked(key: str, operator: str, values: list[str]) -> Requirement:
    for index, value in enumerate(values):
        if operator in {"gt", "lt"} and _INTEGER.fullmatch(value) is None:
            raise _invalid(f"values[{index}]", value, "for 'Gt', 'Lt' operators, the value must be an integer")
        for message in names.label_value(value):
            raise _invalid(f"values[{index}][{key}]", value, message)
    return Requirement(key, operator, tuple(sorted(set(values))))
