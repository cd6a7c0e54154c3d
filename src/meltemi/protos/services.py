"""gRPC services without generated stubs: paths, message classes and handlers from the descriptors.

`handler` makes what a `grpc.aio.Server` takes, `Method.on` what a client calls. Invariant: how a method is called
(unary or streaming, each side) is read from its descriptor, never repeated by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import grpc
import grpc.aio
import msgspec
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from meltemi.protos.archive import pool


class Method(msgspec.Struct, frozen=True):
    """One method of a service: `path` is `/package.Service/Method`."""

    path: str
    request: type[Message]
    response: type[Message]
    streams_requests: bool = False
    streams_responses: bool = False

    @property
    def service(self) -> str:
        """The full name of the service."""
        return self.path.split("/")[1]

    @property
    def name(self) -> str:
        """The name of the method within its service."""
        return self.path.split("/")[2]

    @property
    def kind(self) -> str:
        """gRPC's word for how it is called: `unary_unary`, `unary_stream`, `stream_unary` or `stream_stream`."""
        return f"{_STREAM[self.streams_requests]}_{_STREAM[self.streams_responses]}"

    def on(self, channel: grpc.aio.Channel, *, raw: bool = False) -> Callable[..., Any]:
        """The multi-callable of this method on a channel; with `raw`, requests and responses are bytes."""
        serialise, parse = (None, None) if raw else (self.request.SerializeToString, self.response.FromString)
        multicallable: Callable[..., Any] = getattr(channel, self.kind)(
            self.path, request_serializer=serialise, response_deserializer=parse
        )
        return multicallable


_STREAM = {False: "unary", True: "stream"}


def method(service: str, name: str) -> Method:
    """A method by the full name of its service and its own. KeyError if there is none such."""
    return _method(pool.FindServiceByName(service).methods_by_name[name])


def methods(service: str) -> tuple[Method, ...]:
    """All methods of a service. KeyError if there is no such service."""
    return tuple(map(_method, pool.FindServiceByName(service).methods))


def _method(found: MethodDescriptor) -> Method:
    return Method(
        path=f"/{found.containing_service.full_name}/{found.name}",
        request=GetMessageClass(found.input_type),
        response=GetMessageClass(found.output_type),
        streams_requests=found.client_streaming,
        streams_responses=found.server_streaming,
    )


def handler(
    service: str, behaviours: Mapping[str, Callable[..., Any]], *, raw_responses: Collection[str] = ()
) -> grpc.GenericRpcHandler:
    """Serves methods of a service: method name -> what a servicer's method of that name would be.

    Those named in `raw_responses` give bytes that are finished already. KeyError if a method does not exist; methods
    without a behaviour are answered UNIMPLEMENTED by gRPC.
    """
    handlers = {}
    for name, behaviour in behaviours.items():
        served = method(service, name)
        serialise = None if name in raw_responses else served.response.SerializeToString
        make = getattr(grpc, f"{served.kind}_rpc_method_handler")
        handlers[name] = make(behaviour, request_deserializer=served.request.FromString, response_serializer=serialise)
    return grpc.method_handlers_generic_handler(service, handlers)
