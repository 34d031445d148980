"""Cluster DNS under load, next to a bare receive-look up-send loop in the same run."""

from __future__ import annotations

from podnet.bench.rows import Row


def dns_rows() -> list[Row]:
    """The room `dns` measures; here its figures become rows."""
    from podnet.dns.bench import measure

    return [
        Row(
            "dns",
            m.name,
            m.value,
            m.unit,
            m.budget,
            m.at_most,
            m.reference,
            m.reference_value,
            m.reference_value is not None,
            m.error,
        )
        for m in measure()
    ]
