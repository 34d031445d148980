"""etcd's messages: ranges of prefixes, and what answers become."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.controlplane.store import etcd_messages as messages
from podnet.controlplane.store.types import Event, KeyValue

KEYS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@given(KEYS.filter(bool), KEYS)
def test_the_range_of_a_prefix_holds_exactly_the_keys_that_begin_with_it(prefix: str, key: str) -> None:
    within = prefix.encode() <= key.encode() < messages.prefix_end(prefix)
    assert within == key.startswith(prefix)


def test_the_empty_prefix_is_everything() -> None:
    request = messages.range_request("", "", 0, 7)
    assert (request["key"], request["range_end"], request["revision"]) == ("AA==", "AA==", "7")


@pytest.mark.parametrize(
    ("start", "first"), [("", "/a/"), ("/a/m", "/a/m"), ("/A", "/a/")], ids=["none", "within", "before"]
)
def test_a_range_begins_at_start_but_not_before_its_prefix(start: str, first: str) -> None:
    assert base64.b64decode(messages.range_request("/a/", start, 0, 0)["key"]).decode() == first


def item(key: str, value: str, create: int, mod: int) -> dict[str, str]:
    return {"key": b64(key), "value": b64(value), "create_revision": str(create), "mod_revision": str(mod)}


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"kv": item("/a", "1", 2, 2)}, Event(False, KeyValue("/a", b"1", 2, 2), None)),
        (
            {"kv": item("/a", "2", 2, 3), "prev_kv": item("/a", "1", 2, 2)},
            Event(False, KeyValue("/a", b"2", 2, 3), KeyValue("/a", b"1", 2, 2)),
        ),
        (
            {"type": "DELETE", "kv": {"key": b64("/a"), "mod_revision": "4"}, "prev_kv": item("/a", "2", 2, 3)},
            Event(True, KeyValue("/a", b"2", 2, 4), KeyValue("/a", b"2", 2, 3)),
        ),
        (
            {"type": "DELETE", "kv": {"key": b64("/a"), "mod_revision": "4"}},
            Event(True, KeyValue("/a", b"", 0, 4), None),
        ),
    ],
    ids=["created", "updated", "deleted", "deleted-and-compacted"],
)
def test_events(message: dict[str, object], event: Event) -> None:
    assert messages.event_of(message) == event


@given(st.binary(max_size=64), st.integers(1, 2**63 - 1))
def test_an_update_says_its_condition(value: bytes, revision: int) -> None:
    transaction = messages.update_txn("/k", value, revision)
    assert transaction["compare"][1] == {
        "key": b64("/k"),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": str(revision),
    }
    assert base64.b64decode(transaction["success"][0]["request_put"]["value"]) == value
