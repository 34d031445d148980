"""Capped exponential back-off with jitter, as a value.

Pure: the random number in [0, 1) is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """`delay_s(n)` for the n-th failure in a row (from 0): `base_s * factor**n`, at most `max_s`, plus up to `jitter`
    of itself.
    """

    base_s: float
    max_s: float
    factor: float = 2.0
    jitter: float = 0.0

    def delay_s(self, failures: int, random: float = 0.0) -> float:
        """How long to wait; `random` in [0, 1) picks the jitter."""
        # Beyond 64 doublings every base has met its cap, and float powers would overflow.
        delay = min(self.max_s, self.base_s * self.factor ** min(failures, 64))
        return delay * (1.0 + self.jitter * random)


RECONNECT = Backoff(base_s=0.02, max_s=0.5, jitter=1.0)
"""For a watch that lost its server: on one machine a restart takes a fraction of a second, so the cap is low."""
KEY_FAILURE = Backoff(base_s=0.005, max_s=60.0)
"""For a key whose reconcile failed: client-go's 5 ms base; the cap is a minute, because a lab will not wait longer."""
LOOP_RESTART = Backoff(base_s=0.1, max_s=5.0, jitter=0.5)
"""For a whole loop that crashed."""
