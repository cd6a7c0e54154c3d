"""Merging a patch into a message, as Istio does: protobuf's merge, but a duration is replaced as a whole.

protobuf merges the seconds and the nanoseconds of a duration each for itself, and a zero changes nothing: 1.5s merged
with 2s would be 2.5s. Repeated fields are appended to, entries of maps are replaced, and so is what is in an Any; only
the configurations of filters and transport sockets are opened, where both are of one type.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from meltemi.protos import any_of, unpack

_WHOLE = frozenset({"google.protobuf.Duration", "google.protobuf.Any"})


def merge(into: Message, patch: Message) -> None:
    """Merge `patch` into `into`, which must be of the same type."""
    for field, value in patch.ListFields():
        if field.is_repeated:
            alone: Any = type(patch)()
            _copy_repeated(alone, patch, field)
            into.MergeFrom(alone)
        elif field.message_type is None:
            setattr(into, field.name, value)
        else:
            inner: Message = getattr(into, field.name)
            inner.SetInParent()
            if field.message_type.full_name in _WHOLE:
                inner.CopyFrom(value)
            else:
                merge(inner, value)


def _copy_repeated(into: Any, source: Message, field: FieldDescriptor) -> None:
    getattr(into, field.name).MergeFrom(getattr(source, field.name))


def merge_packed(into: Any, patch: Any) -> bool:
    """Merge what is in one `google.protobuf.Any` into what is in another. False, and no change, if types differ."""
    if into.type_url != patch.type_url:
        return False
    try:
        message, change = unpack(into), unpack(patch)
    except (KeyError, DecodeError):
        return False
    merge(message, change)
    into.CopyFrom(any_of(message))
    return True


def merge_configured(into: Any, patch: Any) -> bool:
    """Merge a filter (or whatever has a name and a `typed_config`) into another; whether they fit together.

    A patch may rename a filter, or change its configuration, or both.
    """
    if not into.HasField("typed_config"):
        return False
    if patch.HasField("typed_config") and not merge_packed(into.typed_config, patch.typed_config):
        return False
    if patch.name:
        into.name = patch.name
    return True


def merge_with_socket(into: Any, patch: Any) -> None:
    """Merge a cluster or a filter chain; a transport socket of the same name is merged with, not replaced."""
    if into.HasField("transport_socket") and patch.HasField("transport_socket"):
        rest = type(patch)()
        rest.CopyFrom(patch)
        if patch.transport_socket.name == into.transport_socket.name and merge_configured(
            into.transport_socket, patch.transport_socket
        ):
            rest.ClearField("transport_socket")
        merge(into, rest)
    else:
        merge(into, patch)
