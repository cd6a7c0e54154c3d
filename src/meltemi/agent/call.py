"""One unary gRPC call over TLS, to a server that proves a SPIFFE identity.

The agent calls the authority a few times a day, so each call has a connection of its own and leaves nothing behind.
The server is recognised by the URI in its certificate and the mesh's roots; its DNS name proves nothing here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import cast
from urllib.parse import unquote

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from meltemi.agent.framing import CONTENT_TYPE, OK, UNAVAILABLE, UNKNOWN, Deframer, MalformedError, frame
from meltemi.agent.spec import Address
from meltemi.base.spiffe import SpiffeId

_PIECE = 16 * 1024


class CallError(Exception):
    """A call that did not succeed, with gRPC's status code."""

    def __init__(self, message: str, status: int = UNAVAILABLE) -> None:
        super().__init__(message)
        self.status = status


class Target(msgspec.Struct, frozen=True):
    """A server: where it is, the name to ask for (SNI), the identity it must prove, and the roots (PEM) that vouch for it."""

    address: Address
    server_name: str
    identity: SpiffeId
    roots: bytes


async def unary(
    target: Target, path: str, message: bytes, metadata: Sequence[tuple[str, str]] = (), *, seconds: float = 10
) -> bytes:
    """Calls `/package.Service/Method` and returns the answer. Raises CallError, after `seconds` at the latest."""
    try:
        async with asyncio.timeout(seconds):
            return await _unary(target, path, message, metadata)
    except TimeoutError as error:
        raise CallError(f"{target.address} did not answer within {seconds:g} seconds") from error
    except ssl.SSLCertVerificationError as error:
        raise CallError(f"{target.address} is not vouched for by the mesh's roots: {error.verify_message}") from error
    except (OSError, ProtocolError, MalformedError) as error:
        raise CallError(f"cannot call {target.address}: {error}") from error


async def _unary(target: Target, path: str, message: bytes, metadata: Sequence[tuple[str, str]]) -> bytes:
    reader, writer = await asyncio.open_connection(
        target.address.host, target.address.port, ssl=client_context(target.roots), server_hostname=target.server_name
    )
    try:
        check_identity(writer.get_extra_info("ssl_object"), target)
        call = _Call(target, path, message, metadata)
        writer.write(call.h2.data_to_send())
        while not call.ended:
            data = await reader.read(_PIECE)
            if not data:
                raise CallError(f"{target.address} closed the connection")
            call.receive(data)
            writer.write(call.h2.data_to_send())
        return call.answer()
    finally:
        writer.transport.abort()


class _Call:
    """The HTTP/2 side of one call."""

    def __init__(self, target: Target, path: str, message: bytes, metadata: Sequence[tuple[str, str]]) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.ended = False
        self._deframer = Deframer()
        self._messages: list[bytes] = []
        self._headers: dict[str, str] = {}
        self.h2.initiate_connection()
        stream = self.h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "https"), (":authority", target.server_name), (":path", path)]
        self.h2.send_headers(stream, [*headers, ("te", "trailers"), CONTENT_TYPE, *metadata])
        data = frame(message)
        size = self.h2.max_outbound_frame_size
        if len(data) > self.h2.local_flow_control_window(stream):
            raise CallError("the request is too large for one flight")
        for start in range(0, len(data), size):
            self.h2.send_data(stream, data[start : start + size])
        self.h2.end_stream(stream)

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                self._headers |= dict(cast("list[tuple[str, str]]", event.headers))
            case DataReceived():
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self._messages += self._deframer.feed(event.data)
            case StreamEnded():
                self.ended = True
            case StreamReset():
                raise CallError(f"the server reset the call ({_code(event.error_code)})")
            case ConnectionTerminated():
                raise CallError(f"the server ended the connection ({_code(event.error_code)})")
            case _:
                pass

    def answer(self) -> bytes:
        """The one message of a call that succeeded. Raises CallError for any other."""
        status = self._headers.get("grpc-status", "")
        if status != str(OK):
            message = unquote(self._headers.get("grpc-message", "")) or f"HTTP {self._headers.get(':status')}"
            raise CallError(message, int(status) if status.isdecimal() else UNKNOWN)
        if len(self._messages) != 1:
            raise CallError(f"{len(self._messages)} messages came where one was due", UNKNOWN)
        return self._messages[0]


def _code(number: int | None) -> str:
    try:
        return ErrorCodes(number or 0).name
    except ValueError:
        return str(number)


def client_context(roots: bytes) -> ssl.SSLContext:
    """What a connection to a server of the mesh is made with: HTTP/2 over TLS, and roots (PEM). Raises CallError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # who the server is, is told by its SPIFFE id: see check_identity
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(cadata=roots.decode())
    except (ssl.SSLError, ValueError) as error:
        raise CallError("the mesh's roots cannot be read") from error
    return context


def check_identity(connection: ssl.SSLObject, target: Target) -> None:
    """Raises CallError if the server proved another identity than the target's."""
    certificate = connection.getpeercert() or {}
    names = cast("tuple[tuple[str, str], ...]", certificate.get("subjectAltName", ()))
    uris = [value for kind, value in names if kind == "URI"]
    if uris != [str(target.identity)]:
        raise CallError(f"{target.address} is {', '.join(uris) or 'nobody'} instead of {target.identity}")
