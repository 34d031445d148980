"""etcd's messages and ours: requests out of a write's conditions, key-values and events out of answers. Pure.

Source: etcd v3 API, rpc.proto and kv.proto (etcd.io/docs/v3.4/dev-guide/api_reference_v3).
"""

from __future__ import annotations

from podnet.controlplane.store.etcd_gateway import Message, decode, encode
from podnet.controlplane.store.types import Event, KeyValue


def prefix_end(prefix: str) -> bytes:
    r"""The end of the range of all keys with a prefix; a zero byte: to the end of all keys.

    >>> prefix_end("/a/"), prefix_end("")
    (b'/a0', b'\x00')
    """
    # UTF-8 has no byte 0xff, so the last byte can always be counted up.
    return prefix.encode()[:-1] + bytes([prefix.encode()[-1] + 1]) if prefix else b"\0"


def range_request(prefix: str, start: str, limit: int, revision: int) -> Message:
    """Keys with `prefix` that are >= `start`, in byte order."""
    first = max(prefix.encode(), start.encode()) or b"\0"
    return {
        "key": encode(first),
        "range_end": encode(prefix_end(prefix)),
        "limit": str(limit),
        "revision": str(revision),
    }


def create_txn(key: str, value: bytes) -> Message:
    """Put a key that is not there, else read what is."""
    return _txn(key, [_compare(key, "CREATE", "EQUAL", 0)], {"request_put": _put(key, value)})


def update_txn(key: str, value: bytes, mod_revision: int) -> Message:
    """Put a key that is still at `mod_revision`, else read what is."""
    conditions = [_compare(key, "CREATE", "GREATER", 0), _compare(key, "MOD", "EQUAL", mod_revision)]
    return _txn(key, conditions, {"request_put": {**_put(key, value), "prev_kv": True}})


def delete_txn(key: str, mod_revision: int) -> Message:
    """Delete a key that is there (and still at `mod_revision` unless 0), else read what is."""
    conditions = [_compare(key, "CREATE", "GREATER", 0)]
    if mod_revision:
        conditions.append(_compare(key, "MOD", "EQUAL", mod_revision))
    return _txn(key, conditions, {"request_delete_range": {"key": encode(key), "prev_kv": True}})


def _txn(key: str, conditions: list[Message], operation: Message) -> Message:
    return {"compare": conditions, "success": [operation], "failure": [{"request_range": {"key": encode(key)}}]}


def _compare(key: str, target: str, result: str, revision: int) -> Message:
    field = {"CREATE": "create_revision", "MOD": "mod_revision"}[target]
    return {"key": encode(key), "target": target, "result": result, field: str(revision)}


def _put(key: str, value: bytes) -> Message:
    return {"key": encode(key), "value": encode(value)}


def header_revision(answer: Message) -> int:
    """The store's revision when it answered."""
    return int(answer["header"]["revision"])


def key_value(item: Message) -> KeyValue:
    """One key of an answer."""
    return KeyValue(
        decode(item["key"]).decode(),
        decode(item.get("value", "")),
        int(item.get("create_revision", 0)),
        int(item["mod_revision"]),
    )


def previous(answer: Message) -> KeyValue:
    """What a put or delete that succeeded found there."""
    response = answer["responses"][0]
    if "response_put" in response:
        return key_value(response["response_put"]["prev_kv"])
    return key_value(response["response_delete_range"]["prev_kvs"][0])


def standing(answer: Message) -> KeyValue | None:
    """What a transaction that lost found there."""
    found = answer["responses"][0].get("response_range", {}).get("kvs", ())
    return key_value(found[0]) if found else None


def event_of(item: Message) -> Event:
    """One event of a watch. etcd leaves `prev_kv` out when it has been compacted."""
    kv = key_value(item["kv"])
    prev = key_value(item["prev_kv"]) if "prev_kv" in item else None
    if item.get("type") == "DELETE":
        last = prev or kv
        return Event(True, KeyValue(kv.key, last.value, last.create_revision, kv.mod_revision), prev)
    return Event(False, kv, prev)
