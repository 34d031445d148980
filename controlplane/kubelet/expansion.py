"""`$(VAR)` in commands, arguments and environment values.

Pure. A reference to a known variable is replaced; an unknown one stays as written; `$$` is a literal `$`, so `$$(VAR)`
comes out as `$(VAR)`. Source: the API reference of Container.command and EnvVar.value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


def expand(text: str, lookup: Callable[[str], str | None]) -> str:
    """`text` with every reference resolved once; what comes out is not looked at again."""
    if "$" not in text:
        return text
    out: list[str] = []
    at = 0
    while at < len(text):
        dollar = text.find("$", at)
        if dollar < 0 or dollar + 1 >= len(text):
            out.append(text[at:])
            break
        out.append(text[at:dollar])
        piece, at = _reference(text, dollar, lookup)
        out.append(piece)
    return "".join(out)


def expand_with(text: str, variables: Mapping[str, str]) -> str:
    """`expand` over a map."""
    return expand(text, variables.get)


def _reference(text: str, dollar: int, lookup: Callable[[str], str | None]) -> tuple[str, int]:
    """What stands for the `$` at `dollar`, and where to go on."""
    following = text[dollar + 1]
    if following == "$":
        return "$", dollar + 2
    if following == "(":
        end = text.find(")", dollar + 2)
        if end < 0:
            return "$(", dollar + 2
        value = lookup(text[dollar + 2 : end])
        return (text[dollar : end + 1] if value is None else value), end + 1
    return "$" + following, dollar + 2
