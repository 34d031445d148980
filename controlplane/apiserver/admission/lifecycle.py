"""NamespaceLifecycle: nothing is created in a namespace that is missing or going; three namespaces never go.

Source: apiserver pkg/admission/plugin/namespace/lifecycle.
"""

from __future__ import annotations

from podnet.controlplane.api.errors import Cause, forbidden, not_found
from podnet.controlplane.api.resources import NAMESPACES
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
_REVIEWS = frozenset({"localsubjectaccessreviews"})


def namespace_lifecycle(attributes: Attributes, lookup: Lookup) -> None:
    """Refuse creation in a missing (404) or terminating (403) namespace and deletion of an immortal one (403)."""
    resource = attributes.resource
    if resource == NAMESPACES:
        if attributes.operation == "DELETE" and attributes.name in IMMORTAL:
            raise attributes.refuse("this namespace may not be deleted")
        return
    if attributes.operation != "CREATE" or not resource.namespaced or resource.plural in _REVIEWS:
        return
    namespace = lookup.find(NAMESPACES, "", attributes.namespace)
    if namespace is None:
        raise not_found("namespaces", attributes.namespace)
    if attributes.subresource:
        return
    if namespace["metadata"].get("deletionTimestamp"):
        why = f"unable to create new content in namespace {attributes.namespace} because it is being terminated"
        cause = Cause(
            "NamespaceTerminating", f"namespace {attributes.namespace} is being terminated", "metadata.namespace"
        )
        raise forbidden(resource.plural, attributes.name, why, resource.group, [cause])
