"""The chain: plugins in upstream's order of use."""

from __future__ import annotations

from podnet.controlplane.apiserver.admission.lifecycle import namespace_lifecycle
from podnet.controlplane.apiserver.admission.pods import default_toleration_seconds, priority
from podnet.controlplane.apiserver.admission.serviceaccount import service_account
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup, Plugin

CHAIN: tuple[Plugin, ...] = (
    namespace_lifecycle,
    service_account,
    priority,
    default_toleration_seconds,
)


def admit(attributes: Attributes, lookup: Lookup) -> None:
    """Run the chain; the first refusal ends it."""
    for plugin in CHAIN:
        plugin(attributes, lookup)
