"""The server's HTTP/2 (RFC 9113), and gRPC on top of it.

gRPC here is what its wire format says (length-prefixed messages, status in the trailers), without the library: a server
that starts at once. Methods: `/echo/unary`, `/echo/server`, `/echo/client`, `/echo/bidi`; a message is any text.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from meltemi.testing.echo.answering import Register, Request
from meltemi.testing.echo.http1 import joined
from meltemi.testing.echo.streams import Connection

_PREFIX = struct.Struct("!BI")
_FRAMES = 1 << 14
_MANY = 3


class Stream:
    """One request: its headers, and its body as it comes."""

    def __init__(self, number: int, headers: dict[str, str]) -> None:
        self.number = number
        self.headers = headers
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    def feed(self, data: bytes | None) -> None:
        """A piece of the body; None for its end."""
        self._pieces.put_nowait(data)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body."""
        while (piece := await self._pieces.get()) is not None:
            yield piece

    async def messages(self) -> AsyncIterator[str]:
        """The body as gRPC messages."""
        buffer = b""
        async for piece in self.pieces():
            buffer += piece
            while len(buffer) >= _PREFIX.size:
                _, length = _PREFIX.unpack_from(buffer)
                end = _PREFIX.size + length
                if len(buffer) < end:
                    break
                yield buffer[_PREFIX.size : end].decode()
                buffer = buffer[end:]


class Session:
    """One HTTP/2 connection."""

    def __init__(self, connection: Connection, register: Register) -> None:
        self._connection = connection
        self._register = register
        self._protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._window_opened = asyncio.Event()

    async def run(self) -> None:
        """Serves until the client ends the connection."""
        self._protocol.initiate_connection()
        await self._flush()
        try:
            while data := await self._connection.read():
                for event in self._protocol.receive_data(data):
                    self._handle(event)
                await self._flush()
        except h2.exceptions.ProtocolError:
            await self._flush()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                stream = Stream(event.stream_id or 0, joined(event.headers))
                self._streams[stream.number] = stream
                task = asyncio.ensure_future(self._answer(stream))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case h2.events.DataReceived():
                self._protocol.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                self._feed(event.stream_id, event.data)
            case h2.events.StreamEnded() | h2.events.StreamReset():
                self._feed(event.stream_id, None)
                self._streams.pop(event.stream_id or 0, None)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._window_opened.set()

    def _feed(self, number: int | None, data: bytes | None) -> None:
        if (stream := self._streams.get(number or 0)) is not None:
            stream.feed(data)

    async def _flush(self) -> None:
        await self._connection.send(self._protocol.data_to_send())

    async def _answer(self, stream: Stream) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError, OSError):
            if stream.headers.get("content-type", "").startswith("application/grpc"):
                await self._answer_grpc(stream)
            else:
                await self._answer_http(stream)

    async def _answer_http(self, stream: Stream) -> None:
        body = b"".join([piece async for piece in stream.pieces()])
        answer = await self._register.answer(self._request(stream, "HTTP/2", body.decode(errors="replace")))
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.reset:
            self._protocol.reset_stream(stream.number)
            await self._flush()
            return
        headers = [(":status", str(answer.status)), *answer.headers, ("content-length", str(len(answer.body)))]
        self._protocol.send_headers(stream.number, headers)
        await self._send(stream.number, answer.body, last=True)

    async def _answer_grpc(self, stream: Stream) -> None:
        kind = stream.headers[":path"].rpartition("/")[2]
        first = await anext(stream.messages(), "") if kind in ("unary", "server") else ""
        answer = await self._register.answer(self._request(stream, "gRPC", first))
        if answer.delay:
            await asyncio.sleep(answer.delay)
        extra = [pair for pair in answer.headers if pair[0] != "content-type"]
        start = [(":status", "200"), ("content-type", "application/grpc"), *extra]
        code = 0 if answer.status == 200 else answer.status
        if code:
            refusal = [*start, ("grpc-status", str(code)), ("grpc-message", "as it was asked")]
            self._protocol.send_headers(stream.number, refusal, end_stream=True)
            await self._flush()
            return
        self._protocol.send_headers(stream.number, start)
        await self._flush()
        if kind == "client":
            lines = [self._register.line(message) async for message in stream.messages()]
            await self._send_message(stream.number, "\n".join(lines))
        elif kind == "bidi":
            async for message in stream.messages():
                await self._send_message(stream.number, self._register.line(message))
        else:
            for _ in range(_MANY if kind == "server" else 1):
                await self._send_message(stream.number, answer.body.decode())
        self._protocol.send_headers(stream.number, [("grpc-status", "0")], end_stream=True)
        await self._flush()

    def _request(self, stream: Stream, protocol: str, body: str) -> Request:
        headers = {name: value for name, value in stream.headers.items() if not name.startswith(":")}
        return Request(
            protocol=protocol,
            method=stream.headers.get(":method", ""),
            target=stream.headers.get(":path", ""),
            host=stream.headers.get(":authority") or headers.get("host", ""),
            headers=headers,
            body=body,
            peer=self._connection.peer,
            sni=self._connection.sni,
        )

    async def _send_message(self, number: int, text: str) -> None:
        data = text.encode()
        await self._send(number, _PREFIX.pack(0, len(data)) + data)

    async def _send(self, number: int, data: bytes, *, last: bool = False) -> None:
        """Sends as the peer's windows allow."""
        while data:
            self._window_opened.clear()
            room = min(self._protocol.local_flow_control_window(number), _FRAMES)
            if room <= 0:
                await self._flush()
                await self._window_opened.wait()
                continue
            self._protocol.send_data(number, data[:room])
            data = data[room:]
        if last:
            self._protocol.end_stream(number)
        await self._flush()


async def serve(connection: Connection, register: Register) -> None:
    """Serves an HTTP/2 connection."""
    await Session(connection, register).run()
