"""The chain: plugins in upstream's order of use."""

from __future__ import annotations

from podnet.controlplane.apiserver.admission.lifecycle import namespace_lifecycle
from podnet.controlplane.apiserver.admission.limits import limit_ranger
from podnet.controlplane.apiserver.admission.pods import default_toleration_seconds, priority
from podnet.controlplane.apiserver.admission.quota import resource_quota
from podnet.controlplane.apiserver.admission.requester import requester
from podnet.controlplane.apiserver.admission.serviceaccount import service_account
from podnet.controlplane.apiserver.admission.storage import claim_resize, default_storage_class, storage_protection
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup, Plugin

CHAIN: tuple[Plugin, ...] = (
    namespace_lifecycle,
    service_account,
    limit_ranger,
    priority,
    default_toleration_seconds,
    default_storage_class,
    claim_resize,
    storage_protection,
    requester,
)


def admit(attributes: Attributes, lookup: Lookup) -> None:
    """Run the chain; the first refusal ends it. `resource_quota` comes after validation, see the registry."""
    for plugin in CHAIN:
        plugin(attributes, lookup)


__all__ = ["CHAIN", "admit", "resource_quota"]
