"""Server-side apply: who owns which field, and merging by ownership. Pure; nothing changes its arguments."""

from podnet.controlplane.api.apply.ownership import apply, track_update
from podnet.controlplane.api.apply.typed import type_conflicts

__all__ = ["apply", "track_update", "type_conflicts"]
