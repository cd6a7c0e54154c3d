"""Serves streaming gRPC methods on a unix socket, with callbacks instead of coroutines.

Envoy opens a stream per secret and keeps it for its whole life; there is nothing to await on the agent's side but the
next message or the next rotation. So a method is a factory: it gets the `Stream` to answer on and returns a `Receiver`.
Invariant: what a stream sends is queued until HTTP/2's flow control lets it go, and a peer's fault ends its connection only.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from meltemi.agent.framing import CONTENT_TYPE, INVALID_ARGUMENT, OK, UNIMPLEMENTED, Deframer, MalformedError, frame
from meltemi.agent.sockets import listen_privately

log = logging.getLogger(__name__)

_MAX_STREAMS = 256


class Receiver(Protocol):
    """What is at the agent's end of a stream."""

    def received(self, message: bytes) -> None:
        """The peer sent a message. May raise MalformedError, which ends the stream."""

    def closed(self) -> None:
        """The stream has ended, for whatever reason."""


Method = Callable[["Stream"], Receiver]


class Stream:
    """One open call, to be answered with any number of messages."""

    __slots__ = ("_connection", "_deframer", "_pending", "id", "receiver")

    def __init__(self, connection: Connection, number: int) -> None:
        self.id = number
        self.receiver: Receiver | None = None
        self._connection = connection
        self._deframer = Deframer()
        self._pending: deque[bytes] = deque()

    def send(self, message: bytes) -> None:
        """Sends a message, as soon as flow control allows."""
        self._pending.append(frame(message))
        self._connection.flush()

    def feed(self, data: bytes) -> None:
        """Hands the messages in a piece of data to the receiver. Raises MalformedError."""
        for message in self._deframer.feed(data):
            if self.receiver is not None:
                self.receiver.received(message)

    def write_to(self, h2: H2Connection) -> None:
        """Gives as much as may be sent now to HTTP/2."""
        while self._pending:
            room = min(h2.local_flow_control_window(self.id), h2.max_outbound_frame_size)
            if room <= 0:
                return
            data = self._pending.popleft()
            if len(data) > room:
                self._pending.appendleft(data[room:])
                data = data[:room]
            h2.send_data(self.id, data)


class Connection(asyncio.Protocol):
    """One HTTP/2 connection with prior knowledge, and its streams."""

    def __init__(self, methods: Mapping[str, Method], connections: set[Connection]) -> None:
        self._methods = methods
        self._connections = connections
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._streams: dict[int, Stream] = {}
        self._transport: asyncio.Transport | None = None
        self._handling = False

    def __repr__(self) -> str:
        return f"<Connection with {len(self._streams)} streams>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's callback."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._h2.local_settings.max_concurrent_streams = _MAX_STREAMS
        self._h2.initiate_connection()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's callback."""
        self._transport = None
        self._connections.discard(self)
        for number in list(self._streams):
            self._forget(number)

    def data_received(self, data: bytes) -> None:
        """asyncio's callback."""
        self._handling = True
        try:
            for event in self._h2.receive_data(data):
                self._handle(event)
        except ProtocolError as error:
            log.info("a peer broke HTTP/2: %s", error)
            self._handling = False
            self.close()
            return
        self._handling = False
        self.flush()

    def flush(self) -> None:
        """Writes what is due on all streams."""
        if self._transport is None or self._handling:
            return
        for stream in self._streams.values():
            stream.write_to(self._h2)
        if data := self._h2.data_to_send():
            self._transport.write(data)

    def close(self) -> None:
        """Ends the connection; Envoy comes back with a new one."""
        if self._transport is not None:
            self._transport.write(self._h2.data_to_send())
            self._transport.close()

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._open(event.stream_id, dict(cast("list[tuple[str, str]]", event.headers)))
            case DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self._deliver(event.stream_id, event.data)
            case StreamEnded():
                if event.stream_id in self._streams:
                    self._end(event.stream_id, OK, "")
            case StreamReset():
                self._forget(event.stream_id)
            case WindowUpdated() | RemoteSettingsChanged():
                pass  # the flush that follows every batch of events sends what has now become possible
            case _:
                pass

    def _open(self, number: int, headers: Mapping[str, str]) -> None:
        method = self._methods.get(headers.get(":path", ""))
        if method is None:
            self._refuse(number, UNIMPLEMENTED, "there is no such method here")
            return
        self._h2.send_headers(number, [(":status", "200"), CONTENT_TYPE])
        stream = self._streams[number] = Stream(self, number)
        stream.receiver = method(stream)

    def _deliver(self, number: int, data: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        try:
            stream.feed(data)
        except MalformedError as error:
            self._end(number, INVALID_ARGUMENT, str(error))

    def _end(self, number: int, status: int, message: str) -> None:
        self._streams[number].write_to(self._h2)
        self._forget(number)
        trailers = [("grpc-status", str(status)), ("grpc-message", message)]
        self._h2.send_headers(number, trailers, end_stream=True)

    def _refuse(self, number: int, status: int, message: str) -> None:
        headers = [(":status", "200"), CONTENT_TYPE, ("grpc-status", str(status)), ("grpc-message", message)]
        self._h2.send_headers(number, headers, end_stream=True)

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None and stream.receiver is not None:
            stream.receiver.closed()


class GrpcServer:
    """Serves methods (`/package.Service/Method`) on a unix socket that only its owner can reach."""

    def __init__(self, server: asyncio.AbstractServer, connections: set[Connection]) -> None:
        self._server = server
        self._connections = connections

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._connections)

    async def aclose(self) -> None:
        """Stops listening and ends all connections."""
        self._server.close()
        for connection in list(self._connections):
            connection.close()
        await self._server.wait_closed()


async def serve(path: Path, methods: Mapping[str, Method]) -> GrpcServer:
    """Listens on a unix socket at `path`, in place of one that an earlier process left. Raises OSError."""
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Connection(methods, connections), sock=listen_privately(path))
    return GrpcServer(server, connections)
