"""A client of HTTP/3 of independent make: one request over QUIC, with the server's certificate checked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent


class _Requests(QuicConnectionProtocol):
    """One request, and its answer when all of it has come."""

    def __init__(self, *arguments: object, **settings: object) -> None:
        super().__init__(*arguments, **settings)  # type: ignore[arg-type]
        self._http = H3Connection(self._quic)
        self._headers: dict[str, str] = {}
        self._stays_open = False
        self._answer = asyncio.get_running_loop().create_future()
        self._answer.add_done_callback(lambda answer: answer.exception())  # nobody may wait for it any more

    async def ask(self, asked: Mapping[str, str]) -> dict[str, str]:
        """The headers of the answer, `:status` among them. A CONNECT stays open."""
        stream = self._quic.get_next_available_stream_id()
        headers = [(name.encode(), value.encode()) for name, value in asked.items()]
        self._stays_open = asked[":method"] == "CONNECT"
        self._http.send_headers(stream, headers, end_stream=not self._stays_open)
        self.transmit()
        await self._answer
        return self._headers

    def quic_event_received(self, event: QuicEvent) -> None:
        """What the connection tells."""
        if isinstance(event, ConnectionTerminated) and not self._answer.done():
            self._answer.set_exception(ConnectionError(event.reason_phrase))
        for each in self._http.handle_event(event):
            self._take(each)

    def _take(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self._headers = {name.decode(): value.decode() for name, value in event.headers}
        is_all = isinstance(event, (HeadersReceived, DataReceived)) and (event.stream_ended or self._stays_open)
        if is_all and not self._answer.done():
            self._answer.set_result(None)


async def get_over_quic(
    name: str,
    port: int,
    roots: str,
    own: tuple[bytes, bytes] | None = None,
    *,
    path: str = "/",
    websocket: bool = False,
    seconds: float = 10,
) -> dict[str, str]:
    """The headers of the answer to one request, or to the opening of a WebSocket, to a server of that name on loopback.

    Raises ConnectionError if the two do not agree, and TimeoutError if nothing comes for that long.
    """
    asked = {":method": "GET", ":scheme": "https", ":authority": name, ":path": path}
    if websocket:  # RFC 9220, and the key that a server of HTTP/1.1 behind wants
        asked |= {":method": "CONNECT", ":protocol": "websocket"}
        asked |= {"sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    settings = QuicConfiguration(is_client=True, alpn_protocols=list(H3_ALPN), server_name=name)
    settings.load_verify_locations(cadata=roots.encode())
    if own:
        with NamedTemporaryFile(dir=Path()) as file:
            file.write(own[0] + own[1])
            file.flush()
            settings.load_cert_chain(file.name, file.name)
    async with (
        asyncio.timeout(seconds),
        connect("127.0.0.1", port, configuration=settings, create_protocol=_Requests) as client,
    ):
        assert isinstance(client, _Requests)
        return await client.ask(asked)
