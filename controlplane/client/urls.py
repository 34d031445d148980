"""Where a resource lives on the API server.

Pure. Source: Kubernetes API conventions, "Resource URIs".
"""

from __future__ import annotations

from urllib.parse import quote

from podnet.controlplane.api.types import Resource


def resource_path(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """`/apis/apps/v1/namespaces/default/deployments/web/scale`; without a namespace: all namespaces."""
    parts = [resource.path]
    if resource.namespaced and namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(resource.plural)
    if name:
        parts.append(quote(name, safe=":"))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def query(**parameters: str | int | None) -> dict[str, str]:
    """Query parameters without the empty ones."""
    return {key: str(value) for key, value in parameters.items() if value not in {None, "", 0}}
