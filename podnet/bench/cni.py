"""CNI ADD and DEL as the runtime runs them, and wiring inside the daemon, next to Debian's plugins."""

from __future__ import annotations

from podnet.bench.rows import Row


def cni_rows() -> list[Row]:
    """The room `cni` measures; here its figures become rows."""
    from podnet.cni.bench import measure

    return [
        Row(
            "cni",
            m.name,
            m.value,
            m.unit,
            m.budget,
            m.at_most,
            m.reference,
            m.reference_value,
            m.reference_value is not None,
        )
        for m in measure()
    ]
