"""The container runtime: pods and containers as namespaces and processes, without images (see README.md)."""

from __future__ import annotations

from podnet.controlplane.kubelet.runtime.enter import (
    ContainerHandle,
    ContainerNotFoundError,
    enter_container,
    find_container,
)

__all__ = ["ContainerHandle", "ContainerNotFoundError", "enter_container", "find_container"]
