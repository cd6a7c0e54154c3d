"""Merging a patch into a message, as Istio does: protobuf's merge, but a duration is replaced as a whole.

protobuf merges the seconds and the nanoseconds of a duration each for itself, and a zero changes nothing: 1.5s merged
with 2s would be 2.5s. Repeated fields are appended to, entries of maps are replaced, and so is what is in an Any.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

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
