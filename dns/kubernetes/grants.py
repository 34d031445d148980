"""Which answers a change of the zone ends: validities given out per Service, and one for the zone as a whole.

The rule: an answer with the addresses of a Service holds until that Service's entry is another one; a negative answer, and
whatever else was put together from more than one entry, until the zone changes at all (its SOA serial does, too).
"""

from __future__ import annotations

from podnet.dns.handler import Validity
from podnet.dns.records.service import ServiceEntry
from podnet.dns.records.zone import Zone


class Grants:
    """The validities that answers of the current zone carry."""

    def __init__(self) -> None:
        self.whole = Validity()
        self._of: dict[str, dict[str, tuple[ServiceEntry, Validity]]] = {}

    def of(self, zone: Zone, namespace: str, service: str) -> Validity:
        """The validity of answers made from one Service's entry."""
        entry = zone.namespaces[namespace].entries[service]
        given = self._of.setdefault(namespace, {})
        grant = given.get(service)
        if grant is None:
            grant = given[service] = (entry, Validity())
        return grant[1]

    def move(self, old: Zone | None, new: Zone) -> None:
        """The zone is another one now: end what does not hold any more."""
        if old is None or new is old:
            return
        self.whole.revoke()
        self.whole = Validity()
        for namespace in [*self._of]:
            before, after = old.namespaces.get(namespace), new.namespaces.get(namespace)
            if before is after:
                continue
            given = self._of[namespace]
            # A namespace that came, went or has other labels may be served or not served now.
            keep = before is not None and after is not None and before.labels == after.labels
            for service, (entry, validity) in [*given.items()]:
                if not keep or after is None or after.entries.get(service) is not entry:
                    validity.revoke()
                    del given[service]
            if not given:
                del self._of[namespace]

    def revoke_all(self) -> None:
        """End everything."""
        self.whole.revoke()
        self.whole = Validity()
        for given in self._of.values():
            for _, validity in given.values():
                validity.revoke()
        self._of.clear()
