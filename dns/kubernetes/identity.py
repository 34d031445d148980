"""How to reach the API server, and as whom: the pod's ServiceAccount, options of the Corefile, or a kubeconfig.

Source: kubernetes.io/docs/tasks/run-application/access-api-from-pod; the kubeconfig of client-go.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from podnet.controlplane.client.endpoint import Endpoint
from podnet.dns.kubernetes.options import ApiOptions

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
USER_AGENT = "coredns"


class IdentityError(Exception):
    """There is no way to the API server: what is missing."""


def endpoint_of(options: ApiOptions, environ: Mapping[str, str], account: Path = SERVICE_ACCOUNT) -> Endpoint:
    """The endpoint that the options name, else the one around this pod."""
    if options.kubeconfig:
        return kubeconfig_endpoint(Path(options.kubeconfig), options.context)
    if options.server:
        return Endpoint(
            options.server,
            ca_file=Path(options.ca_file),
            cert_file=Path(options.cert_file) if options.cert_file else None,
            key_file=Path(options.key_file) if options.key_file else None,
            user_agent=USER_AGENT,
        )
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise IdentityError(
            "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
        )
    token = account / "token"
    if not token.exists():
        raise IdentityError(f"unable to load in-cluster configuration: open {token}: no such file or directory")
    text = f"[{host}]" if ":" in host else host
    return Endpoint(f"https://{text}:{port}", ca_file=account / "ca.crt", token_file=token, user_agent=USER_AGENT)


def kubeconfig_endpoint(path: Path, context: str = "") -> Endpoint:
    """The endpoint of a context (of the current one) of a kubeconfig file."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        chosen = _named(document.get("contexts") or (), context or document.get("current-context") or "", "context")
        cluster = _named(document.get("clusters") or (), chosen.get("cluster") or "", "cluster")
        user = _named(document.get("users") or (), chosen.get("user") or "", "user")
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise IdentityError(f"kubeconfig {path}: {error}") from error
    ca_file = _file(path, cluster, "certificate-authority")
    if ca_file is None or not cluster.get("server"):
        raise IdentityError(f"kubeconfig {path}: the cluster has no server, or no certificate-authority")
    token = _file(path, user, "tokenFile")
    if token is None and user.get("token"):
        token = _write(str(user["token"]).encode())
    return Endpoint(
        cluster["server"],
        ca_file=ca_file,
        cert_file=_file(path, user, "client-certificate"),
        key_file=_file(path, user, "client-key"),
        token_file=token,
        user_agent=USER_AGENT,
    )


def _named(entries: Sequence[Mapping[str, Any]], name: str, field: str) -> Mapping[str, Any]:
    found = next((entry for entry in entries if entry.get("name") == name), None)
    if found is None:
        raise IdentityError(f"kubeconfig: there is no {field} {name!r}")
    value: Mapping[str, Any] = found.get(field) or {}
    return value


def _file(kubeconfig: Path, entry: Mapping[str, Any], field: str) -> Path | None:
    """A file that is named, or one with the data that is embedded."""
    data = entry.get(f"{field}-data")
    if data:
        return _write(base64.b64decode(data))
    return kubeconfig.parent / entry[field] if entry.get(field) else None


def _write(content: bytes) -> Path:
    """A private file that lives as long as the machine's /tmp: TLS contexts are made from files only."""
    with tempfile.NamedTemporaryFile(prefix="coredns-", delete=False) as file:
        file.write(content)
        return Path(file.name)
