"""From object names to addresses, for `podnet ping` and `podnet curl`.

Nodes and hosts are asked of the supervisor, pods of the API server; whatever is no target is left as it is, so that
addresses, Service names and host names go through to the program.
"""

from __future__ import annotations

import asyncio
from typing import Any

from podnet import launch
from podnet.directories import ClusterDirectories
from podnet.targets import KINDS, Target, parse_target


def is_target(text: str) -> bool:
    """Does it name an object (`pod/a`), rather than an address or a DNS name?"""
    return text.partition("/")[0] in KINDS and "/" in text


def split_url(url: str) -> tuple[str, str, str, str] | None:
    """(scheme, target, port, rest) of a URL whose host is a target; None for any other URL.

    >>> split_url("http://pod/b:8080/hostname")
    ('http://', 'pod/b', ':8080', '/hostname')
    >>> split_url("http://10.0.0.1/") is None
    True
    """
    scheme, _, rest = url.rpartition("://") if "://" in url else ("http", "", url)
    if not is_target(rest):
        return None
    words = rest.split("/")
    # pod/ns/name only where the port comes after the third word, as in pod/shop/a:80/path
    take = 3 if words[0] in ("pod", "po", "pods") and len(words) > 2 and ":" in words[2] and ":" not in words[1] else 2
    target, _, port = "/".join(words[:take]).partition(":")
    path = "/".join(words[take:])
    return f"{scheme}://", target, f":{port}" if port else "", f"/{path}" if len(words) > take else ""


def resolve_url(directories: ClusterDirectories, url: str, namespace: str) -> str:
    """The URL with an address in place of a target."""
    parts = split_url(url)
    if parts is None:
        return url
    scheme, target, port, rest = parts
    return f"{scheme}{address_of(directories, target, namespace)}{port}{rest or '/'}"


def address_of(directories: ClusterDirectories, text: str, namespace: str) -> str:
    """The address of a target; any other text as it is. Raises ClusterError for what has no address."""
    if not is_target(text):
        return text
    target = parse_target(text, namespace)
    if target.kind == "pod":
        return _pod_ip(directories, target)
    answer = launch.ask(directories, {"verb": "status"})
    machines: list[dict[str, Any]] = answer["nodes"] if target.kind == "node" else answer["hosts"]
    found = next((m for m in machines if m["name"] == target.name), None)
    if found is None:
        raise launch.ClusterError(f"there is no {target}: {', '.join(m['name'] for m in machines) or 'none'}")
    return str(found["ip"])


def _pod_ip(directories: ClusterDirectories, target: Target) -> str:
    from podnet.client_session import get_object  # late: it brings in the HTTP client
    from podnet.controlplane.api.resources import PODS

    pod = asyncio.run(get_object(directories, PODS, target.name, target.namespace))
    address = pod.get("status", {}).get("podIP")
    if not address:
        phase = pod.get("status", {}).get("phase", "Unknown")
        raise launch.ClusterError(f"pod {target.namespace}/{target.name} has no address yet (phase {phase})")
    return str(address)
