"""The client's plain TCP and WebSocket: messages out, one line or message back for each."""

from __future__ import annotations

import asyncio
from urllib.parse import SplitResult

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from meltemi.testing.echo.calling import Caller, Wire, connect
from meltemi.testing.echo.orders import Order, Reply


class TcpCaller(Caller):
    """Lines over TCP."""

    def __init__(self, order: Order, url: SplitResult) -> None:
        self._order = order
        self._url = url
        self._wire: Wire | None = None

    async def call(self) -> Reply:
        """See Caller."""
        self._wire = self._wire or await connect(self._order, self._url)
        heard = []
        if self._order.hear_first:
            heard.append(await self._line(self._wire))
        for message in self._order.messages:
            await self._wire.send(f"{message}\n".encode())
            heard.append(await self._line(self._wire))
        return Reply(messages=tuple(heard), protocol="TCP")

    async def _line(self, wire: Wire) -> str:
        line = await wire.reader.readline()
        if not line.endswith(b"\n"):
            raise asyncio.IncompleteReadError(line, None)
        return line.decode().rstrip("\n")

    async def aclose(self) -> None:
        """See Caller."""
        if self._wire is not None:
            await self._wire.aclose()


class WebSocketCaller(Caller):
    """Messages over a WebSocket, which is opened anew for each call."""

    def __init__(self, order: Order, url: SplitResult) -> None:
        self._order = order
        self._url = url

    async def call(self) -> Reply:
        """See Caller."""
        wire = await connect(self._order, self._url)
        try:
            return await self._talk(wire)
        finally:
            await wire.aclose()

    async def _talk(self, wire: Wire) -> Reply:
        protocol = ClientProtocol(parse_uri(self._order.url))
        request = protocol.connect()
        request.headers = Headers([*request.headers.raw_items(), *self._order.headers])
        protocol.send_request(request)
        status, headers, heard, unsaid = 0, dict[str, str](), list[str](), list(self._order.messages)
        while True:
            for piece in protocol.data_to_send():
                if piece:
                    await wire.send(piece)
            data = await wire.read()
            if not data:
                raise ConnectionError("the connection was closed")
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Response):
                    status = event.status_code
                    headers = {name.lower(): value for name, value in event.headers.raw_items()}
                elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    heard.append(bytes(event.data).decode())
            refused = isinstance(protocol.handshake_exc, InvalidHandshake)
            if refused or (len(heard) == len(self._order.messages) and status):
                return Reply(status=status, headers=headers, messages=tuple(heard), protocol="WebSocket")
            if status and unsaid:
                protocol.send_text(unsaid.pop(0).encode())
