"""The etcd driver: the real one, one or three members, as a cluster has it.

Every write is one transaction of etcd's with our conditions in it; every read is linearizable, at one revision. A
member that fails is passed over. A write whose answer was lost is asked again with the same conditions: if they fail
because what stands there is just what we wrote, it was ours.
Source: etcd.io/docs/v3.4/learning/api; how Kubernetes' storage layer uses it (storage/etcd3/store.go).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from podnet.controlplane.store import etcd_messages as messages
from podnet.controlplane.store.etcd_gateway import Answer, EtcdEndpoints, EtcdGateway, EtcdRefusedError, Message, encode
from podnet.controlplane.store.etcd_watch import EtcdWatch
from podnet.controlplane.store.types import (
    CompactedError,
    Event,
    FutureRevisionError,
    KeyExistsError,
    KeyValue,
    RangeResult,
    RevisionMismatchError,
    StoreError,
    StoreOpenError,
    StoreUnavailableError,
    StoreWriteError,
)

PAGE_KEYS = 500
"""Keys asked for at once: a message must stay below what gRPC takes, a list of a kind need not."""
OUT_OF_RANGE = 11


class EtcdStore:
    """A `Store` kept by etcd members. It connects when it is first asked, and waits for them within its patience."""

    def __init__(self, endpoints: EtcdEndpoints, *, gateway: EtcdGateway | None = None) -> None:
        if not endpoints.urls:
            raise StoreOpenError("the etcd driver needs the address of one member at least")
        try:
            self._gateway = gateway or EtcdGateway(endpoints)
        except OSError as error:
            raise StoreOpenError(f"etcd's client certificate cannot be used: {error}") from error
        self._seen = 0  # the newest revision any answer has told
        self._watches: set[EtcdWatch] = set()

    # --- reads

    async def revision(self) -> int:
        """The newest revision."""
        request = {"key": encode("\0"), "limit": "1", "keys_only": True}
        return messages.header_revision((await self._ask("/v3/kv/range", request)).message)

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        """See Store.get."""
        answer = await self._read({"key": encode(key), "revision": str(revision)}, revision)
        found = answer.get("kvs", ())
        return messages.key_value(found[0]) if found else None

    async def range(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> RangeResult:
        """See Store.range. Without a limit it comes in pages, all of one revision."""
        kvs: list[KeyValue] = []
        while True:
            wanted = min(PAGE_KEYS, limit - len(kvs)) if limit else PAGE_KEYS
            answer = await self._read(messages.range_request(prefix, start, wanted, revision), revision)
            revision = revision or messages.header_revision(answer)
            page = [messages.key_value(item) for item in answer.get("kvs", ())]
            kvs += page
            remaining = int(answer.get("count", 0)) - len(page)
            if not remaining or not page or (limit and len(kvs) >= limit):
                return RangeResult(tuple(kvs), revision, remaining)
            start = page[-1].key + "\0"

    def watch(self, prefix: str, revision: int) -> AsyncIterator[list[Event]]:
        """See Store.watch. Revision 0: from what was last heard of on; of one who heard nothing, from its first answer."""
        if revision <= 0 and self._seen:
            revision = self._seen + 1
        watch = EtcdWatch(self._gateway, prefix, revision, self._watches.discard)
        self._watches.add(watch)
        return watch

    async def _read(self, request: Message, revision: int) -> Message:
        try:
            return (await self._ask("/v3/kv/range", request)).message
        except EtcdRefusedError as error:
            raise await self._out_of_range(error, revision) from error

    # --- writes

    async def create(self, key: str, value: bytes) -> KeyValue:
        """See Store.create."""
        answer = await self._write(messages.create_txn(key, value))
        if answer.message.get("succeeded"):
            revision = messages.header_revision(answer.message)
            return KeyValue(key, value, revision, revision)
        current = messages.standing(answer.message)
        if current is None:  # it cannot be: the condition that failed was that there is something
            raise StoreUnavailableError("etcd contradicts itself")
        if answer.uncertain and current.value == value and current.create_revision == current.mod_revision:
            return current
        raise KeyExistsError(current)

    async def update(self, key: str, value: bytes, mod_revision: int) -> KeyValue:
        """See Store.update."""
        answer = await self._write(messages.update_txn(key, value, mod_revision))
        if answer.message.get("succeeded"):
            before = messages.previous(answer.message)
            return KeyValue(key, value, before.create_revision, messages.header_revision(answer.message))
        current = messages.standing(answer.message)
        if answer.uncertain and current is not None and current.value == value and current.mod_revision > mod_revision:
            return current
        raise RevisionMismatchError(key, current)

    async def delete(self, key: str, mod_revision: int = 0) -> KeyValue:
        """See Store.delete. When the answer was lost and the key is gone, that is a RevisionMismatchError, too."""
        answer = await self._write(messages.delete_txn(key, mod_revision))
        if not answer.message.get("succeeded"):
            raise RevisionMismatchError(key, messages.standing(answer.message))
        last = messages.previous(answer.message)
        return KeyValue(key, last.value, last.create_revision, messages.header_revision(answer.message))

    async def _write(self, transaction: Message) -> Answer:
        try:
            return await self._ask("/v3/kv/txn", transaction)
        except EtcdRefusedError as error:  # too large, out of space
            raise StoreWriteError(str(error)) from error

    # --- housekeeping

    async def compact(self, revision: int) -> None:
        """See Store.compact."""
        try:
            await self._ask("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        except EtcdRefusedError as error:
            raise await self._out_of_range(error, revision) from error

    async def close(self) -> None:
        """End the watches, drop the connections. etcd itself is somebody else's."""
        for watch in tuple(self._watches):
            await watch.aclose()
        await self._gateway.close()

    async def _ask(self, path: str, request: Message) -> Answer:
        answer = await self._gateway.call(path, request)
        self._seen = max(self._seen, messages.header_revision(answer.message))
        return answer

    async def _out_of_range(self, error: EtcdRefusedError, revision: int) -> StoreError:
        """Turn etcd's words into our errors; the revisions that they lack are asked for."""
        words = str(error)
        if error.code == OUT_OF_RANGE and "compacted" in words:
            return CompactedError(revision, await self._compacted())
        if error.code == OUT_OF_RANGE and "future" in words:
            return FutureRevisionError(revision, await self.revision())
        return StoreUnavailableError(words)

    async def _compacted(self) -> int:
        """The compaction revision, which etcd tells only to watches that ask for what is gone."""
        watch = EtcdWatch(self._gateway, "\1", 1, lambda _watch: None)  # a prefix that no key of ours has
        try:
            await anext(watch)
        except CompactedError as error:
            return error.compacted
        finally:
            await watch.aclose()
        return 0
