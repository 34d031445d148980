"""CertificateSigningRequests carry who asked: what a client writes there about itself counts for nothing.

Source: pkg/registry/certificates/certificates/strategy.go of Kubernetes 1.32.
"""

from __future__ import annotations

from podnet.controlplane.api.resources import CERTIFICATESIGNINGREQUESTS
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup

_FIELDS = ("username", "uid", "groups", "extra")


def requester(attributes: Attributes, lookup: Lookup) -> None:  # noqa: ARG001 - a plugin's signature
    """Write the user into a new request."""
    obj = attributes.obj
    if attributes.resource != CERTIFICATESIGNINGREQUESTS or attributes.operation != "CREATE" or obj is None:
        return
    spec = obj.setdefault("spec", {})
    for field in _FIELDS:
        spec.pop(field, None)
    user = attributes.user.to_dict()
    user["username"] = attributes.user.name
    spec.update({field: user[field] for field in _FIELDS if user.get(field)})
