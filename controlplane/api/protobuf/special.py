"""The messages whose JSON is not an object: times, quantities, int-or-string, raw JSON.

Source: apimachinery meta/v1 time_proto.go and micro_time_proto.go, api/resource, util/intstr.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable
from typing import Any

from podnet.controlplane.api.protobuf.wire import WireError, read_fields, read_varint

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def signed64(value: int) -> int:
    """A varint as Go's int64."""
    return value - (1 << 64) if value >= 1 << 63 else value


def signed32(value: int) -> int:
    """A varint as Go's int32 (negative numbers are sign-extended to 64 bits on the wire)."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def base64_text(value: bytes) -> str:
    """Bytes as JSON carries them."""
    return base64.b64encode(value).decode("ascii")


def packed(data: bytes) -> list[int]:
    """A packed run of varints (Go's generators write them one by one; others may pack)."""
    numbers, at = [], 0
    while at < len(data):
        number, at = read_varint(data, at)
        numbers.append(number)
    return numbers


def _numbers(data: bytes) -> dict[int, int]:
    return {number: value for number, value in read_fields(data) if isinstance(value, int)}


def _moment(data: bytes) -> tuple[dt.datetime, int] | None:
    """The seconds and nanoseconds of a Timestamp; None for Go's zero time, which is an empty message."""
    fields = _numbers(data)
    if not fields:
        return None
    try:
        moment = _EPOCH + dt.timedelta(seconds=signed64(fields.get(1, 0)))
    except OverflowError:
        raise WireError("a time lies outside the years 1 to 9999") from None
    return moment, signed32(fields.get(2, 0))


def _time(data: bytes) -> str | None:
    moment = _moment(data)
    return None if moment is None else f"{moment[0]:%Y-%m-%dT%H:%M:%SZ}".rjust(20, "0")


def _micro_time(data: bytes) -> str | None:
    moment = _moment(data)
    return None if moment is None else f"{moment[0]:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + f".{moment[1] // 1000:06d}Z"


def _quantity(data: bytes) -> str:
    """Quantity {1 string}; Go's zero Quantity is "0"."""
    for number, value in read_fields(data):
        if number == 1 and isinstance(value, bytes):
            return value.decode() or "0"
    return "0"


def _int_or_string(data: bytes) -> int | str:
    """IntOrString {1 type (0 int, 1 string), 2 intVal, 3 strVal}."""
    kind, number, text = 0, 0, ""
    for field, value in read_fields(data):
        if field == 3 and isinstance(value, bytes):
            text = value.decode()
        elif isinstance(value, int):
            kind = value if field == 1 else kind
            number = signed32(value) if field == 2 else number
    return text if kind == 1 else number


def _raw_json(data: bytes) -> Any:
    """RawExtension, FieldsV1 and JSON {1 raw}: the bytes are JSON already."""
    for number, value in read_fields(data):
        if number == 1 and isinstance(value, bytes) and value:
            return json.loads(value)
    return None


def _extra_value(data: bytes) -> list[str]:
    """ExtraValue {1 items*}: a list of strings that protobuf could not put into a map."""
    return [value.decode() for number, value in read_fields(data) if number == 1 and isinstance(value, bytes)]


READERS: dict[str, Callable[[bytes], Any]] = {
    "Time": _time,
    "MicroTime": _micro_time,
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    "RawExtension": _raw_json,
    "FieldsV1": _raw_json,
    "JSON": _raw_json,
    "ExtraValue": _extra_value,
}
