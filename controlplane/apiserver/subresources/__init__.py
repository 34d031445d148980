"""Subresources that are more than a part of their object: binding, eviction, scale, token, and the reviews.

Each module is one of them, over a Registry; `/status` and `/ephemeralcontainers` are ordinary updates with another
strategy. Streams (log, exec, attach) need a socket and are in `http/`.
"""
