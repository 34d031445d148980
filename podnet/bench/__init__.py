"""`podnet bench`: every figure beside its reference, measured in the same run where the reference can run here."""

from podnet.bench.rows import GROUPS, Row, run_groups

__all__ = ["GROUPS", "Row", "run_groups"]
