"""For every test: where CI is set, hypothesis repeats the same examples, so that what lands is judged alike each time.

Exploring is done wherever a person runs the tests: an example that fails there becomes an `@example`.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, database=None)
if os.environ.get("CI"):
    settings.load_profile("ci")
