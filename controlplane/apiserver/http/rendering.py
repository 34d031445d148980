"""Objects to bytes: one answer, one list, one watch event, in any representation.

The plain JSON of an entry is made once and shared (`Entry.json`); lists join it, watch events wrap it, and a change's
bytes in any other representation are kept with the change for the next watcher.
"""

from __future__ import annotations

from typing import Any

import orjson
import yaml

from podnet.controlplane.api.errors import not_acceptable
from podnet.controlplane.api.printers import scale_table, status_table, table
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver import scheme
from podnet.controlplane.apiserver.http.negotiation import Representation
from podnet.controlplane.apiserver.listing import Page
from podnet.controlplane.apiserver.watchcache import ChangeEvent, Entry

IncludeObject = str


def render_object(obj: Object, resource: Resource, how: Representation, now: float, include_object: Any) -> bytes:
    """One object (or a Status, or a Scale) as the body of an answer."""
    if how.shape == "Table":
        obj = _table_of(obj, resource, now, include_object)
        obj["apiVersion"] = f"meta.k8s.io/{how.meta_version}"
    elif how.shape == "PartialObjectMetadata" and "metadata" in obj and obj.get("kind") != "Status":
        if how.listed:
            raise not_acceptable(
                f"you requested PartialObjectMetadataList, but the requested object is not a list ({_go_type(obj)})"
            )
        obj = partial(obj, how)
    return encode(obj, how)


def _table_of(obj: Object, resource: Resource, now: float, include_object: Any) -> Object:
    if obj.get("kind") == "Status":
        return status_table(obj)
    if obj.get("kind") == "Scale":
        return scale_table(obj, now=now, include_object=include_object)
    version = obj["metadata"].get("resourceVersion")
    list_meta = {"resourceVersion": version} if version else {}
    return table(resource, [obj], now=now, include_object=include_object, list_meta=list_meta)


def _go_type(obj: Object) -> str:
    return f"*{str(obj.get('apiVersion', '')).rpartition('/')[2]}.{obj.get('kind')}"


def partial(obj: Object, how: Representation) -> Object:
    """The metadata of an object as an object of its own."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{how.meta_version}",
        "metadata": obj["metadata"],
    }


def render_page(page: Page, resource: Resource, how: Representation, now: float, include_object: Any) -> bytes:
    """A list as the body of an answer."""
    list_meta: Object = {"resourceVersion": str(page.revision)}
    if page.continue_token:
        list_meta["continue"] = page.continue_token
        if page.remaining is not None:
            list_meta["remainingItemCount"] = page.remaining
    if how.shape == "Table":
        objects = [entry.obj for entry in page.entries]
        document = table(resource, objects, now=now, include_object=include_object, list_meta=list_meta)
        document["apiVersion"] = f"meta.k8s.io/{how.meta_version}"
        return encode(document, how)
    if how.shape == "PartialObjectMetadata":
        if not how.listed:
            of = f"*{resource.version}.{resource.kind}List"
            raise not_acceptable(f"you requested PartialObjectMetadata, but the requested object is a list ({of})")
        items = [partial(entry.obj, how) for entry in page.entries]
        version = f"meta.k8s.io/{how.meta_version}"
        return encode(
            {"kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": list_meta, "items": items}, how
        )
    head = orjson.dumps({"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": list_meta})
    body = b'%b,"items":[%b]}' % (head[:-1], b",".join(entry.json for entry in page.entries))
    return body if not (how.yaml or how.pretty) else encode(orjson.loads(body), how)


def encode(document: Object, how: Representation) -> bytes:
    """JSON or YAML bytes."""
    if how.yaml:
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text: str = yaml.dump(document, Dumper=dumper, sort_keys=False, default_flow_style=False)
        return text.encode()
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 if how.pretty else None)


class EventEncoder:
    """The lines of one watch stream."""

    def __init__(self, resource: Resource, how: Representation, include_object: Any, clock: Any) -> None:
        self._resource = resource
        self._how = how
        self._include_object = include_object
        self._clock = clock
        self._columns_sent = False
        self._shared_key = (resource.api_version, how.shape, how.meta_version, include_object)

    def encode(self, kind: str, entry: Entry, change: ChangeEvent | None) -> bytes:
        """The line of one event."""
        if change is None or (self._how.shape == "Table" and not self._columns_sent):
            return self._line(kind, entry)
        key = (kind, self._shared_key)
        line = change.encoded.get(key)
        if line is None:
            line = change.encoded[key] = self._line(kind, entry)
        return line

    def _line(self, kind: str, entry: Entry) -> bytes:
        resource, how = self._resource, self._how
        seen = entry if kind == "BOOKMARK" else scheme.view(entry, resource)
        if how.shape == "Object":
            body = seen.json
        elif how.shape == "PartialObjectMetadata":
            body = orjson.dumps(partial(seen.obj, how))
        else:
            body = self._table_row(kind, seen.obj)
        return b'{"type":"%b","object":%b}\n' % (kind.encode(), body)

    def _table_row(self, kind: str, obj: Object) -> bytes:
        columns, self._columns_sent = not self._columns_sent, True
        list_meta = {"resourceVersion": obj["metadata"]["resourceVersion"]}
        version = f"meta.k8s.io/{self._how.meta_version}"
        if kind == "BOOKMARK":
            row = {"cells": [], "object": partial(obj, self._how)}
            document = {
                "kind": "Table",
                "apiVersion": version,
                "metadata": list_meta,
                "columnDefinitions": [],
                "rows": [row],
            }
            self._columns_sent = not columns
            return orjson.dumps(document)
        document = table(
            self._resource,
            [obj],
            now=self._clock(),
            include_object=self._include_object,
            list_meta=list_meta,
            columns=columns,
        )
        document["apiVersion"] = version
        return orjson.dumps(document)
