"""What `iptables-save` prints, as chains by table.

This file decides; it never touches the kernel. Source: iptables-save(8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import TypeAlias

Listing: TypeAlias = Mapping[str, Mapping[str, tuple[str, ...]]]
"""table -> chain -> rules, each without its `-A CHAIN `."""

_WORD = re.compile(r'(?:"(?:[^"\\]|\\.)*"|\S+)')


def parse_save(text: str) -> Listing:
    """The tables of an `iptables-save`; what is neither table, chain nor rule is passed over."""
    tables: dict[str, dict[str, list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            chains = tables.setdefault(line[1:].strip(), {})
        elif line.startswith(":"):
            chains.setdefault(line[1:].split(" ", 1)[0], [])
        elif line.startswith("-A "):
            name, _, rule = line[3:].partition(" ")
            chains.setdefault(name, []).append(rule)
    return {table: {name: tuple(rules) for name, rules in found.items()} for table, found in tables.items()}


def jump_target(rule: str) -> str:
    """Where a rule jumps or goes to; "" for one without a target. A comment that looks like a jump is none."""
    words = _WORD.findall(rule)
    for option, value in pairwise(words):
        if option in ("-j", "-g"):
            return str(value)
    return ""
