"""What a bench row is, and which groups of rows there are.

A row is a figure with its unit, the budget of the design, and a reference: the same thing done by somebody else, in the
same run on the same machine where that is possible (`measured`), else as published. Figures of a shared machine drift;
ratios of one run hold better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `at_most`: smaller is better, and `budget` is the bound from that side. `error` says why a row has
    no figure."""

    group: str
    name: str
    value: float | None
    unit: str
    budget: float | None = None
    at_most: bool = True
    reference: str = ""
    reference_value: float | None = None
    reference_measured: bool = False
    error: str = ""

    @property
    def within_budget(self) -> bool | None:
        """Does it hold? None where there is no budget or no figure."""
        if self.value is None or self.budget is None:
            return None
        return self.value <= self.budget if self.at_most else self.value >= self.budget

    @property
    def ratio(self) -> float | None:
        """Value over reference."""
        if self.value is None or not self.reference_value:
            return None
        return self.value / self.reference_value

    def to_dict(self) -> dict[str, object]:
        """For `-o json`."""
        return {
            "group": self.group,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "budget": self.budget,
            "budgetIs": "at most" if self.at_most else "at least",
            "withinBudget": self.within_budget,
            "reference": self.reference,
            "referenceValue": self.reference_value,
            "referenceMeasured": self.reference_measured,
            "ratio": self.ratio,
            "error": self.error,
        }


def median(values: list[float]) -> float:
    """The middle value (lower of the two for an even count)."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def _boot() -> list[Row]:
    from podnet.bench.boot import boot_rows

    return boot_rows()


def _scale() -> list[Row]:
    from podnet.bench.scale import scale_rows

    return scale_rows()


def _datapath() -> list[Row]:
    from podnet.bench.datapath import datapath_rows

    return datapath_rows()


def _cni() -> list[Row]:
    from podnet.bench.cni import cni_rows

    return cni_rows()


def _dns() -> list[Row]:
    from podnet.bench.dns import dns_rows

    return dns_rows()


def _api() -> list[Row]:
    from podnet.bench.api import api_rows

    return api_rows()


def _services() -> list[Row]:
    from podnet.bench.services import services_rows

    return services_rows()


GROUPS: dict[str, Callable[[], list[Row]]] = {
    "boot": _boot,
    "scale": _scale,
    "datapath": _datapath,
    "cni": _cni,
    "api": _api,
    "dns": _dns,
    "services": _services,
}


def run_groups(names: list[str]) -> Iterator[Row]:
    """Run groups one after the other; one that fails gives a row with its reason, and the next goes on."""
    for name in names:
        try:
            yield from GROUPS[name]()
        except Exception as err:
            yield Row(name, "-", None, "", error=f"{type(err).__name__}: {err}")
