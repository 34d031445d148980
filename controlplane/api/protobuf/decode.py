"""Decode `application/vnd.kubernetes.protobuf` into the JSON form of an object.

The envelope::

    6b 38 73 00 | runtime.Unknown { 1 typeMeta {1 apiVersion, 2 kind}, 2 raw, 3 contentEncoding, 4 contentType }

Rule: the result is what Go's JSON of the same object would be. Go writes every non-pointer scalar even when it is empty
(`uid: ""`, `nodePort: 0`), so an empty scalar counts as unset unless its Go field is a pointer; a message that Go keeps by
value is always there (`status: {}`). Unknown fields are skipped, as Go skips them: a newer client is no error.
Source: k8s.io/apimachinery runtime/serializer/protobuf, protobuf.dev "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from podnet.controlplane.api import errors
from podnet.controlplane.api.protobuf import special
from podnet.controlplane.api.protobuf.schema import Field, message, message_of
from podnet.controlplane.api.protobuf.wire import WireError, read_fields
from podnet.controlplane.api.types import Object

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\x00"
_DEPTH_MAX = 64


def is_protobuf(content_type: str) -> bool:
    """Whether a Content-Type header names this encoding (its parameters do not matter)."""
    return content_type.partition(";")[0].strip().lower() == CONTENT_TYPE


def decode(body: bytes) -> Object:
    """The object a protobuf body carries, with `apiVersion` and `kind`. Raises StatusError 400 or 415."""
    if not body.startswith(_MAGIC):
        raise errors.bad_request(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    try:
        api_version, kind, raw, encoding = _envelope(body[len(_MAGIC) :])
        if encoding:
            raise errors.unsupported_media_type(f'the content encoding "{encoding}" of the message is not supported')
        name = message_of(api_version, kind)
        if name is None:
            raise errors.bad_request(
                f'no kind "{kind}" is registered for version "{api_version}" in the protobuf scheme'
            )
        fields = decode_message(name, raw, 0)
    except (WireError, UnicodeDecodeError, ValueError) as error:
        raise errors.bad_request(f"the object provided is not a valid protobuf message: {error}") from error
    return {"kind": kind, "apiVersion": api_version, **fields}


def _envelope(data: bytes) -> tuple[str, str, bytes, str]:
    api_version = kind = encoding = ""
    raw = b""
    for number, value in read_fields(data):
        if number == 1 and isinstance(value, bytes):
            for inner, text in read_fields(value):
                if isinstance(text, bytes):
                    api_version = text.decode() if inner == 1 else api_version
                    kind = text.decode() if inner == 2 else kind
        elif number == 2 and isinstance(value, bytes):
            raw = value
        elif number == 3 and isinstance(value, bytes):
            encoding = value.decode()
    return api_version, kind, raw, encoding


def decode_message(name: str, data: bytes, depth: int) -> dict[str, Any]:
    """One message as the dict of its JSON fields."""
    if depth > _DEPTH_MAX:
        raise WireError("messages are nested too deeply")
    table = message(name)
    out: dict[str, Any] = {}
    for number, value in read_fields(data):
        field = table.get(number)
        if field is None:
            continue
        if field.is_map:
            key, entry = _map_entry(field, value, depth)
            out.setdefault(field.name, {})[key] = entry
        elif field.repeated:
            _append(out, field, value, depth)
        elif field.inline:
            out.update(_value(field, value, depth))
        else:
            decoded = _value(field, value, depth)
            if field.pointer or not _is_unset(field, decoded):
                out[field.name] = decoded
    return out


def _append(out: dict[str, Any], field: Field, value: int | bytes, depth: int) -> None:
    items = out.setdefault(field.name, [])
    if isinstance(value, bytes) and field.type in _PACKABLE:
        items.extend(_SCALARS[field.type](number) for number in special.packed(value))
    else:
        items.append(_value(field, value, depth))


def _is_unset(field: Field, decoded: Any) -> bool:
    """An empty value of a field that is not a pointer: a scalar Go had to write, or a zero time."""
    if decoded is None:
        return True
    return not decoded and not field.is_message and field.type != "IntOrString"


def _map_entry(field: Field, value: int | bytes, depth: int) -> tuple[str, Any]:
    if not isinstance(value, bytes):
        raise WireError(f"field {field.name} is not a map entry")
    key = ""
    raw: int | bytes = b"" if field.type not in _PACKABLE else 0
    for number, part in read_fields(value):
        if number == 1 and isinstance(part, bytes):
            key = part.decode()
        elif number == 2:
            raw = part
    return key, _value(field, raw, depth)


def _value(field: Field, value: int | bytes, depth: int) -> Any:
    scalar = _SCALARS.get(field.type)
    if scalar is not None:
        if isinstance(value, bytes) == (field.type in _PACKABLE):
            raise WireError(f"field {field.name} has the wrong wire type")
        return scalar(value)
    if not isinstance(value, bytes):
        raise WireError(f"field {field.name} has the wrong wire type")
    reader = special.READERS.get(field.type)
    if reader is not None:
        return reader(value)
    union = _UNIONS.get(field.type)
    if union is not None:
        return union(value, depth + 1)
    return decode_message(field.type, value, depth + 1)


def _schema_or_bool(data: bytes, depth: int) -> Any:
    """JSONSchemaPropsOrBool {1 allows, 2 schema}: the schema when there is one, else the boolean."""
    fields = dict(read_fields(data))
    schema = fields.get(2)
    return decode_message(_PROPS, schema, depth) if isinstance(schema, bytes) else bool(fields.get(1))


def _schema_or_list(data: bytes, depth: int) -> Any:
    """JSONSchemaPropsOrArray {1 schema, 2 JSONSchemas*} and …OrStringArray {1 schema, 2 property*}."""
    schema, items = None, []
    for number, value in read_fields(data):
        if number == 1 and isinstance(value, bytes):
            schema = decode_message(_PROPS, value, depth)
        elif isinstance(value, bytes):
            items.append(value)
    return schema, items


def _schema_or_array(data: bytes, depth: int) -> Any:
    schema, items = _schema_or_list(data, depth)
    return [decode_message(_PROPS, item, depth) for item in items] if items else schema


def _schema_or_strings(data: bytes, depth: int) -> Any:
    schema, items = _schema_or_list(data, depth)
    return [item.decode() for item in items] if items else schema


def _double(value: Any) -> float | int:
    number = struct.unpack("<d", struct.pack("<Q", value))[0]
    return int(number) if float(number).is_integer() else float(number)


_PROPS = "apiextensions.v1.JSONSchemaProps"
_PACKABLE = frozenset({"int32", "int64", "bool", "double"})
_SCALARS: dict[str, Callable[[Any], Any]] = {
    "string": lambda value: value.decode(),
    "bytes": special.base64_text,
    "int32": special.signed32,
    "int64": special.signed64,
    "bool": bool,
    "double": _double,
}
_UNIONS: dict[str, Callable[[bytes, int], Any]] = {
    "SchemaOrBool": _schema_or_bool,
    "SchemaOrArray": _schema_or_array,
    "SchemaOrStrings": _schema_or_strings,
}
