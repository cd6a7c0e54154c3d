"""The server's TCP ports: which protocol a connection speaks, and the plain ones.

A connection to an HTTP port speaks HTTP/2 if it begins with that protocol's preface, else HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from meltemi.testing.echo.answering import Register

_PREFACE = b"PRI * HTTP/2.0"
_PIECE = 1 << 16
_BACKLOG = 512
_LONGEST_LINE = 1 << 20

Serve = Callable[["Connection"], Awaitable[None]]


class Connection:
    """A client's connection: its streams, what has been read ahead, and what TLS has said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, names: dict[int, str]) -> None:
        self.writer = writer
        self._reader = reader
        self._ahead = b""
        tls = writer.get_extra_info("ssl_object")
        self.sni = names.pop(id(tls), "") if tls is not None else ""
        address = writer.get_extra_info("peername")
        self.peer = address[0] if address else ""

    def __repr__(self) -> str:
        return f"<Connection from {self.peer}>"

    async def begins_with(self, expected: bytes) -> bool:
        """Whether the client begins so; reads no further than it must."""
        while len(self._ahead) < len(expected) and expected.startswith(self._ahead):
            piece = await self._reader.read(_PIECE)
            if not piece:
                return False
            self._ahead += piece
        return self._ahead.startswith(expected)

    async def read(self) -> bytes:
        """Some bytes; empty at the end."""
        ahead, self._ahead = self._ahead, b""
        return ahead or await self._reader.read(_PIECE)

    async def line(self) -> bytes:
        """A line with its end; less at the end of the connection."""
        return await self._reader.readline()

    async def exactly(self, length: int) -> bytes:
        """So many bytes."""
        return await self._reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        """Writes, and waits while the other side does not take it."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Cuts the connection off."""
        self.writer.transport.abort()


class Port:
    """A port that is served. `number` is its number."""

    def __init__(self, serve: Serve, names: dict[int, str]) -> None:
        self.number = 0
        self._serve = serve
        self._names = names
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Port {self.number}: {len(self._serving)} connections>"

    async def open(self, number: int, tls: ssl.SSLContext | None) -> None:
        """Starts to listen. Raises OSError if the port cannot be had."""
        self._server = await asyncio.start_server(
            self._accept, "0.0.0.0", number, ssl=tls, backlog=_BACKLOG, limit=_LONGEST_LINE
        )
        self.number = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Stops, and cuts off whoever is connected."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(Connection(reader, writer, self._names)))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _carry(self, connection: Connection) -> None:
        try:
            await self._serve(connection)
        except (OSError, asyncio.IncompleteReadError):
            connection.reset()
        except asyncio.CancelledError:
            connection.reset()
            raise
        finally:
            connection.writer.close()
            with contextlib.suppress(OSError):
                await connection.writer.wait_closed()


async def listen(number: int, serve: Serve, tls: ssl.SSLContext | None = None) -> Port:
    """Serves the connections to a port; 0 takes a free one. Raises OSError."""
    names: dict[int, str] = {}
    if tls is not None:
        tls.sni_callback = lambda tls_object, name, _: names.update({id(tls_object): name or ""})
    port = Port(serve, names)
    await port.open(number, tls)
    return port


def server_tls(directory: Path) -> ssl.SSLContext:
    """TLS with `tls.crt` and `tls.key`; with a `ca.crt` beside them, clients must show a certificate of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority = directory / "ca.crt"
    if authority.exists():
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def http(register: Register) -> Serve:
    """HTTP/1.1, HTTP/2 with prior knowledge, gRPC and WebSocket."""

    async def serve(connection: Connection) -> None:
        if await connection.begins_with(_PREFACE):
            from meltemi.testing.echo import http2

            await http2.serve(connection, register)
        else:
            from meltemi.testing.echo import http1

            await http1.serve(connection, register)

    return serve


def lines(register: Register, *, greets: bool) -> Serve:
    """Plain TCP: answers each line; with `greets` it speaks first."""

    async def serve(connection: Connection) -> None:
        if greets:
            await connection.send(f"{register.line('welcome')}\n".encode())
        while line := await connection.line():
            await connection.send(f"{register.line(line.decode().rstrip())}\n".encode())

    return serve
