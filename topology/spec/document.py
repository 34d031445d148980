"""YAML text as a tree in which every value knows its path and line.

Pure. Refused here, with their lines: text that is no YAML, more than one document, keys that occur twice, keys that
are no strings, aliases that contain themselves or multiply without end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from podnet.topology.spec.types import Problem

_VALUES_MAX = 20_000
_TEXT_MAX = 1 << 20
_COLLECTION_TAGS = frozenset({"tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"})
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Value:
    """One YAML value: `data` is a scalar, a list of Values, or a dict of Values; `key_line` is its key's line."""

    data: Any
    path: str
    line: int
    key_line: int = 0

    def where(self) -> int:
        """The line to name in a message about this value."""
        return self.key_line or self.line


class DocumentError(Exception):
    """The text is no usable YAML document."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].message)
        self.problems = tuple(problems)


def parse_document(text: str) -> Value:
    """The one document of the text."""
    if len(text) > _TEXT_MAX:
        raise DocumentError([Problem("", 0, f"larger than {_TEXT_MAX} characters")])
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise DocumentError([Problem("", 1, "empty: expected apiVersion, kind, metadata and spec")])
            walk = _Walk(loader)
            root = walk.value(node, "", 0)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise DocumentError([_yaml_problem(error)]) from error
    except (ValueError, RecursionError) as error:
        raise DocumentError([Problem("", 0, f"not YAML: {error}")]) from error
    if walk.problems:
        raise DocumentError(walk.problems)
    return root


def _yaml_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    words = getattr(error, "problem", None) or str(error).splitlines()[0]
    return Problem("", mark.line + 1 if mark else 0, f"not YAML: {words}")


def _said(node: yaml.Node) -> str:
    """A key that is none, in words."""
    kinds: dict[type[yaml.Node], str] = {yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
    return kinds.get(type(node)) or repr(node.value)


class _Walk:
    """One pass over the composed nodes."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._open: set[int] = set()
        self._count = 0
        self.problems: list[Problem] = []

    def value(self, node: yaml.Node, path: str, key_line: int) -> Value:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > _VALUES_MAX:
            raise DocumentError([Problem(path, line, f"more than {_VALUES_MAX} values")])
        if id(node) in self._open:
            raise DocumentError([Problem(path, line, "an alias contains itself")])
        self._open.add(id(node))
        try:
            data = self._data(node, path)
        finally:
            self._open.discard(id(node))
        return Value(data, path, line, key_line)

    def _data(self, node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTION_TAGS:
            self.problems.append(Problem(path, node.start_mark.line + 1, f"not YAML: unknown tag {node.tag!r}"))
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, f"{path}[{n}]", 0) for n, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            key = self._loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                self.problems.append(Problem(path, line, f"a field's name must be a string, not {_said(key_node)}"))
                continue
            below = f"{path}.{key}" if path else key
            if key in found:
                first = found[key].key_line
                self.problems.append(Problem(below, line, f"given twice (first in line {first})"))
                continue
            found[key] = self.value(child, below, line)
        return found
