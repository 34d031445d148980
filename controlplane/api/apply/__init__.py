"""Server-side apply: who owns which field, and merging by ownership. Pure; nothing changes its arguments."""

from podnet.controlplane.api.apply.ownership import apply, track_update

__all__ = ["apply", "track_update"]
