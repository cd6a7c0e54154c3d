"""The server's WebSocket (RFC 6455): every message is answered with a line, as over TCP."""

from __future__ import annotations

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.utils import accept_key

from meltemi.testing.echo.answering import Register
from meltemi.testing.echo.streams import Connection


async def serve(connection: Connection, register: Register, headers: dict[str, str]) -> None:
    """Takes the upgrade that was asked for, and answers messages until the client closes."""
    accepted = accept_key(headers.get("sec-websocket-key", ""))
    head = (
        "HTTP/1.1 101 Switching Protocols",
        "upgrade: websocket",
        "connection: Upgrade",
        f"sec-websocket-accept: {accepted}",
        f"x-echo-pod: {register.pod}",
        f"x-echo-version: {register.version}",
        "\r\n",
    )
    await connection.send("\r\n".join(head).encode())
    protocol = Protocol(Side.SERVER, state=State.OPEN)
    while protocol.state is not State.CLOSED:
        data = await connection.read()
        if not data:
            return
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                protocol.send_text(register.line(bytes(event.data).decode()).encode())
        outgoing = protocol.data_to_send()
        for piece in outgoing:
            if not piece:
                return
            await connection.send(piece)
