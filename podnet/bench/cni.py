"""CNI ADD and DEL as the runtime runs them, and wiring inside the daemon, next to Debian's plugins."""

from __future__ import annotations

from collections.abc import Iterator

from podnet.bench.rows import Row, Settings


def cni_rows(settings: Settings) -> Iterator[Row]:
    """The room `cni` measures; here its figures become rows."""
    from podnet.cni.bench import measure

    settings.note("cni: ADD, DEL and wiring")
    for m in measure():
        known = m.reference_value is not None
        yield Row("cni", m.name, m.value, m.unit, m.budget, m.at_most, m.reference, m.reference_value, known)
