"""`podnet bench`: every figure beside its reference, measured in the same run where the reference can run here."""

from podnet.bench.rows import GROUPS, SIZED_GROUPS, Row, Settings, parse_sizes, run_groups

__all__ = ["GROUPS", "SIZED_GROUPS", "Row", "Settings", "parse_sizes", "run_groups"]
