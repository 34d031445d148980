"""For every test: where CI is set, hypothesis repeats the same examples, so that what lands is judged alike each time.

Exploring is done wherever a person runs the tests: an example that fails there becomes an `@example`.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# How fast a machine makes examples is no property of what is tested.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("explore"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "explore")
