"""The names of a cluster: API objects in, an immutable zone index out. Pure: no clock, no socket, no logging.

    Service ───────┐
    EndpointSlice ─┼─▶ apply_changes(zone, changes) ─▶ a new Zone, which shares whatever did not change
    Namespace ─────┤                                    │
    Pod ───────────┘         zone.lookup(("web", "default", "svc"), A) ─▶ Answer

The rule: everything here is relative to a zone that is named only when it is asked, so one index serves `cluster.local`,
a second zone and the reverse zones, and an answer can repeat the case in which the question spelled them.

Source: Kubernetes DNS-Based Service Discovery, schema 1.1.0; the CoreDNS kubernetes plugin's README.
"""

from __future__ import annotations
