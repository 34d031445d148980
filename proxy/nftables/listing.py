"""What `nft list table` prints, read as far as the proxy needs it: is all there, and who sticks to which endpoint.

This file decides; it never touches the kernel. nft prints rules in its own words, so they are counted, not compared: a rule,
an element or a chain that somebody deleted or added shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from podnet.proxy.nftables.ruleset import Chain, NamedSet, Ruleset

_BLOCK = re.compile(r"^\t(chain|set|map) (\S+) \{$")
_NO_RULE = ("type ", "comment ")
_ELEMENTS = "elements = {"
_ELEMENT = re.compile(r'([^":]+?)(?: comment "([^"]*)")?(?: : (.+))?')


def parse_blocks(listing: str) -> dict[str, list[str]]:
    """The lines of every chain, set and map, each without its first indentation; continued lines joined."""
    blocks: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in listing.splitlines():
        found = _BLOCK.match(line)
        if found:
            lines = blocks[found[2]] = []
        elif line == "\t}":
            lines = None
        elif lines is not None and line.startswith("\t\t\t") and lines:
            lines[-1] += " " + line.strip()
        elif lines is not None:
            lines.append(line.strip())
    return blocks


def is_listed(want: Ruleset, listing: str) -> bool:
    """Whether the listing has all of the ruleset and nothing besides."""
    blocks = parse_blocks(listing)
    if blocks.keys() != want.chains.keys() | want.sets.keys():
        return False
    chains_ok = all(
        sum(not line.startswith(_NO_RULE) for line in blocks[name]) == len(chain.rules)
        for name, chain in want.chains.items()
    )
    return chains_ok and all(
        item.dynamic or len(parse_elements(blocks[name])) == len(item.elements) for name, item in want.sets.items()
    )


def observed_ruleset(listing: str) -> Ruleset:
    """What is there, as far as nft's words can be compared with ours: names and elements. A chain's rules cannot, so
    each has one that equals none of ours. What packets fill counts as empty."""
    blocks = parse_blocks(listing)
    kinds = {found[2]: found[1] for line in listing.splitlines() if (found := _BLOCK.match(line))}
    sets: dict[str, NamedSet] = {}
    for name, lines in blocks.items():
        kind = kinds[name]
        if kind == "chain":
            continue
        dynamic = any(line.startswith("flags ") and "dynamic" in line for line in lines)
        parsed = [found for text in parse_elements(lines) if not dynamic and (found := _ELEMENT.fullmatch(text))]
        elements = {found[1]: found[3] or "" for found in parsed}
        comments = {found[1]: found[2] for found in parsed if found[2]}
        sets[name] = NamedSet("map" if kind == "map" else "set", "", elements, comments, dynamic)
    chains = {name: Chain(("",)) for name in blocks if kinds[name] == "chain"}
    return Ruleset(chains, sets)


def parse_elements(lines: list[str]) -> list[str]:
    """The elements in a set's lines."""
    for line in lines:
        if line.startswith(_ELEMENTS):
            inside = line[len(_ELEMENTS) :].rsplit("}", 1)[0]
            return [element.strip() for element in inside.split(",") if element.strip()]
    return []


def dynamic_elements(want: Ruleset, listing: str) -> Mapping[str, list[str]]:
    """What packets have put into those dynamic sets that the ruleset keeps, with their remaining time."""
    blocks = parse_blocks(listing)
    return {
        name: elements
        for name, item in want.sets.items()
        if item.dynamic and (elements := parse_elements(blocks.get(name, [])))
    }
