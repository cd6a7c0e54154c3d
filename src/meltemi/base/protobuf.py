"""The protobuf encoding, for the handful of messages that are read and written without the protobuf library.

The library and the descriptors of Envoy's API are too large for what runs beside every proxy, and Istio's own messages are
not among them. Whoever uses these functions names the message and its fields' numbers. Source: the protobuf encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


class WireError(Exception):
    """The bytes are not a protobuf message."""


def number(field: int, value: int) -> bytes:
    """A field that is a number of zero or more; absent if zero."""
    return _varint(field << 3 | _VARINT) + _varint(value) if value else b""


def data(field: int, value: bytes | str) -> bytes:
    """A field that is a message, a string or bytes; present even if empty."""
    encoded = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | _BYTES) + _varint(len(encoded)) + encoded


def text(field: int, value: str) -> bytes:
    """A field that is a string; absent if empty."""
    return data(field, value) if value else b""


def double(field: int, value: float) -> bytes:
    """A field that is a floating-point number; present even if zero."""
    return _varint(field << 3 | _FIXED64) + struct.pack("<d", value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def parse(message: bytes) -> dict[int, list[bytes]]:
    """The fields that are messages, strings or bytes, by number, in order; others are skipped. Raises WireError."""
    fields: dict[int, list[bytes]] = {}
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & 7
        if kind == _BYTES:
            size, at = _read_varint(message, at)
            if at + size > len(message):
                raise WireError("a field is longer than its message")
            fields.setdefault(key >> 3, []).append(message[at : at + size])
            at += size
        elif kind == _VARINT:
            _, at = _read_varint(message, at)
        elif kind in _WIDTHS:
            at += _WIDTHS[kind]
        else:
            raise WireError(f"there is no wire type {kind}")
    return fields


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if at >= len(message):
            raise WireError("a number is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise WireError("a number is too long")


def string(fields: Mapping[int, list[bytes]], field: int) -> str:
    """A field that is a string; empty if absent. Raises WireError."""
    return _decoded(fields[field][-1]) if field in fields else ""


def strings(fields: Mapping[int, list[bytes]], field: int) -> tuple[str, ...]:
    """A repeated field of strings. Raises WireError."""
    return tuple(map(_decoded, fields.get(field, ())))


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise WireError("a string is not UTF-8") from error
