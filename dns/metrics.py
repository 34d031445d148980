"""What the DNS server counts with: the text format of `controlplane/metrics.py`, and the bounds of CoreDNS's histograms."""

from __future__ import annotations

from podnet.controlplane.metrics import CONTENT_TYPE, Counter, Gauge, Histogram, Registry

__all__ = ["CONTENT_TYPE", "LATENCY_BUCKETS", "SIZE_BUCKETS", "Counter", "Gauge", "Histogram", "Registry"]

LATENCY_BUCKETS = (0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048,
                   4.096, 8.192)  # fmt: skip
SIZE_BUCKETS = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)
