"""The API server's two budgets, next to a bare aiohttp server in the same run."""

from __future__ import annotations

from podnet.bench.rows import Row


def api_rows() -> list[Row]:
    """The room `apiserver` measures; here its figures become rows."""
    from podnet.controlplane.apiserver.bench import measure

    return [
        Row(
            "api",
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
