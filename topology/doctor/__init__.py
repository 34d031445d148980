"""`podnet doctor`: what this machine offers, what follows from what it lacks, and the one line that mends it."""

from __future__ import annotations

from podnet.topology.doctor.probe import probe
from podnet.topology.doctor.report import Finding, Probes, report

__all__ = ["Finding", "Probes", "probe", "report", "run_doctor"]


def run_doctor() -> list[Finding]:
    """Probe this machine (in throwaway namespaces, in a child process) and report."""
    return report(probe())
