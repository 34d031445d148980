"""How to reach an API server: the part of a kubeconfig that a component needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`server` is an https URL; the files are PEM. A client certificate or a token file says who asks."""

    server: str
    ca_file: Path
    cert_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None
    user_agent: str = "podnet"
