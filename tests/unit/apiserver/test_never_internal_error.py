"""Whatever is done to a valid object before it is sent, the answer is success or a refusal, never a crash.

And what was accepted can be written back unchanged, without a new revision.
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from minimal_objects import STORED, minimal

from podnet.controlplane.api import schema
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.types import Resource
from podnet.controlplane.apiserver import verbs
from podnet.controlplane.apiserver.http.negotiation import Representation
from podnet.controlplane.apiserver.http.rendering import render_object
from podnet.controlplane.apiserver.options import DeleteOptions, UserInfo, WriteOptions
from podnet.controlplane.apiserver.registry import Registry

USER = UserInfo("u", ("system:masters",))
VALUES: list[Any] = [
    None,
    "",
    0,
    -1,
    2**40,
    10**20,
    1.5,
    True,
    [],
    {},
    [None],
    [{}],
    {"a": None},
    {"": ""},
    [""],
    ["x", "x"],
    [1],
    "x",
    "/",
    "é",
    "\x00",
    "a" * 300,
    "1Gi",
    "10.0.0.1",
    "2026-01-01T00:00:00Z",
    {"matchLabels": {"a": "b"}},
]
ROUNDS = 150


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path into a piece of JSON."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, (*path, index))


def mutate(rng: random.Random, obj: Any) -> Any:
    """The object with one to three places deleted, replaced, or given a field its schema knows."""
    obj = copy.deepcopy(obj)
    for _ in range(rng.choice((1, 1, 2, 3))):
        chosen = list(paths(obj))
        if not chosen:
            break
        path = rng.choice(chosen)
        parent = obj
        for step in path[:-1]:
            parent = parent[step]
        action = rng.random()
        if action < 0.2:
            del parent[path[-1]]
        elif action < 0.6 and isinstance(parent[path[-1]], dict) and known_fields(obj, path):
            parent[path[-1]][rng.choice(known_fields(obj, path))] = copy.deepcopy(rng.choice(VALUES))
        else:
            parent[path[-1]] = copy.deepcopy(rng.choice(VALUES))
    return obj


def known_fields(obj: Any, path: tuple[Any, ...]) -> list[str]:
    if not isinstance(obj.get("apiVersion"), str) or not isinstance(obj.get("kind"), str):
        return []
    node = schema.at(schema.node(obj["apiVersion"], obj["kind"]), *(step for step in path if isinstance(step, str)))
    while node is not None and node.kind in {"list", "map"}:
        node = node.item
    return sorted(node.fields) if node is not None else []


async def attempt(registry: Registry, rng: random.Random, resource: Resource) -> None:
    """Create, update, patch, write back, delete; a StatusError below 500 ends the attempt."""
    namespace = "default" if resource.namespaced else ""
    at = verbs.Request(resource, namespace, "", "", USER)
    made = await verbs.create(
        registry, None, at, mutate(rng, minimal(resource)), WriteOptions(USER, field_validation="Ignore")
    )
    name = made.obj["metadata"]["name"]
    subresource = rng.choice(["", "status"]) if "status" in resource.subresources else ""
    at = verbs.Request(resource, namespace, name, subresource, USER)
    try:
        for how in ("update", "merge", "strategic"):
            try:
                if how == "update":
                    made = await verbs.update(registry, at, mutate(rng, made.obj), WriteOptions(USER))
                else:
                    patch = mutate(
                        rng, {key: value for key, value in made.obj.items() if key not in {"apiVersion", "kind"}}
                    )
                    made = await verbs.patch(registry, at, patch, how, WriteOptions(USER))  # type: ignore[arg-type]
            except StatusError as error:
                if error.code >= 500:
                    raise
            render_object(copy.deepcopy(made.obj), resource, Representation("Table"), registry.clock(), "Metadata")
        whole = verbs.Request(resource, namespace, name, "", USER)
        current = await verbs.get(registry, whole)
        again = await verbs.update(
            registry, whole, copy.deepcopy(current.obj), WriteOptions(USER, field_validation="Strict")
        )
        assert again.obj == current.obj
    finally:
        await registry.delete(resource, namespace, name, DeleteOptions(propagation="Background", grace_period_s=0))


@pytest.mark.parametrize("seed", range(8))
async def test_mutated_objects_are_taken_or_refused(registry: Registry, seed: int) -> None:
    rng = random.Random(seed)
    taken = 0
    for _ in range(ROUNDS):
        try:
            await attempt(registry, rng, rng.choice(STORED))
            taken += 1
        except StatusError as error:
            if error.code >= 500:
                raise
    assert taken > 0
