"""What is wrong with a JSON text, in the words of Go's decoder.

The fast parser only says that a text is none; the slower one of the standard library says where and what it expected,
and that is what Go says too, character and context. Pure. Source: encoding/json scanner.go.
"""

from __future__ import annotations

import json
from itertools import pairwise

_CONTEXTS = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}
_END = "unexpected end of JSON input"


def json_problem(body: bytes) -> str:
    """The complaint about a text that is no JSON."""
    text = body.decode("utf-8", "replace")
    try:
        json.loads(text)
    except RecursionError:
        return "exceeded max depth"
    except json.JSONDecodeError as error:
        return _said(text, error)
    except ValueError:
        pass  # a number that is too long for Python
    return "invalid character in JSON input"  # what the fast parser is stricter about: NaN, half a surrogate pair


def _said(text: str, error: json.JSONDecodeError) -> str:
    at = error.pos
    if error.msg.startswith("Invalid \\"):
        at += 1  # what follows the backslash
    elif not error.msg.startswith("Invalid"):
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
    if at >= len(text) or error.msg.startswith("Unterminated string"):
        return _END
    if error.msg.startswith("Expecting ',' delimiter"):
        inside = _innermost(text[:at])
        context = "after object key:value pair" if inside == "{" else "after array element"
    else:
        known = (words for words in _CONTEXTS if error.msg.startswith(words))
        context = _CONTEXTS.get(next(known, ""), "looking for beginning of value")
    return f"invalid character {_quoted(text[at])} {context}"


def _quoted(char: str) -> str:
    """A character as strconv.QuoteRune has it, as far as messages need it."""
    return {"'": "'\\''", "\n": "'\\n'", "\t": "'\\t'", "\r": "'\\r'"}.get(char) or f"'{char}'"


def _innermost(text: str) -> str:
    """The bracket that is open at the end of a text which is JSON so far."""
    stack, quoted = [""], False
    for before, char in pairwise(" " + text.replace("\\\\", "  ")):
        if char == '"' and before != "\\":
            quoted = not quoted
        elif quoted:
            continue
        elif char in "{[":
            stack.append(char)
        elif char in "}]" and len(stack) > 1:
            stack.pop()
    return stack[-1]
