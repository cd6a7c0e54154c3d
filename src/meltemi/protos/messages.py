"""Everyday work with messages of the private pool: packing into Any, type URLs, and JSON in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar
from typing import Any as AnyValue

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from meltemi.protos.archive import pool

if TYPE_CHECKING:
    from meltemi.protos.google.protobuf.any_pb2 import Any

M = TypeVar("M", bound=Message)

TYPE_PREFIX = "type.googleapis.com/"


def type_url(message: Message | type[Message]) -> str:
    """The type URL of a message or message class, `type.googleapis.com/envoy.config.cluster.v3.Cluster`."""
    return TYPE_PREFIX + message.DESCRIPTOR.full_name


def message_class(name: str) -> type[Message]:
    """The class of a full name or type URL. KeyError if Envoy's API has no such message."""
    return GetMessageClass(pool.FindMessageTypeByName(name.rpartition("/")[2]))


def any_of(message: Message) -> Any:
    """The message in a `google.protobuf.Any`. Equal messages give equal bytes."""
    from meltemi.protos.google.protobuf.any_pb2 import Any

    return Any(type_url=type_url(message), value=message.SerializeToString(deterministic=True))


def unpack(packed: Any) -> Message:
    """The message in an Any, in the class that its type URL names. KeyError if there is none such.

    protobuf's DecodeError says that the bytes are not such a message.
    """
    return message_class(packed.type_url).FromString(packed.value)


def to_dict(message: Message) -> dict[str, AnyValue]:
    """The message as JSON values (proto3 JSON), fields named as in Envoy's documentation (`connect_timeout`)."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=pool)


def from_dict(cls: type[M], data: Mapping[str, AnyValue]) -> M:
    """A message from JSON values; both `connect_timeout` and `connectTimeout` are understood.

    `google.protobuf.json_format.ParseError` names the field that is unknown or ill-typed.
    """
    message = cls()
    json_format.ParseDict(dict(data), message, descriptor_pool=pool)
    return message
