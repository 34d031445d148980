"""LIST: which entries, as of which revision, and how to go on.

First pages come from the watch cache; a continuation reads the store at the first page's revision, so that all pages
are one snapshot, unless nothing of the resource has changed since. Source: apiserver storage/cacher and
storage/continue.go; table of resourceVersion semantics in the API concepts documentation.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from podnet.controlplane.api.errors import StatusError, bad_request, too_large_resource_version
from podnet.controlplane.api.fields import FieldSelector, parse_field_selector
from podnet.controlplane.api.selectors import LabelSelector, parse_label_selector
from podnet.controlplane.api.types import Resource
from podnet.controlplane.apiserver import scheme
from podnet.controlplane.apiserver.keys import key_of, prefix_of
from podnet.controlplane.apiserver.options import ListOptions, check_list_options, parse_resource_version
from podnet.controlplane.apiserver.watchcache import Entry, Predicate, WatchCache
from podnet.controlplane.store.types import CompactedError, FutureRevisionError, Store

CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class Page:
    """One answer: entries in the version asked for, the revision they are of, and how to get the rest."""

    entries: list[Entry]
    revision: int
    continue_token: str = ""
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or watch selects: a key prefix, and a predicate over entries (None: everything below it)."""

    prefix: str
    key: str
    predicate: Predicate | None


class ContinueExpiredError(StatusError):
    """410 for a continue token, with a fresh token to go on inconsistently."""

    def __init__(self, fresh: str) -> None:
        super().__init__(410, "Expired", CONTINUE_EXPIRED)
        self.fresh = fresh

    def to_status(self) -> dict[str, Any]:
        status = StatusError.to_status(self)
        status["metadata"] = {"continue": self.fresh}
        return status


def select(resource: Resource, namespace: str, label_selector: str, field_selector: str) -> Selection:
    """Parse both selectors; `metadata.name=x` in a namespace becomes one key."""
    labels = parse_label_selector(label_selector)
    fields = parse_field_selector(field_selector, resource)
    if not namespace and resource.namespaced:
        namespace = fields.exact("metadata.namespace") or ""
    name = fields.exact("metadata.name")
    key = key_of(resource, namespace, name) if name and (namespace or not resource.namespaced) else ""
    prefix = prefix_of(resource, namespace if resource.namespaced else "")
    return Selection(prefix, key, predicate_of(resource, labels, fields))


def predicate_of(resource: Resource, labels: LabelSelector, fields: FieldSelector) -> Predicate | None:
    """One test over entries for both selectors."""
    if labels.empty and fields.empty:
        return None

    def matches(entry: Entry) -> bool:
        obj = scheme.view(entry, resource).obj
        return labels.matches(obj["metadata"].get("labels")) and fields.matches(obj)

    return matches


def encode_continue(revision: int, start: str) -> str:
    """The opaque token: upstream's shape, so that curious clients can read it."""
    return (
        base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start}))
        .decode()
        .rstrip("=")
    )


def decode_continue(token: str, prefix: str) -> tuple[int, str]:
    """(revision, first key) of a token; 400 when it is not one of ours."""
    try:
        fields = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, revision, start = fields["v"], fields["rv"], fields["start"]
    except (binascii.Error, ValueError, TypeError, KeyError):
        raise _bad_continue("unable to decode the token") from None
    if version != "meta.k8s.io/v1" or not isinstance(revision, int) or not isinstance(start, str) or not start:
        raise _bad_continue("server does not recognize this encoded version")
    if revision == 0 or isinstance(revision, bool) or not -(2**63) <= revision < 2**63:
        raise _bad_continue("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    return revision, prefix + start.lstrip("/")


def _bad_continue(why: str) -> StatusError:
    return bad_request(f"invalid continue token: continue key is not valid: {why}")


async def list_entries(
    cache: WatchCache, store: Store, resource: Resource, namespace: str, options: ListOptions
) -> Page:
    """Answer a LIST."""
    check_list_options(options)
    selection = select(resource, namespace, options.label_selector, options.field_selector)
    if options.continue_token:
        if options.resource_version not in {"", "0"}:
            raise bad_request("specifying resource version is not allowed when using continue")
        return await _continued(cache, store, resource, selection, options)
    wanted = parse_resource_version(options.resource_version)
    if _is_exact(options, wanted):
        return await _from_store(cache, store, resource, selection, options, wanted, "")
    if not options.resource_version:
        await cache.wait_fresh()
    elif wanted:
        await cache.wait_revision(wanted)
    return _from_cache(cache, resource, selection, options, cache.revision, "")


def _is_exact(options: ListOptions, wanted: int) -> bool:
    if options.resource_version_match:
        return options.resource_version_match == "Exact"
    return bool(options.limit and wanted)


async def _continued(
    cache: WatchCache, store: Store, resource: Resource, selection: Selection, options: ListOptions
) -> Page:
    revision, start = decode_continue(options.continue_token, selection.prefix)
    if revision < 0:  # a fresh token of ContinueExpiredError: the rest as it is now
        await cache.wait_fresh()
        return _from_cache(cache, resource, selection, options, cache.revision, start)
    if revision <= cache.revision and cache.of(resource).changed <= revision:
        return _from_cache(cache, resource, selection, options, revision, start)
    try:
        return await _from_store(cache, store, resource, selection, options, revision, start)
    except StatusError as error:
        if not error.is_expired:
            raise
        raise ContinueExpiredError(encode_continue(-1, start.removeprefix(selection.prefix))) from None


def _from_cache(
    cache: WatchCache, resource: Resource, selection: Selection, options: ListOptions, revision: int, start: str
) -> Page:
    of_resource = cache.of(resource)
    if selection.key:
        entry = of_resource.get(selection.key)
        entries = [entry] if entry is not None else []
    else:
        entries = of_resource.range(selection.prefix)
    if start:
        entries = [entry for entry in entries if entry.key >= start]
    return _page(entries, resource, selection, options, revision)


async def _from_store(
    cache: WatchCache,
    store: Store,
    resource: Resource,
    selection: Selection,
    options: ListOptions,
    revision: int,
    start: str,
) -> Page:
    if revision > cache.revision:
        await cache.wait_fresh()
        if revision > cache.revision:
            raise too_large_resource_version(revision, cache.revision)
    try:
        result = await store.range(selection.prefix, start=start, revision=revision)
    except CompactedError as error:
        raise StatusError(410, "Expired", f"The resourceVersion for the provided list is too old: {error}") from None
    except FutureRevisionError:
        raise too_large_resource_version(revision, cache.revision) from None
    entries = [Entry.of(kv) for kv in result.kvs]
    if selection.key:
        entries = [entry for entry in entries if entry.key == selection.key]
    return _page(entries, resource, selection, options, revision)


def _page(entries: list[Entry], resource: Resource, selection: Selection, options: ListOptions, revision: int) -> Page:
    chosen: Iterable[Entry] = entries
    if selection.predicate is not None:
        chosen = filter(selection.predicate, entries)
    if not options.limit:
        return Page([scheme.view(entry, resource) for entry in chosen], revision)
    page: list[Entry] = []
    for entry in chosen:
        if len(page) == options.limit:
            start = page[-1].key.removeprefix(selection.prefix) + "\0"
            remaining = len(entries) - options.limit if selection.predicate is None else None
            return Page(page, revision, encode_continue(revision, start), remaining)
        page.append(scheme.view(entry, resource))
    return Page(page, revision)
