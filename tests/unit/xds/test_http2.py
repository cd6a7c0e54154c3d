"""HTTP/2 for gRPC, against a client that knows the protocol by heart (h2), and against one that breaks it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamReset, TrailersReceived
from h2.settings import SettingCodes

from meltemi.xds.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    Fault,
    FaultyCall,
    Status,
    frame,
)
from meltemi.xds.http2 import FRAME, MAX_STREAMS, SMALL, Call, Connection

HEADERS_OF_A_CALL = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/service/Method"),
    (":authority", "mesh"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


class Pipe:
    """The way to the peer; `is_full` and `certificate` are as a test wants them."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_full = False
        self.is_closed = False
        self.certificate: Mapping[str, Any] | None = {"subjectAltName": ()}

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True

    def take(self) -> bytes:
        taken, self.sent = self.sent, b""
        return taken


class Echo:
    """Remembers what it was told, and tells the end of it."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.messages: list[bytes] = []
        self.ends = 0

    def received(self, message: bytes) -> None:
        self.messages.append(message)
        if message == b"fail":
            raise FaultyCall(Status.PERMISSION_DENIED, "not you: 100 %")

    def closed(self) -> None:
        self.ends += 1


class Rig:
    """A server's connection with a client at its other end."""

    def __init__(self, window: int = 65_535) -> None:
        self.pipe = Pipe()
        self.echoes: list[Echo] = []
        self.server = Connection({"/service/Method": self._method}, self.pipe)
        self.client = H2Connection(H2Configuration(client_side=True))
        self.client.initiate_connection()
        if window != 65_535:
            self.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.exchange()

    def _method(self, call: Call) -> Echo:
        self.echoes.append(Echo(call))
        return self.echoes[-1]

    def exchange(self, portion: int = 1 << 20) -> list[Any]:
        """Carry bytes both ways until nobody has any; what the client heard."""
        heard: list[Any] = []
        while True:
            up = self.client.data_to_send()
            for start in range(0, len(up), portion):
                self.server.received(up[start : start + portion])
            down = self.pipe.take()
            if not up and not down:
                return heard
            heard += self.client.receive_data(down)

    def call(self, *messages: bytes) -> int:
        """Open a call and send messages."""
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, HEADERS_OF_A_CALL)
        for message in messages:
            self.client.send_data(stream, framed(message))
        return stream


def framed(message: bytes) -> bytes:
    return b"\x00" + struct.pack(">I", len(message)) + message


def data_of(events: list[Any]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, DataReceived))


def status_of(events: list[Any]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for event in events:
        if isinstance(event, ResponseReceived | TrailersReceived):
            found.update(event.headers)
    return found


def test_messages_go_both_ways() -> None:
    rig = Rig()
    rig.call(b"one", b"", b"three")
    rig.exchange()
    rig.echoes[0].call.send(b"ans", b"wer")
    assert rig.echoes[0].messages == [b"one", b"", b"three"]
    assert data_of(rig.exchange()) == framed(b"answer")


@pytest.mark.parametrize("portion", [1, 7, 1000])
def test_bytes_may_come_in_any_portions(portion: int) -> None:
    rig = Rig()
    rig.call(b"x" * 3000, b"y")
    rig.exchange(portion)
    assert rig.echoes[0].messages == [b"x" * 3000, b"y"]


@pytest.mark.parametrize("size", [SMALL - 1, SMALL, SMALL + 1, FRAME, 60_000])
def test_a_message_of_any_size_arrives_whole(size: int) -> None:
    rig = Rig()
    rig.call(b"hello")
    rig.exchange()
    rig.echoes[0].call.send(b"a" * size, b"bc")
    assert data_of(rig.exchange()) == framed(b"a" * size + b"bc")


def test_what_does_not_fit_into_the_windows_waits_for_them() -> None:
    rig = Rig(window=100_000)
    stream = rig.call(b"hello")
    rig.exchange()
    call = rig.echoes[0].call
    call.send(b"a" * 200_000)
    call.send(b"b")
    got = data_of(rig.exchange())
    assert len(got) == 65_535  # the connection's window
    while len(got) < 200_005 + 6:
        assert call.queue
        rig.client.increment_flow_control_window(30_000)
        rig.client.increment_flow_control_window(30_000, stream)
        got += data_of(rig.exchange())
    assert got == framed(b"a" * 200_000) + framed(b"b")
    assert not call.queue


def test_a_window_made_smaller_by_settings_is_heeded() -> None:
    rig = Rig(window=10_000)
    stream = rig.call(b"hello")
    rig.exchange()
    rig.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    rig.exchange()
    rig.echoes[0].call.send(b"a" * 50)
    assert len(data_of(rig.exchange())) == 10
    rig.client.increment_flow_control_window(1000, stream)
    assert len(data_of(rig.exchange())) == 45


def test_nothing_is_written_to_a_socket_that_takes_no_more() -> None:
    rig = Rig(window=1 << 20)
    rig.call(b"hello")
    rig.client.increment_flow_control_window(1 << 20)
    rig.exchange()
    rig.pipe.is_full = True
    rig.echoes[0].call.send(b"a" * 100_000)
    assert data_of(rig.exchange()) == b""
    rig.pipe.is_full = False
    rig.server.writable()
    assert data_of(rig.exchange()) == framed(b"a" * 100_000)


def test_more_may_be_sent_to_us_than_a_window_holds() -> None:
    rig = Rig()
    stream = rig.call()
    message = framed(b"z" * 5_000_000)
    while message:
        rig.exchange()
        room = min(rig.client.local_flow_control_window(stream), 16_384)
        assert room
        rig.client.send_data(stream, message[:room])
        message = message[room:]
    rig.exchange()
    assert [len(each) for each in rig.echoes[0].messages] == [5_000_000]


def test_a_fault_of_the_receiver_ends_the_call_with_its_status() -> None:
    rig = Rig()
    rig.call(b"fail", b"and more")
    found = status_of(rig.exchange())
    assert found[b":status"] == b"200"
    assert found[b"grpc-status"] == b"7"
    assert found[b"grpc-message"] == b"not you: 100 %25"
    assert rig.echoes[0].ends == 1
    assert rig.echoes[0].messages == [b"fail"]


def test_an_unknown_method_is_refused_and_the_connection_goes_on() -> None:
    rig = Rig()
    rig.client.send_headers(
        1, [(":path", "/other") if name == ":path" else (name, value) for name, value in HEADERS_OF_A_CALL]
    )
    assert status_of(rig.exchange())[b"grpc-status"] == b"12"
    rig.call(b"hello")
    rig.exchange()
    assert rig.echoes[0].messages == [b"hello"]


def test_the_end_is_told_once_however_it_comes() -> None:
    rig = Rig()
    reset, ended = rig.call(b"a"), rig.call(b"b")
    rig.call(b"c")
    rig.client.reset_stream(reset)
    rig.client.end_stream(ended)
    found = rig.exchange()
    assert status_of(found)[b"grpc-status"] == b"0"
    rig.server.lost()
    rig.server.lost()
    assert [echo.ends for echo in rig.echoes] == [1, 1, 1]
    rig.echoes[2].call.send(b"too late")
    assert rig.pipe.take() == b""


def test_calls_on_one_connection_are_limited() -> None:
    rig = Rig()
    rig.client.remote_settings.update({SettingCodes.MAX_CONCURRENT_STREAMS: 1000})
    rig.client.remote_settings.acknowledge()
    for _ in range(MAX_STREAMS + 1):
        rig.call()
    assert status_of(rig.exchange())[b"grpc-status"] == b"8"
    assert len(rig.server.calls) == MAX_STREAMS


def test_pings_are_answered() -> None:
    rig = Rig()
    rig.client.ping(b"12345678")
    assert "PingAckReceived" in [type(event).__name__ for event in rig.exchange()]


def test_headers_may_be_split_and_padded() -> None:
    rig = Rig()
    block = rig.client.encoder.encode(HEADERS_OF_A_CALL)
    padded = b"\x04" + block[:10] + b"\x00" * 4
    rig.server.received(frame(HEADERS, 0x8, 1, padded) + frame(CONTINUATION, END_HEADERS, 1, block[10:]))
    rig.server.received(frame(DATA, 0x8, 1, b"\x02" + framed(b"hello") + b"\x00\x00"))
    assert rig.echoes[0].messages == [b"hello"]


def faults() -> Iterator[tuple[bytes, int]]:
    yield frame(DATA, 0, 1, b"never opened"), Fault.PROTOCOL
    yield frame(HEADERS, END_HEADERS, 2, b""), Fault.PROTOCOL
    yield frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), Fault.COMPRESSION
    yield frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, b"12345678"), Fault.PROTOCOL
    yield frame(CONTINUATION, END_HEADERS, 1, b""), Fault.PROTOCOL
    yield frame(HEADERS, END_HEADERS | 0x8, 1, b"\x09abc"), Fault.PROTOCOL
    yield frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"x" * 16_000) * 5, Fault.ENHANCE_YOUR_CALM
    yield frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0)), Fault.PROTOCOL
    yield frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1)), Fault.FLOW_CONTROL
    yield frame(WINDOW_UPDATE, 0, 0, b"123"), Fault.FRAME_SIZE
    yield frame(SETTINGS, 0, 0, b"12345"), Fault.FRAME_SIZE
    yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)), Fault.FLOW_CONTROL
    yield frame(PING, 0, 0, b"123"), Fault.FRAME_SIZE
    yield frame(5, END_HEADERS, 1, b"promise"), Fault.PROTOCOL
    yield b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", Fault.FRAME_SIZE


@pytest.mark.parametrize(("broken", "code"), list(faults()))
def test_who_breaks_the_protocol_is_told_how_and_hung_up_on(broken: bytes, code: int) -> None:
    rig = Rig()
    rig.server.received(broken)
    (end,) = [event for event in rig.client.receive_data(rig.pipe.take()) if isinstance(event, ConnectionTerminated)]
    assert end.error_code == code
    assert rig.pipe.is_closed
    rig.server.received(frame(PING, 0, 0, b"12345678"))
    assert rig.pipe.take() == b""


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n\r\n", PREFACE[:10] + b"x"])
def test_who_does_not_speak_http2_is_hung_up_on(greeting: bytes) -> None:
    pipe = Pipe()
    Connection({}, pipe).received(greeting)
    assert pipe.is_closed


def test_compressed_and_huge_messages_are_refused() -> None:
    rig = Rig()
    rig.client.send_headers(1, HEADERS_OF_A_CALL)
    rig.client.send_data(1, b"\x01\x00\x00\x00\x01x")
    rig.client.send_headers(3, HEADERS_OF_A_CALL)
    rig.client.send_data(3, b"\x00\xff\xff\xff\xff")
    trailers = [event.headers for event in rig.exchange() if isinstance(event, ResponseReceived)]
    assert [dict(each)[b"grpc-status"] for each in trailers] == [b"12", b"8"]
    assert not any(isinstance(event, StreamReset) and event.error_code for event in rig.exchange())
