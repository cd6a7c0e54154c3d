"""The client's HTTP/1.1 and HTTP/2."""

from __future__ import annotations

from urllib.parse import SplitResult

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11

from meltemi.testing.echo.calling import Caller, Wire, connect
from meltemi.testing.echo.http1 import joined
from meltemi.testing.echo.orders import Order, Reply

_FRAME = 1 << 14


class CutOffError(ConnectionError):
    """The connection ended, or the stream was reset, before the answer was whole."""


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def _authority(order: Order, url: SplitResult) -> str:
    named = [value for name, value in order.headers if name.lower() == "host"]
    return named[0] if named else url.netloc


def _fields(order: Order) -> list[tuple[str, str]]:
    return [(name, value) for name, value in order.headers if name.lower() != "host"]


class Http1Caller(Caller):
    """HTTP/1.1."""

    def __init__(self, order: Order, url: SplitResult) -> None:
        self._order = order
        self._url = url
        self._wire: Wire | None = None
        self._protocol = h11.Connection(h11.CLIENT)

    async def call(self) -> Reply:
        """See Caller."""
        if self._wire is None:
            self._wire = await connect(self._order, self._url)
        else:
            self._protocol.start_next_cycle()
        try:
            await self._wire.send(self._request())
            return await self._reply(self._wire)
        except h11.ProtocolError as error:
            raise CutOffError(str(error)) from error

    def _request(self) -> bytes:
        order = self._order
        body = order.body.encode()
        headers = [("host", _authority(order, self._url)), *_fields(order)]
        if body or order.method in ("POST", "PUT"):
            headers.append(("content-length", str(len(body))))
        request = h11.Request(method=order.method, target=_target(self._url), headers=headers)
        events: list[h11.Event] = [request, h11.Data(data=body), h11.EndOfMessage()]
        return b"".join(self._protocol.send(event) or b"" for event in events)

    async def _reply(self, wire: Wire) -> Reply:
        status, headers, body = 0, dict[str, str](), bytearray()
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                self._protocol.receive_data(await wire.read())
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, joined(event.headers)
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                text = body.decode(errors="replace")
                return Reply(status=status, headers=headers, body=text, protocol="HTTP/1.1", names=wire.names)
            elif isinstance(event, h11.ConnectionClosed):
                raise CutOffError("the connection was closed without an answer")

    async def aclose(self) -> None:
        """See Caller."""
        if self._wire is not None:
            await self._wire.aclose()


class Http2Caller(Caller):
    """HTTP/2 without an upgrade: with prior knowledge, or agreed on by ALPN."""

    def __init__(self, order: Order, url: SplitResult) -> None:
        self._order = order
        self._url = url
        self._wire: Wire | None = None
        self._protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))

    async def call(self) -> Reply:
        """See Caller."""
        protocol = self._protocol
        if self._wire is None:
            self._wire = await connect(self._order, self._url)
            protocol.initiate_connection()
        number, body = protocol.get_next_available_stream_id(), self._order.body.encode()
        headers = [
            (":method", self._order.method),
            (":path", _target(self._url)),
            (":scheme", "https" if self._url.scheme == "h2s" else "http"),
            (":authority", _authority(self._order, self._url)),
            *_fields(self._order),
        ]
        protocol.send_headers(number, headers, end_stream=not body)
        try:
            return await self._exchange(self._wire, number, body)
        except h2.exceptions.ProtocolError as error:
            raise CutOffError(str(error)) from error

    def _send_body(self, number: int, body: bytes) -> bytes:
        """Sends as much as the server's windows allow; what is left."""
        while body and (room := min(self._protocol.local_flow_control_window(number), _FRAME)) > 0:
            self._protocol.send_data(number, body[:room], end_stream=len(body) <= room)
            body = body[room:]
        return body

    async def _exchange(self, wire: Wire, number: int, unsent: bytes) -> Reply:
        headers, trailers, body = dict[str, str](), dict[str, str](), bytearray()
        unsent = self._send_body(number, unsent)
        await wire.send(self._protocol.data_to_send())
        while data := await wire.read():
            for event in self._protocol.receive_data(data):
                match event:
                    case h2.events.ResponseReceived(stream_id=one) if one == number:
                        headers = joined(event.headers)
                    case h2.events.TrailersReceived(stream_id=one) if one == number:
                        trailers = joined(event.headers)
                    case h2.events.DataReceived():
                        self._protocol.acknowledge_received_data(event.flow_controlled_length or 0, number)
                        body += event.data or b""
                    case h2.events.StreamReset(stream_id=one) if one == number:
                        raise CutOffError(f"the stream was reset with code {event.error_code}")
                    case h2.events.StreamEnded(stream_id=one) if one == number:
                        return Reply(
                            status=int(headers.pop(":status", "0")),
                            headers=headers,
                            trailers=trailers,
                            body=body.decode(errors="replace"),
                            protocol="HTTP/2",
                            names=wire.names,
                        )
            unsent = self._send_body(number, unsent)
            await wire.send(self._protocol.data_to_send())
        raise CutOffError("the connection was closed without an answer")

    async def aclose(self) -> None:
        """See Caller."""
        if self._wire is not None:
            await self._wire.aclose()
