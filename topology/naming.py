"""Names of the switches' ends of cables. Pure.

The kernel allows 15 characters. A machine's port bears the machine's name; a longer name keeps its beginning and gets
eight digits of its hash. Names of machines and switches are DNS labels and hold no '_', so a name with one is nobody's.
"""

from __future__ import annotations

import hashlib

from podnet.topology.kernel import MAX_IFNAME

_TAKEN = frozenset({"lo", "all", "default"})
_HASH_CHARS = 8


def port_name(machine: str) -> str:
    """The switch's end of a machine's cable."""
    if len(machine) <= MAX_IFNAME and machine not in _TAKEN:
        return machine
    return _hashed(machine)


def trunk_name(here: str, there: str) -> str:
    """The end at `here` of the cable to another switch."""
    name = f"{here}_{there}"
    return name if len(name) <= MAX_IFNAME else _hashed(name)


def _hashed(name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_CHARS]
    return f"{name[: MAX_IFNAME - _HASH_CHARS - 1]}_{digest}"
