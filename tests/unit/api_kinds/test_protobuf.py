"""Protobuf bodies: an encoder written from the same numbers, laws over every kind, and what is refused."""

from __future__ import annotations

import base64
import datetime as dt
import json
import struct

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from podnet.controlplane.api import printers, resources
from podnet.controlplane.api.defaults import apply_defaults
from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.api.meta import deep_copy
from podnet.controlplane.api.protobuf import decode, is_protobuf
from podnet.controlplane.api.protobuf.schema import GROUPS, Field, message, message_of, messages
from podnet.controlplane.api.validation import validate_create, validate_update

KINDS = sorted({(resource.api_version, resource.kind) for resource in resources.RESOURCES})
MORE = [
    ("v1", "DeleteOptions"),
    ("policy/v1", "DeleteOptions"),
    ("policy/v1", "Eviction"),
    ("autoscaling/v1", "Scale"),
    ("authentication.k8s.io/v1", "TokenRequest"),
    ("meta.k8s.io/v1", "PatchOptions"),
    ("v1", "Binding"),
]


# --- an encoder: what Go's generated Marshal writes -----------------------------------------------------------------


def varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def lengthed(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode_value(field: Field, value: object) -> bytes:
    """One value with its tag."""
    number = field.number
    if field.type in {"int32", "int64", "bool"}:
        return varint(number << 3) + varint(int(value))
    if field.type == "double":
        return varint(number << 3 | 1) + struct.pack("<d", value)
    return lengthed(number, encode_bytes(field, value))


def encode_bytes(field: Field, value: object) -> bytes:
    match field.type:
        case "string":
            return value.encode()
        case "bytes":
            return base64.b64decode(value)
        case "Time" | "MicroTime":
            if not value:
                return b""
            moment = dt.datetime.fromisoformat(value)
            seconds = int(
                (moment.replace(microsecond=0) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(seconds=1)
            )
            return varint(1 << 3) + varint(seconds) + varint(2 << 3) + varint(moment.microsecond * 1000)
        case "Quantity":
            return lengthed(1, value.encode())
        case "IntOrString":
            text = isinstance(value, str)
            return (
                varint(1 << 3)
                + varint(int(text))
                + varint(2 << 3)
                + varint(0 if text else value)
                + lengthed(3, value.encode() if text else b"")
            )
        case "FieldsV1" | "RawExtension" | "JSON":
            return lengthed(1, json.dumps(value).encode())
        case "ExtraValue":
            return b"".join(lengthed(1, item.encode()) for item in value)
        case "SchemaOrBool":
            return (
                varint(1 << 3)
                + varint(value is not False)
                + (lengthed(2, encode_message(PROPS, value)) if isinstance(value, dict) else b"")
            )
        case "SchemaOrArray" | "SchemaOrStrings":
            if isinstance(value, dict):
                return lengthed(1, encode_message(PROPS, value))
            return b"".join(
                lengthed(2, item.encode() if isinstance(item, str) else encode_message(PROPS, item)) for item in value
            )
        case name:
            return encode_message(name, value)


PROPS = "apiextensions.v1.JSONSchemaProps"
ZERO = {
    "string": "",
    "int32": 0,
    "int64": 0,
    "bool": False,
    "bytes": "",
    "Time": None,
    "MicroTime": None,
    "double": 0.0,
}


def encode_message(name: str, obj: dict) -> bytes:
    """As Go does: fields by number, empty scalars that are no pointers written out."""
    out = b""
    for number, field in sorted(message(name).items()):
        value = obj.get(field.name)
        if field.inline:
            out += lengthed(number, encode_message(field.type, obj))
        elif field.is_map:
            for key, item in (value or {}).items():
                entry = Field("value", 2, field.type)
                out += lengthed(number, lengthed(1, key.encode()) + encode_value(entry, item))
        elif field.repeated:
            out += b"".join(encode_value(field, item) for item in value or ())
        elif value is not None:
            out += encode_value(field, value)
        elif not field.pointer and field.type in ZERO and field.type != "bytes":
            out += encode_value(field, ZERO[field.type])
    return out


def encode(api_version: str, kind: str, obj: dict) -> bytes:
    """The whole body."""
    name = message_of(api_version, kind)
    meta = lengthed(1, api_version.encode()) + lengthed(2, kind.encode())
    unknown = lengthed(1, meta) + lengthed(2, encode_message(name, obj)) + lengthed(3, b"") + lengthed(4, b"")
    return b"k8s\x00" + unknown


# --- objects of any kind ---------------------------------------------------------------------------------------------

TEXT = st.text(max_size=6)
JSON_OBJECT = st.dictionaries(
    st.text(min_size=1, max_size=4), st.integers(-5, 5) | TEXT | st.none(), min_size=1, max_size=2
)
MOMENT = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=st.just(dt.UTC))  # noqa: DTZ001 - bounds are naive
VALUES = {
    "string": TEXT,
    "bytes": st.binary(max_size=5).map(lambda data: base64.b64encode(data).decode()),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "double": st.integers(-9, 9) | st.floats(-9, 9, allow_nan=False).filter(lambda n: not float(n).is_integer()),
    "Time": MOMENT.map(lambda m: m.replace(microsecond=0).isoformat().replace("+00:00", "Z")),
    "MicroTime": MOMENT.map(lambda m: m.isoformat(timespec="microseconds").replace("+00:00", "Z")),
    "Quantity": st.sampled_from(["0", "100m", "1Gi", "1e3", "-5"]),
    "IntOrString": st.integers(-5, 2**31 - 1) | TEXT,
    "FieldsV1": JSON_OBJECT,
    "RawExtension": JSON_OBJECT,
    "JSON": JSON_OBJECT | st.integers() | TEXT | st.booleans() | st.lists(st.integers(), max_size=2),
    "ExtraValue": st.lists(TEXT, max_size=3),
}


@st.composite
def any_message(draw, name: str, depth: int = 0):
    """A message's JSON as Go would print it: struct fields by value are always there, empty scalars are not."""
    out = {}
    for field in message(name).values():
        if field.inline:
            out |= draw(any_message(field.type, depth))
            continue
        by_value = field.is_message and not (field.pointer or field.repeated or field.is_map)
        if not by_value and draw(st.integers(0, 2 + depth)):
            continue
        item = value_of(field, depth + 1)
        if item is None:
            continue
        if field.is_map:
            value = draw(st.dictionaries(TEXT, item, min_size=1, max_size=2))
        elif field.repeated:
            value = draw(st.lists(item, min_size=1, max_size=2))
        else:
            value = draw(item)
            if not field.pointer and not value and field.type in ZERO:
                continue
        out[field.name] = value
    return out


def value_of(field: Field, depth: int):
    if field.type in VALUES:
        return VALUES[field.type]
    if field.type in {"SchemaOrBool", "SchemaOrArray", "SchemaOrStrings"}:
        if depth > 4:
            return None
        schema = any_message(PROPS, depth)
        more = {
            "SchemaOrBool": st.booleans(),
            "SchemaOrArray": st.lists(schema, min_size=1, max_size=2),
            "SchemaOrStrings": st.lists(TEXT, min_size=1, max_size=2),
        }
        return schema | more[field.type]
    if depth > 6 and (field.pointer or field.repeated or field.is_map):
        return None
    return any_message(field.type, depth)


@pytest.mark.parametrize(("api_version", "kind"), KINDS + MORE, ids=lambda text: text)
def test_decode_undoes_encode_for_every_kind(api_version, kind):
    @settings(
        max_examples=6, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(any_message(message_of(api_version, kind)))
    def law(obj):
        assert decode(encode(api_version, kind, obj)) == {"kind": kind, "apiVersion": api_version, **obj}

    law()


@pytest.mark.parametrize("resource", resources.RESOURCES, ids=lambda r: f"{r.qualified_name}.{r.version}")
def test_any_object_is_defaulted_judged_and_printed(resource):
    """Objects of the right types but with any values: nothing raises, defaulting twice is defaulting once, what a table
    shows has one cell a column, and an update that changes nothing finds nothing that a create would not."""

    @settings(
        max_examples=8, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(any_message(message_of(resource.api_version, resource.kind)))
    def law(obj):
        once = apply_defaults(deep_copy(obj), resource)
        assert apply_defaults(deep_copy(once), resource) == once
        created = validate_create(once, resource)
        assert all(cause.reason.startswith("FieldValue") and cause.message for cause in created)
        if "update" in resource.verbs:
            assert set(validate_update(once, once, resource)) <= set(created)
        for name in resource.subresources:
            validate_update(once, once, resource, name)
        table = printers.table(resource, [once], now=1e9)
        assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])

    law()


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_a_bad_request(data):
    """Malformed input is refused with 400 or 415, never with another exception."""
    envelope = b"k8s\x00" + lengthed(1, lengthed(1, b"v1") + lengthed(2, b"Pod")) + lengthed(2, data)
    for body in (data, b"k8s\x00" + data, envelope):
        try:
            kind, code = decode(body)["kind"], 0
        except StatusError as error:
            kind, code = "", error.code
        assert kind or code in {400, 415}


# --- the rules, one by one -------------------------------------------------------------------------------------------


def pod(spec: dict) -> dict:
    return decode(encode("v1", "Pod", {"metadata": {"name": "a"}, "spec": spec, "status": {}}))["spec"]


def test_every_type_that_is_named_is_there():
    for name in messages():
        for field in message(name).values():
            if field.is_message:
                assert message(field.type) is not None


def test_every_group_has_its_kinds():
    assert {message_of(v, k) for v, k in KINDS} <= set(messages())
    assert set(GROUPS) >= {resource.api_version for resource in resources.RESOURCES}


def test_empty_scalars_are_unset_but_pointers_are_not():
    deployment = {
        "metadata": {"name": "a"},
        "spec": {"replicas": 0, "template": {"metadata": {}, "spec": {}}, "strategy": {}},
        "status": {},
    }
    body = encode("apps/v1", "Deployment", deployment)
    decoded = decode(body)
    assert decoded["metadata"] == {"name": "a"}
    assert decoded["spec"]["replicas"] == 0
    assert "revisionHistoryLimit" not in decoded["spec"]
    assert decoded["spec"]["strategy"] == {}


def test_empty_storage_class_name_is_kept():
    claim = {"metadata": {}, "spec": {"storageClassName": "", "resources": {}}, "status": {}}
    assert decode(encode("v1", "PersistentVolumeClaim", claim))["spec"]["storageClassName"] == ""


def test_empty_items_of_lists_and_maps_are_kept():
    spec = pod({"containers": [{"name": "c", "args": ["", "x", ""], "resources": {}}], "nodeSelector": {"a": ""}})
    assert spec["containers"][0]["args"] == ["", "x", ""]
    assert spec["nodeSelector"] == {"a": ""}


def test_inlined_messages_stand_in_their_parent():
    spec = pod({
        "volumes": [{"name": "v", "configMap": {"name": "cm", "optional": False}}],
        "containers": [{"name": "c", "resources": {}, "livenessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 5}}],
    })  # fmt: skip
    assert spec["volumes"] == [{"name": "v", "configMap": {"name": "cm", "optional": False}}]
    assert spec["containers"][0]["livenessProbe"] == {"tcpSocket": {"port": 80}, "periodSeconds": 5}


def test_unknown_fields_are_skipped():
    body = encode("v1", "Namespace", {"metadata": {"name": "a"}, "spec": {}, "status": {}})
    raw = lengthed(99, b"new") + varint(98 << 3) + varint(7) + varint(97 << 3 | 5) + b"1234"
    meta = lengthed(1, b"v1") + lengthed(2, b"Namespace")
    assert decode(b"k8s\x00" + lengthed(1, meta) + lengthed(2, raw))["kind"] == "Namespace"
    assert decode(body)["metadata"] == {"name": "a"}


def test_packed_numbers_are_read():
    rule = message("batch.v1.PodFailurePolicyOnExitCodesRequirement")
    number = next(n for n, field in rule.items() if field.name == "values")
    from podnet.controlplane.api.protobuf.decode import decode_message

    assert decode_message(
        "batch.v1.PodFailurePolicyOnExitCodesRequirement", lengthed(number, varint(1) + varint(300)), 0
    ) == {"values": [1, 300]}


REFUSED = {
    "no-magic": (b"{}", 400, "provided data does not appear to be a protobuf message"),
    "empty": (b"", 400, "provided data does not appear to be a protobuf message"),
    "unknown-kind": (b"k8s\x00" + lengthed(1, lengthed(1, b"v1") + lengthed(2, b"Pot")), 400, 'no kind "Pot" is registered for version "v1"'),
    "unknown-version": (b"k8s\x00" + lengthed(1, lengthed(1, b"v9") + lengthed(2, b"Pod")), 400, 'for version "v9"'),
    "cut-off": (encode("v1", "Pod", {"metadata": {"name": "abc"}})[:-9], 400, "not a valid protobuf message"),
    "encoded": (b"k8s\x00" + lengthed(1, lengthed(1, b"v1") + lengthed(2, b"Pod")) + lengthed(3, b"gzip"), 415, "content encoding"),
    "bad-wire-type": (b"k8s\x00" + b"\x0b", 400, "illegal wire type 3"),
    "tag-zero": (b"k8s\x00" + b"\x00\x00", 400, "illegal tag 0"),
    "endless-varint": (b"k8s\x00" + b"\xff" * 12, 400, "varint is longer"),
    "bad-utf8": (b"k8s\x00" + lengthed(1, lengthed(1, b"\xff") + lengthed(2, b"Pod")), 400, "not a valid protobuf message"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_refusals(case):
    body, code, message_ = case
    with pytest.raises(StatusError) as caught:
        decode(body)
    assert caught.value.code == code
    assert message_ in caught.value.message


def test_deep_nesting_is_refused():
    data = b""
    for _ in range(200):
        data = lengthed(26, data)  # allOf
    from podnet.controlplane.api.protobuf.decode import decode_message
    from podnet.controlplane.api.protobuf.wire import WireError

    with pytest.raises(WireError, match="nested too deeply"):
        decode_message("apiextensions.v1.JSONSchemaProps", data, 0)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/vnd.kubernetes.protobuf", True),
        ("application/vnd.kubernetes.protobuf; charset=x", True),
        ("Application/VND.kubernetes.protobuf", True),
        ("application/json", False),
        ("", False),
        ("application/vnd.kubernetes.protobuf;type=watch", True),
    ],
)
def test_is_protobuf(content_type, expected):
    assert is_protobuf(content_type) is expected
