"""Admission: what may be added to an object, and who may not write it, after decoding and before the store.

A plugin is a function over `Attributes`; it changes `attributes.obj` in place or raises StatusError 403. Plugins run in
upstream's order and read the cluster only through `Lookup` (the watch cache), so they never wait.
"""

from __future__ import annotations

from podnet.controlplane.apiserver.admission.chain import CHAIN, admit, resource_quota
from podnet.controlplane.apiserver.admission.types import Attributes, Lookup

__all__ = ["CHAIN", "Attributes", "Lookup", "admit", "resource_quota"]
