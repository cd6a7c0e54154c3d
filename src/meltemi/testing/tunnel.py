"""Requests from a test, outside, to any address of the mesh's network: through the gate, one connection each."""

from __future__ import annotations

import asyncio

import h11

from meltemi.testing.echo.http1 import joined
from meltemi.testing.echo.orders import Reply

_PIECE = 1 << 16


class TunnelError(ConnectionError):
    """The gate does not get through, or the other side gave no answer."""


async def request(
    gate: tuple[str, int], host: str, port: int, target: str, *, body: bytes | None = None, seconds: float
) -> Reply:
    """A GET, or a POST if there is a body. Raises TunnelError, and TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        try:
            reader, writer = await asyncio.open_connection(*gate)
        except OSError as error:
            raise TunnelError(f"the gate does not answer: {error}") from error
        try:
            return await _through(reader, writer, host, port, target, body)
        except (OSError, EOFError, h11.ProtocolError) as error:
            raise TunnelError(f"{host}:{port} gave no answer to {target}: {error}") from error
        finally:
            writer.close()


async def _through(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int, target: str, body: bytes | None
) -> Reply:
    writer.write(f"CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise TunnelError(f"{host}:{port} cannot be reached")
    protocol = h11.Connection(h11.CLIENT)
    headers = [("host", f"{host}:{port}"), ("connection", "close"), ("content-length", str(len(body or b"")))]
    method = "GET" if body is None else "POST"
    events: list[h11.Event] = [h11.Request(method=method, target=target, headers=headers), h11.Data(data=body or b"")]
    writer.write(b"".join(protocol.send(event) or b"" for event in [*events, h11.EndOfMessage()]))
    status, fields, received = 0, dict[str, str](), bytearray()
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(_PIECE))
        elif isinstance(event, h11.Response):
            status, fields = event.status_code, joined(event.headers)
        elif isinstance(event, h11.Data):
            received += event.data
        elif isinstance(event, h11.EndOfMessage):
            return Reply(status=status, headers=fields, body=received.decode(errors="replace"))
        else:
            raise TunnelError("the connection was closed without an answer")
