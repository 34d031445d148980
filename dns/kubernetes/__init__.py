"""What the kubernetes plugin needs besides the zone index: its options, its identity, its feed from the API server."""

from __future__ import annotations
