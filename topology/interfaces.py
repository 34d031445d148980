"""Points of capture: every interface of the emulation under one name, `<kind>/<owner>/<interface>`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from podnet.topology.kernel import Link, Netns


@dataclass(frozen=True, slots=True)
class Interface:
    """A point of capture: `node/worker-1/eth0` is `ifname` in the namespace `netns`."""

    point: str
    netns: str
    ifname: str
    index: int
    kind: str
    up: bool
    alias: str


def points(prefix: str, netns: Netns, links: Iterable[Link]) -> list[Interface]:
    """The links of one owner, as points."""
    return [
        Interface(f"{prefix}/{link.name}", netns, link.name, link.index, link.kind, link.up, link.alias)
        for link in links
    ]
