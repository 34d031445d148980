"""Command line flags as Go programs take them: `--name value`, `--name=value`, booleans without a value.

Pure. argparse would do, but costs 15 ms to import in an executed `connect`, and words its errors differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TYPE_CHECKING = False  # as typing's, whose import alone is half the start of `connect`
if TYPE_CHECKING:
    from typing import Any

TRUE = ("1", "t", "T", "true", "TRUE", "True")
FALSE = ("0", "f", "F", "false", "FALSE", "False")


class FlagError(Exception):
    """A flag nobody knows, or a value that does not parse; the message is cobra's."""


def parse_duration_s(text: str) -> float:
    """Go's durations: `1s`, `500ms`, `1m30s`; a bare 0 is allowed."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    rest = text.lstrip("+-")
    if rest == "0":
        return 0.0
    total, found = 0.0, False
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:digits], rest[digits:]
        letters = len(rest) - len(rest.lstrip("abcdefghijklmnopqrstuvwxyzµ"))
        unit, rest = rest[:letters], rest[letters:]
        if not number or number.count(".") > 1 or number == "." or unit not in units:
            raise ValueError(f'time: invalid duration "{text}"')
        total += float(number) * units[unit]
        found = True
    if not found:
        raise ValueError(f'time: invalid duration "{text}"')
    return -total if text.startswith("-") else total


def parse_flags(
    args: Sequence[str], defaults: Mapping[str, Any], *, short: Mapping[str, str] | None = None, strict: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """(values, positional arguments). A default's type is its flag's: bool, int, str, or float for a duration. With
    `strict` off a single dash introduces a long name too (Go's own flag package)."""
    values = dict(defaults)
    rest: list[str] = []
    queue = list(args)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += queue
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if short and not word.startswith("--") and name in short:
            name = short[name]
        elif strict and not word.startswith("--"):
            raise FlagError(f"unknown shorthand flag: {name[:1]!r} in {word}")
        if name not in values:
            raise FlagError(f"unknown flag: --{name}")
        default = defaults[name]
        if not equals:
            if isinstance(default, bool):
                value = "true"
            elif queue:
                value = queue.pop(0)
            else:
                raise FlagError(f"flag needs an argument: --{name}")
        values[name] = _convert(name, value, default)
    return values, rest


def _convert(name: str, value: str, default: Any) -> Any:
    problem = ""
    if isinstance(default, bool):
        if value in TRUE or value in FALSE:
            return value in TRUE
        problem = f'strconv.ParseBool: parsing "{value}": invalid syntax'
    elif isinstance(default, int):
        try:
            return int(value, 0)
        except ValueError:
            problem = f'strconv.ParseInt: parsing "{value}": invalid syntax'
    elif isinstance(default, float):
        try:
            return parse_duration_s(value)
        except ValueError as error:
            problem = str(error)
    else:
        return value
    raise FlagError(f'invalid argument "{value}" for "--{name}" flag: {problem}')
