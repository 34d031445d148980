"""The registry: every verb of the API over a store, without HTTP.

    request ─> decode/fields ─> defaults ─> admission ─> strategy ─> validation ─> one conditional store write
    read    <─ watch cache  <─ store.watch

Rule: a write is a function from the stored state to the new one, applied with compare-and-swap and tried again when
another write came between, unless the request itself said which revision it has seen. Nothing is written that did not
pass the whole chain; a dry run passes all of it and stops before the write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network

from podnet.controlplane.api.errors import (
    StatusError,
    already_exists,
    bad_request,
    conflict,
    generate_name_conflict,
    internal_error,
    not_found,
)
from podnet.controlplane.api.meta import deep_copy
from podnet.controlplane.api.resources import NAMESPACES, RESOURCEQUOTAS, SERVICEACCOUNTS, SERVICES
from podnet.controlplane.api.types import Object, Resource
from podnet.controlplane.apiserver import managers, scheme, strategy
from podnet.controlplane.apiserver import metadata as meta
from podnet.controlplane.apiserver.admission import Attributes, admit, resource_quota
from podnet.controlplane.apiserver.admission.pods import DEFAULT_TOLERATION_S
from podnet.controlplane.apiserver.admission.quota import GROWS
from podnet.controlplane.apiserver.admission.serviceaccount import account_name
from podnet.controlplane.apiserver.allocation import ServiceRanges
from podnet.controlplane.apiserver.deletion import is_finished, plan_deletion
from podnet.controlplane.apiserver.keys import key_of, prefix_of
from podnet.controlplane.apiserver.listing import Page, list_entries
from podnet.controlplane.apiserver.options import (
    DeleteOptions,
    ListOptions,
    WatchOptions,
    WriteOptions,
    parse_resource_version,
)
from podnet.controlplane.apiserver.patching import PatchType, patched, spoils
from podnet.controlplane.apiserver.services import ServiceAllocator
from podnet.controlplane.apiserver.stored import encoded, private, unchanged
from podnet.controlplane.apiserver.watchcache import Entry, WatchCache
from podnet.controlplane.apiserver.watching import Watch
from podnet.controlplane.store.types import KeyExistsError, KeyValue, RevisionMismatchError, Store, StoreError

UPDATE_ATTEMPTS = 20
"""Compare-and-swap retries of a write that named no revision (upstream tries a patch five times, an update for ever)."""

NAME_ATTEMPTS = 8
"""Names tried for a generateName before the clash is reported."""

SERVICE_ACCOUNT_WAIT_S = 2.0
"""How long a pod waits for its namespace's `default` account, which a controller makes a moment after the namespace."""

Transform = Callable[[Object], Object]
"""The current object (a private copy) -> what the request makes of it. Called again when the write has to be retried."""


class Registry:
    """Reads and writes of every resource. Open it with `start`, close it with `stop`; it does not own the store."""

    def __init__(
        self,
        store: Store,
        *,
        service_cidr: str = "10.96.0.0/16",
        node_port_range: tuple[int, int] = (30000, 32767),
        default_toleration_s: int = DEFAULT_TOLERATION_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.cache = WatchCache(store)
        self.clock = clock
        self.default_toleration_s = default_toleration_s
        self.ranges = ServiceRanges(IPv4Network(service_cidr), node_port_range)
        self.services = ServiceAllocator(self, self.ranges, clock=self.clock)
        self._one_at_a_time = asyncio.Lock()

    async def start(self) -> None:
        """Fill the watch cache and begin to follow the store."""
        await self.cache.start()

    async def stop(self) -> None:
        """End all watches."""
        await self.cache.stop()

    # -- reads

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """One object as the cache has it now, for admission and subresources; not to be changed."""
        entry = self.cache.of(resource).get(key_of(resource, namespace, name))
        return None if entry is None else scheme.view(entry, resource).obj

    def objects(self, resource: Resource, namespace: str = "") -> list[Object]:
        """All objects as the cache has them now; not to be changed."""
        return [scheme.view(e, resource).obj for e in self.cache.of(resource).range(prefix_of(resource, namespace))]

    async def get(self, resource: Resource, namespace: str, name: str, *, resource_version: str = "") -> Entry:
        """GET of one object."""
        if resource_version and resource_version != "0":
            await self.cache.wait_revision(parse_resource_version(resource_version))
        elif not resource_version:
            await self.cache.wait_fresh()
        return scheme.view(self.current(resource, namespace, name), resource)

    def current(self, resource: Resource, namespace: str, name: str) -> Entry:
        """The stored entry of one object in the cache as it is, or 404."""
        entry = self.cache.of(resource).get(key_of(resource, namespace, name))
        if entry is None:
            raise not_found(resource.plural, name, resource.group)
        return entry

    async def list(self, resource: Resource, namespace: str = "", options: ListOptions | None = None) -> Page:
        """LIST."""
        return await list_entries(self.cache, self.store, resource, namespace, options or ListOptions())

    def watch(self, resource: Resource, namespace: str = "", options: WatchOptions | None = None) -> Watch:
        """WATCH; iterate the answer's `batches()`."""
        return Watch(self.cache, resource, namespace, options or WatchOptions())

    # -- create

    async def create(self, resource: Resource, namespace: str, obj: Object, options: WriteOptions) -> Entry:
        """POST of a whole object; `obj` becomes the registry's."""
        obj = scheme.check_fields(meta.type_check(obj, resource), options)
        options.warnings.extend(meta.drop_duplicate_owners(obj["metadata"]))
        meta.begin_metadata(obj, resource, namespace, self.clock())
        await self.cache.wait_fresh()
        if resource.plural == "pods":
            await self._wait_service_account(obj)
        generated = meta.require_name(obj, resource)
        base = obj["metadata"].get("generateName", "")
        scheme.apply_defaults(obj, resource)
        # Before admission: who made the object does not own what the cluster adds (a pod's token, a Service's address).
        managers.record_create(obj, resource, options, self.clock())
        for attempt in range(NAME_ATTEMPTS):
            try:
                # A copy: what is made of a name (a Job's labels) does not outlive it.
                return await self._create_named(resource, deep_copy(obj) if generated else obj, options)
            except StatusError as error:
                if not generated or not error.is_already_exists:
                    raise
                if attempt == NAME_ATTEMPTS - 1:
                    raise generate_name_conflict(resource.plural, obj["metadata"]["name"], resource.group) from None
                obj["metadata"]["name"] = meta.generate_name(base)
        raise internal_error("unreachable")

    async def _create_named(self, resource: Resource, obj: Object, options: WriteOptions) -> Entry:
        namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
        attributes = Attributes("CREATE", resource, namespace, name, obj, user=options.user)
        admit(attributes, self)
        strategy.prepare_create(obj, resource)
        scheme.apply_defaults(obj, resource)  # what the strategy added has defaults of its own (a Job's labels)
        if resource is SERVICES:
            return await self._create_service(obj, attributes, options)
        scheme.validate_new(obj, resource)
        if not managers.is_component(options.user):
            scheme.remark(obj, None, resource, options)
        if not (namespace and self.objects(RESOURCEQUOTAS, namespace)):
            return await self._insert(resource, obj, options)
        async with self._one_at_a_time:  # what may be had depends on what there is
            await self.cache.wait_fresh()
            resource_quota(attributes, self)
            return await self._insert(resource, obj, options)

    async def _create_service(self, service: Object, attributes: Attributes, options: WriteOptions) -> Entry:
        """Allocation comes before validation, as upstream: what is stored has its addresses when it is judged."""
        async with self._one_at_a_time:
            await self.cache.wait_fresh()
            self.services.settle(service, None)
            scheme.validate_new(service, SERVICES)
            scheme.remark(service, None, SERVICES, options)
            resource_quota(attributes, self)
            exists = self.find(SERVICES, attributes.namespace, attributes.name) is not None
            if options.dry_run or exists:  # `exists`: the answer is a 409, nothing to claim for it
                return await self._insert(SERVICES, service, options)
            await self.services.claim(service, None)
            try:
                return await self._insert(SERVICES, service, options)
            except (StatusError, StoreError):
                await self.services.release(service, None)
                raise

    async def _insert(self, resource: Resource, obj: Object, options: WriteOptions) -> Entry:
        namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
        key = key_of(resource, namespace, name)
        stored = scheme.stored_form(obj, resource)
        if options.dry_run:
            if self.cache.of(resource).get(key) is not None:
                raise _taken(self.current(resource, namespace, name), resource)
            return scheme.view(Entry(key, stored, 0), resource)
        try:
            kv = await self.store.create(key, encoded(stored))
        except KeyExistsError as error:
            raise _taken(Entry.of(error.current), resource) from None
        return self._written(kv, resource)

    async def repair_services(self) -> None:
        """Make the IPAddress objects agree with the Services, after a crash or a careless hand."""
        async with self._one_at_a_time:
            await self.cache.wait_fresh()
            await self.services.repair()

    async def _wait_service_account(self, pod: Object) -> None:
        namespace, name = pod["metadata"].get("namespace", ""), account_name(pod)
        if name != "default" or self.find(SERVICEACCOUNTS, namespace, name) is not None:
            return
        if self.find(NAMESPACES, "", namespace) is None:
            return
        watcher, _, _ = self.cache.open_watch(
            SERVICEACCOUNTS, key_of(SERVICEACCOUNTS, namespace, name), None, after=self.cache.revision
        )
        try:
            await watcher.wait_pending(SERVICE_ACCOUNT_WAIT_S)
        finally:
            watcher.close()

    # -- update and patch

    async def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        obj: Object,
        options: WriteOptions,
        *,
        subresource: str = "",
    ) -> tuple[Entry, bool]:
        """PUT; True when it created the object."""
        obj = scheme.check_fields(meta.type_check(obj, resource), options)
        metadata = obj["metadata"]
        options.warnings.extend(meta.drop_duplicate_owners(metadata))
        meta.check_namespace(metadata, resource, namespace)
        if not metadata.get("name"):
            raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
        if metadata["name"] != name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        scheme.apply_defaults(obj, resource)
        await self.cache.wait_fresh()
        missing = self.cache.of(resource).get(key_of(resource, namespace, name)) is None
        if missing and not subresource and self._may_create(resource, metadata):
            return await self.create(resource, namespace, obj, options), True
        entry = await self.write(resource, namespace, name, lambda _: private(obj), options, subresource=subresource)
        return entry, False

    @staticmethod
    def _may_create(resource: Resource, metadata: Object) -> bool:
        named = metadata.get("uid") or metadata.get("resourceVersion") not in {None, "", "0"}
        return resource.qualified_name in strategy.CREATE_ON_UPDATE and not named

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: object,
        patch_type: PatchType,
        options: WriteOptions,
        *,
        subresource: str = "",
    ) -> Entry:
        """PATCH of the object or of its status."""

        def transform(old: Object) -> Object:
            options.warnings.clear()
            result = meta.type_check(patched(old, patch, patch_type, resource), resource)
            try:
                new = scheme.check_fields(result, options)
            except StatusError as error:
                raise spoils(patch, patch_type, result, error) from None
            options.warnings.extend(meta.drop_duplicate_owners(new["metadata"], patched=True))
            scheme.apply_defaults(new, resource)
            return new

        return await self.write(resource, namespace, name, transform, options, subresource=subresource)

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: object,
        options: WriteOptions,
        *,
        subresource: str = "",
    ) -> tuple[Entry, bool]:
        """Server-side apply; True when it created the object."""
        applied = managers.prepare_applied(body, name, resource, subresource, options)
        meta.check_namespace(applied["metadata"], resource, namespace)

        def transform(old: Object) -> Object:
            new = managers.apply_onto(old, applied, subresource, options, self.clock())
            scheme.apply_defaults(new, resource)
            return new

        while True:
            await self.cache.wait_fresh()
            missing = self.cache.of(resource).get(key_of(resource, namespace, name)) is None
            try:
                if not missing or subresource:
                    onto = replace(options, applying=True)
                    return await self.write(resource, namespace, name, transform, onto, subresource=subresource), False
                managers.check_absent(applied, resource)
                first = managers.for_create(options, applied, self.clock())
                return await self.create(resource, namespace, private(applied), first), True
            except StatusError as error:
                # It came or went in between: what is asked for is the state, not the way there.
                if not (error.is_already_exists if missing else error.is_not_found) or subresource:
                    raise

    async def write(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        transform: Transform,
        options: WriteOptions,
        *,
        subresource: str = "",
    ) -> Entry:
        """Apply `transform` with the whole chain and compare-and-swap. A lost race is tried again; if the request named
        a resourceVersion, the new attempt finds it stale and says so."""
        if not subresource and (
            resource is SERVICES or (resource in GROWS and self.objects(RESOURCEQUOTAS, namespace))
        ):
            async with self._one_at_a_time:
                return await self._write(resource, namespace, name, transform, options, subresource)
        return await self._write(resource, namespace, name, transform, options, subresource)

    async def _write(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        transform: Transform,
        options: WriteOptions,
        subresource: str,
    ) -> Entry:
        await self.cache.wait_fresh()
        entry = self.current(resource, namespace, name)
        for _ in range(UPDATE_ATTEMPTS):
            old = scheme.view(entry, resource)
            new = transform(old.thaw())
            said = new["metadata"].get("managedFields")
            self._prepare_update(new, old.obj, resource, subresource, options)
            managers.record_update(new, old.obj, said, subresource, options, self.clock())
            stored = scheme.stored_form(new, resource)
            if unchanged(stored, entry.obj):
                return old
            if options.dry_run:
                stored["metadata"]["resourceVersion"] = old.obj["metadata"]["resourceVersion"]
                return scheme.view(Entry(entry.key, stored, entry.revision), resource)
            if resource is SERVICES:
                await self.services.claim(stored, entry.obj)
            try:
                if is_finished(new, resource):
                    return await self._finish(entry, stored, resource)
                kv = await self.store.update(entry.key, encoded(stored), entry.revision)
            except RevisionMismatchError as error:
                if resource is SERVICES:
                    await self.services.release(stored, entry.obj)
                if error.current is None:
                    raise not_found(resource.plural, name, resource.group) from None
                entry = Entry.of(error.current)
                continue
            written = self._written(kv, resource)
            if resource is SERVICES:
                await self.services.release(entry.obj, stored)
            return written
        raise conflict(resource.plural, name, group=resource.group)

    def _prepare_update(
        self, new: Object, old: Object, resource: Resource, subresource: str, options: WriteOptions
    ) -> None:
        meta.check_update_identity(new, old, resource)
        meta.check_update_version(new, old, resource)
        namespace, name = old["metadata"].get("namespace", ""), old["metadata"]["name"]
        attributes = Attributes("UPDATE", resource, namespace, name, new, old, subresource, options.user)
        admit(attributes, self)
        strategy.prepare_update(new, old, resource, subresource)
        if resource is SERVICES and not subresource:
            self.services.settle(new, old)
        scheme.validate_changed(new, old, resource, subresource)
        if not subresource and not managers.is_component(options.user):
            scheme.remark(new, old, resource, options)
        resource_quota(attributes, self)

    async def _finish(self, entry: Entry, stored: Object, resource: Resource) -> Entry:
        """The update took the last finalizer of a deleted object: it goes."""
        kv = await self.store.delete(entry.key, entry.revision)
        self.cache.note_write(kv.mod_revision)
        stored["metadata"]["resourceVersion"] = str(kv.mod_revision)
        if resource is SERVICES:
            await self.services.release(entry.obj, None)
        return scheme.view(Entry(entry.key, stored, kv.mod_revision), resource)

    def _written(self, kv: KeyValue, resource: Resource) -> Entry:
        self.cache.note_write(kv.mod_revision)
        return scheme.view(Entry.of(kv), resource)

    # -- delete

    async def delete(self, resource: Resource, namespace: str, name: str, options: DeleteOptions) -> Object:
        """DELETE: the object when it stays for a while (or its kind answers so), else a Status."""
        admit(Attributes("DELETE", resource, namespace, name, None, user=options.user), self)
        await self.cache.wait_fresh()
        entry = self.current(resource, namespace, name)
        for _ in range(UPDATE_ATTEMPTS):
            meta.check_preconditions(entry.obj, resource, options.uid, options.resource_version)
            plan = plan_deletion(entry.thaw(), resource, options, self.clock())
            try:
                if plan.remove:
                    return await self._remove(entry, resource, options)
                if plan.keep is None:
                    return scheme.view(entry, resource).obj
                if options.dry_run:
                    return scheme.view(Entry(entry.key, plan.keep, entry.revision), resource).obj
                kv = await self.store.update(entry.key, encoded(plan.keep), entry.revision)
            except RevisionMismatchError as error:
                if error.current is None:
                    raise not_found(resource.plural, name, resource.group) from None
                entry = Entry.of(error.current)
                continue
            return self._written(kv, resource).obj
        raise conflict(resource.plural, name, group=resource.group)

    async def _remove(self, entry: Entry, resource: Resource, options: DeleteOptions) -> Object:
        gone = entry
        if not options.dry_run:
            kv = await self.store.delete(entry.key, entry.revision)
            self.cache.note_write(kv.mod_revision)
            gone = entry.at_revision(kv.mod_revision)
            if resource is SERVICES:
                await self.services.release(entry.obj, None)
        if resource.qualified_name in strategy.RETURNS_DELETED_OBJECT:
            return scheme.view(gone, resource).obj
        metadata = entry.obj["metadata"]
        details: Object = {"name": metadata["name"]}
        if resource.group:
            details["group"] = resource.group
        details |= {"kind": resource.plural, "uid": metadata["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    async def delete_collection(
        self, resource: Resource, namespace: str, options: DeleteOptions, selection: ListOptions
    ) -> Page:
        """DELETE of everything a list selects; answers with what it was asked to delete."""
        page = await self.list(resource, namespace, selection)
        for entry in page.entries:
            metadata = entry.obj["metadata"]
            try:
                await self.delete(resource, metadata.get("namespace", ""), metadata["name"], replace(options))
            except StatusError as error:
                if not error.is_not_found:
                    raise
        return page


def _taken(there: Entry, resource: Resource) -> StatusError:
    """409: the name is another object's, which may be on its way out."""
    metadata = there.obj["metadata"]
    error = already_exists(resource.plural, metadata["name"], resource.group)
    if metadata.get("deletionTimestamp"):
        error.message = f"object is being deleted: {error.message}"
    return error
