"""Protobuf request bodies, as kubectl 1.32 and Go clients since 0.32 send them: bytes in, the object's JSON out."""

from __future__ import annotations

from podnet.controlplane.api.protobuf.decode import CONTENT_TYPE, decode, is_protobuf

__all__ = ["CONTENT_TYPE", "decode", "is_protobuf"]
