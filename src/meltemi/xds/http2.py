"""HTTP/2 as a gRPC server needs it: streams with messages in both directions, and callbacks instead of coroutines.

Each proxy has a connection of its own with one stream that lasts as long as it does, and a change is one small message
to each of hundreds. A general server spends most of its time and memory on what does not happen here. So this one knows
frames, flow control and headers, and nothing else: what is to be sent is handed over as finished pieces that many
connections share, and is copied only as the peer's windows and the socket take it.

A `Method` is a factory: it gets the `Call` to answer on, and returns the `Receiver` of what the peer says.

Invariants: a call's `closed` comes exactly once; a peer that breaks the protocol ends its own connection only.

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), gRPC's PROTOCOL-HTTP2.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import hpack

from meltemi.xds.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LARGEST_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITY_FLAG,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Fault,
    FaultyCall,
    Setting,
    Status,
    frame,
    settings,
)

log = logging.getLogger(__name__)

MAX_STREAMS = 16
MAX_MESSAGE = 64 << 20
MAX_HEADERS = 64 << 10
WINDOW = 1 << 20  # what a peer may send before we have taken it, per stream and connection
FRAME = DEFAULT_FRAME - 64  # so that a frame of data fits, with its head, into one record of TLS
SMALL = 8 << 10  # pieces up to this size are joined into one frame

_UPDATE = struct.Struct(">I")
_SETTING = struct.Struct(">HI")
_NO_ERROR, _CANCEL = 0, 8
_RESPONSE_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]


class Sink(Protocol):
    """The bytes' way out, and who is at the other end."""

    def write(self, data: bytes) -> None:
        """Send bytes; they are queued if the socket does not take them at once."""

    def close(self) -> None:
        """Send what is queued, and end the connection."""

    @property
    def is_full(self) -> bool:
        """Whether so much is queued that `Connection.writable` should be waited for."""

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The peer's verified certificate, as `ssl` describes it; None on a connection without."""


class Receiver(Protocol):
    """What is at our end of a call."""

    def received(self, message: bytes) -> None:
        """The peer sent a message. May raise FaultyCall, which ends the call with a status."""

    def closed(self) -> None:
        """The call has ended, for whatever reason."""


class Call:
    """One open call, to be answered with any number of messages."""

    __slots__ = ("_body", "_connection", "_is_answered", "_window", "id", "queue", "receiver", "taken")

    def __init__(self, connection: Connection, number: int, window: int) -> None:
        self.id = number
        self.receiver: Receiver | None = None
        self.queue: deque[bytes | memoryview] = deque()
        self.taken = 0
        self._connection = connection
        self._window = window
        self._body = bytearray()
        self._is_answered = False

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The peer's verified certificate."""
        return self._connection.sink.certificate

    def send(self, *pieces: bytes) -> None:
        """Send one message, given in pieces. It is queued for as long as the peer does not take it."""
        size = sum(map(len, pieces))
        prefix = b"\x00" + size.to_bytes(4, "big")
        if size <= SMALL:
            self.queue.append(b"".join((prefix, *pieces)))
        else:
            self.queue.append(prefix)
            self.queue.extend(memoryview(piece) for piece in pieces)
        self._connection.flush(self)

    def end(self, status: int, words: str = "") -> None:
        """End the call with a gRPC status. What is queued is not sent any more."""
        self.queue.clear()
        trailers = [("grpc-status", str(status))]
        if words:
            trailers.append(("grpc-message", quote(words, safe=" ,.:;=/()'\"!?*+-_<>[]{}@#$&")))
        if not self._is_answered:
            self._is_answered = True
            trailers = [*_RESPONSE_HEADERS, *trailers]
        self._connection.end(self, trailers)

    # === for the connection ===

    def take(self, room: int) -> bytes:
        """At most `room` bytes of what is queued."""
        piece = self.queue[0]
        if len(piece) <= room:
            self.queue.popleft()
            return bytes(piece)
        self.queue[0] = memoryview(piece)[room:]
        return bytes(piece[:room])

    def head(self, connection: Connection) -> bytes:
        """The response headers, the first time."""
        if self._is_answered:
            return b""
        self._is_answered = True
        return frame(HEADERS, END_HEADERS, self.id, connection.encode(_RESPONSE_HEADERS))

    @property
    def window(self) -> int:
        """How much the peer is ready to take on this call."""
        return self._window

    @window.setter
    def window(self, size: int) -> None:
        if size > LARGEST_WINDOW:
            raise Fault(Fault.FLOW_CONTROL, f"the window of stream {self.id} grew too large")
        self._window = size

    def feed(self, data: bytes) -> None:
        """Data of the peer: hand on each message that is complete."""
        body = self._body
        body += data
        while len(body) >= 5:
            size = int.from_bytes(body[1:5], "big")
            if body[0]:
                raise FaultyCall(Status.UNIMPLEMENTED, "compressed messages are not taken")
            if size > MAX_MESSAGE:
                raise FaultyCall(Status.RESOURCE_EXHAUSTED, f"a message of {size} bytes is too large")
            if len(body) < 5 + size:
                return
            message = bytes(body[5 : 5 + size])
            if len(body) == 5 + size:
                body = self._body = bytearray()
            else:
                del body[: 5 + size]
            if self.receiver is None:
                return
            self.receiver.received(message)


Method = Callable[[Call], Receiver]


class Connection:
    """One peer's connection: bytes come in with `received`, and go out through the sink."""

    def __init__(self, methods: Mapping[str, Method], sink: Sink) -> None:
        self.sink = sink
        self.calls: dict[int, Call] = {}
        self._methods = methods
        self._decoder = hpack.Decoder(max_header_list_size=MAX_HEADERS)
        self._encoder = hpack.Encoder()
        self._rest = b""
        self._greeted = False
        self._window = DEFAULT_WINDOW
        self._initial_window = DEFAULT_WINDOW
        self._taken = 0
        self._newest = 0
        self._headers: tuple[int, int, bytearray] | None = None  # stream, flags and block, until it is complete
        self._closed = False
        sink.write(
            settings({Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS, Setting.INITIAL_WINDOW_SIZE: WINDOW})
            + frame(WINDOW_UPDATE, 0, 0, _UPDATE.pack(WINDOW - DEFAULT_WINDOW))
        )

    def encode(self, headers: list[tuple[str, str]]) -> bytes:
        """A header block."""
        block: bytes = self._encoder.encode(headers)
        return block

    # === sending ===

    def flush(self, call: Call) -> None:
        """Send what is queued on a call, as far as windows and socket take it."""
        out: list[bytes] = []
        size = 0
        queue, sink = call.queue, self.sink
        while queue and not self._closed:
            room = min(call.window, self._window, FRAME)
            if room <= 0:
                break
            if size >= FRAME:
                sink.write(b"".join(out))
                out, size = [], 0
                if sink.is_full:
                    break
            elif not size:
                if sink.is_full:
                    break
                out.append(call.head(self))
            piece = call.take(room)
            out.append(frame(DATA, 0, call.id, piece))
            size += len(piece)
            call.window -= len(piece)
            self._window -= len(piece)
        if size:
            sink.write(b"".join(out))

    def writable(self) -> None:
        """The socket takes more."""
        for call in list(self.calls.values()):
            if call.queue:
                self.flush(call)

    def end(self, call: Call, trailers: list[tuple[str, str]]) -> None:
        """Send the trailers of a call, which end it."""
        if self.calls.get(call.id) is call and not self._closed:
            self.sink.write(
                frame(HEADERS, END_HEADERS | END_STREAM, call.id, self.encode(trailers))
                + frame(RST_STREAM, 0, call.id, _UPDATE.pack(_NO_ERROR))
            )
        self._drop(call.id)

    def close(self, fault: Fault | None = None) -> None:
        """End the connection, telling the peer why."""
        if not self._closed:
            self._closed = True
            words = str(fault).encode() if fault else b""
            self.sink.write(
                frame(GOAWAY, 0, 0, struct.pack(">II", self._newest, fault.code if fault else _NO_ERROR) + words)
            )
            self.sink.close()
            self.lost()

    def lost(self) -> None:
        """The connection is no more."""
        self._closed = True
        for number in list(self.calls):
            self._drop(number)

    def _drop(self, number: int) -> None:
        call = self.calls.pop(number, None)
        if call is not None:
            call.queue.clear()
            receiver, call.receiver = call.receiver, None
            if receiver is not None:
                receiver.closed()

    # === receiving ===

    def received(self, data: bytes) -> None:
        """Take in bytes of the peer."""
        try:
            self._take_in(self._rest + data if self._rest else data)
        except Fault as fault:
            log.debug("a peer broke the protocol: %s", fault)
            self.close(fault)

    def _take_in(self, data: bytes) -> None:
        position, end = 0, len(data)
        if not self._greeted:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise Fault(Fault.PROTOCOL, "this is not HTTP/2")
            if end < len(PREFACE):
                self._rest = data
                return
            self._greeted, position = True, len(PREFACE)
        while end - position >= 9 and not self._closed:
            length = int.from_bytes(data[position : position + 3], "big")
            if length > DEFAULT_FRAME:
                raise Fault(Fault.FRAME_SIZE, f"a frame of {length} bytes is too large")
            begin = position + 9
            if end < begin + length:
                break
            stream = int.from_bytes(data[position + 5 : begin], "big") & 0x7FFFFFFF
            self._on_frame(data[position + 3], data[position + 4], stream, data[begin : begin + length])
            position = begin + length
        self._rest = data[position:]

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._headers is not None and kind != CONTINUATION:
            raise Fault(Fault.PROTOCOL, "a header block was interrupted")
        if kind == DATA:
            self._on_data(flags, stream, payload)
        elif kind == WINDOW_UPDATE:
            self._on_window(stream, payload)
        elif kind == PING:
            if len(payload) != 8:
                raise Fault(Fault.FRAME_SIZE, "a ping has eight bytes")
            if not flags & ACK:
                self.sink.write(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS:
            self._on_settings(flags, payload)
        elif kind == HEADERS:
            self._headers = (stream, flags, bytearray(_without_padding(flags, payload, has_priority=True)))
            self._on_headers(flags)
        elif kind == CONTINUATION:
            if self._headers is None or self._headers[0] != stream:
                raise Fault(Fault.PROTOCOL, "a header block goes on that was not begun")
            self._headers[2].extend(payload)
            if len(self._headers[2]) > MAX_HEADERS:
                raise Fault(Fault.ENHANCE_YOUR_CALM, "a header block is too large")
            self._on_headers(flags)
        elif kind == RST_STREAM:
            self._drop(stream)
        elif kind == PUSH_PROMISE:
            raise Fault(Fault.PROTOCOL, "clients promise nothing")
        # GOAWAY: the peer opens no more streams; PRIORITY and unknown kinds mean nothing here.

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream or stream > self._newest:
            raise Fault(Fault.PROTOCOL, f"data on stream {stream}, which was not opened")
        call = self.calls.get(stream)
        self._taken += len(payload)
        if self._taken >= WINDOW // 2:
            self.sink.write(frame(WINDOW_UPDATE, 0, 0, _UPDATE.pack(self._taken)))
            self._taken = 0
        if call is None:
            return
        call.taken += len(payload)
        if call.taken >= WINDOW // 2:
            self.sink.write(frame(WINDOW_UPDATE, 0, stream, _UPDATE.pack(call.taken)))
            call.taken = 0
        try:
            call.feed(_without_padding(flags, payload))
        except FaultyCall as fault:
            call.end(fault.status, str(fault))
            return
        if flags & END_STREAM and stream in self.calls:
            call.end(Status.OK)

    def _on_window(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Fault(Fault.FRAME_SIZE, "a window update has four bytes")
        more = _UPDATE.unpack(payload)[0] & 0x7FFFFFFF
        if not more:
            raise Fault(Fault.PROTOCOL, "a window update of nothing")
        if not stream:
            if self._window + more > LARGEST_WINDOW:
                raise Fault(Fault.FLOW_CONTROL, "the connection's window grew too large")
            self._window += more
            self.writable()
        elif (call := self.calls.get(stream)) is not None:
            call.window += more
            if call.queue:
                self.flush(call)

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            return
        if len(payload) % _SETTING.size:
            raise Fault(Fault.FRAME_SIZE, "settings have six bytes each")
        for setting, value in _SETTING.iter_unpack(payload):
            if setting == Setting.INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise Fault(Fault.FLOW_CONTROL, "the initial window is too large")
                for call in self.calls.values():
                    call.window += value - self._initial_window
                self._initial_window = value
            elif setting == Setting.HEADER_TABLE_SIZE:
                self._encoder.header_table_size = min(value, 4096)
        self.sink.write(frame(SETTINGS, ACK, 0, b""))
        self.writable()

    def _on_headers(self, flags: int) -> None:
        if not flags & END_HEADERS or self._headers is None:
            return
        (stream, first, block), self._headers = self._headers, None
        try:
            fields = {str(name): str(value) for name, value in self._decoder.decode(bytes(block))}
        except hpack.HPACKError as error:
            raise Fault(Fault.COMPRESSION, f"a header block cannot be read: {error}") from error
        if stream in self.calls:  # trailers
            self.calls[stream].end(Status.OK)
            return
        if not stream % 2 or stream <= self._newest:
            raise Fault(Fault.PROTOCOL, f"stream {stream} cannot be opened")
        self._newest = stream
        self._open(stream, fields, is_over=bool(first & END_STREAM))

    def _open(self, stream: int, fields: Mapping[str, str], *, is_over: bool) -> None:
        call = self.calls[stream] = Call(self, stream, self._initial_window)
        method = self._methods.get(fields.get(":path", ""))
        if len(self.calls) > MAX_STREAMS:
            call.end(Status.RESOURCE_EXHAUSTED, "too many calls on one connection")
        elif not fields.get("content-type", "").startswith("application/grpc"):
            call.end(Status.UNKNOWN, "this server speaks gRPC only")
        elif method is None:
            call.end(Status.UNIMPLEMENTED, f"there is no method {fields.get(':path', '')}")
        elif is_over:
            call.end(Status.OK)
        else:
            receiver = method(call)
            if stream in self.calls:
                call.receiver = receiver
            else:
                receiver.closed()


def _without_padding(flags: int, payload: bytes, *, has_priority: bool = False) -> bytes:
    if not flags & (PADDED | (PRIORITY_FLAG if has_priority else 0)):
        return payload
    begin = 1 if flags & PADDED else 0
    padding = payload[0] if begin and payload else 0
    begin += 5 if has_priority and flags & PRIORITY_FLAG else 0
    if begin + padding > len(payload):
        raise Fault(Fault.PROTOCOL, "a frame has more padding than content")
    return payload[begin : len(payload) - padding]
