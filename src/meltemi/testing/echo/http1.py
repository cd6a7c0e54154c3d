"""The server's HTTP/1.1."""

from __future__ import annotations

import asyncio

import h11

from meltemi.testing.echo.answering import Answer, Register, Request
from meltemi.testing.echo.streams import Connection


async def serve(connection: Connection, register: Register) -> None:
    """Answers the requests of a connection until either side ends it."""
    protocol = h11.Connection(h11.SERVER)
    while True:
        request = await _head(connection, protocol)
        if request is None:
            return
        headers = joined(request.headers)
        if headers.get("upgrade", "").lower() == "websocket":
            from meltemi.testing.echo import websocket

            await websocket.serve(connection, register, headers)
            return
        answer = await register.answer(
            Request(
                protocol=f"HTTP/{request.http_version.decode()}",
                method=request.method.decode(),
                target=request.target.decode(),
                host=headers.get("host", ""),
                headers=headers,
                body=(await _body(connection, protocol)).decode(errors="replace"),
                peer=connection.peer,
                sni=connection.sni,
            )
        )
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.reset:
            connection.reset()
            return
        await connection.send(_encoded(protocol, answer))
        if protocol.our_state is h11.MUST_CLOSE or protocol.their_state is h11.MUST_CLOSE:
            return
        protocol.start_next_cycle()


def joined(headers: object) -> dict[str, str]:
    """Headers as a dictionary of lower-case names."""
    result: dict[str, str] = {}
    for name, value in headers:  # type: ignore[attr-defined]
        key, text = name.decode().lower(), value.decode(errors="replace")
        result[key] = f"{result[key]},{text}" if key in result else text
    return result


async def _head(connection: Connection, protocol: h11.Connection) -> h11.Request | None:
    event = await _event(connection, protocol)
    return event if isinstance(event, h11.Request) else None


async def _body(connection: Connection, protocol: h11.Connection) -> bytes:
    pieces = bytearray()
    if protocol.they_are_waiting_for_100_continue:
        await connection.send(protocol.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
    while isinstance(event := await _event(connection, protocol), h11.Data):
        pieces += event.data
    return bytes(pieces)


async def _event(connection: Connection, protocol: h11.Connection) -> h11.Event | None:
    """The next event; None at the end of the connection."""
    while True:
        try:
            event = protocol.next_event()
        except h11.RemoteProtocolError:
            return None
        if event is h11.NEED_DATA:
            protocol.receive_data(await connection.read())
        elif isinstance(event, h11.Event):
            return None if isinstance(event, h11.ConnectionClosed) else event
        else:
            return None


def _encoded(protocol: h11.Connection, answer: Answer) -> bytes:
    headers = [*answer.headers, ("content-length", str(len(answer.body)))]
    response = h11.Response(status_code=answer.status, headers=headers)
    events: list[h11.Event] = [response, h11.Data(data=answer.body), h11.EndOfMessage()]
    return b"".join(protocol.send(event) or b"" for event in events)
