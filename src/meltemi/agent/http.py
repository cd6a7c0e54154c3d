"""As much HTTP/1.1 as scraping and being scraped needs: one request per connection, bodies in pieces.

Source: RFC 9112. A response of ours ends with its connection, so it needs no length in advance.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus

import msgspec

_MAX_HEAD = 16 * 1024
_PIECE = 32 * 1024


class HttpError(Exception):
    """The other side cannot be reached, or does not speak HTTP as it should."""


class Request(msgspec.Struct, frozen=True):
    """The head of a request, and whether it came from the same host (or pod)."""

    method: str
    path: str
    local: bool


class Answer(msgspec.Struct, frozen=True):
    """A status, and a body as an iterator of pieces."""

    status: int
    body: AsyncGenerator[bytes, None]
    content_type: str = "text/plain; charset=utf-8"


async def text(body: str) -> AsyncGenerator[bytes, None]:
    """A body of one piece."""
    yield body.encode()


Handler = Callable[[Request], Awaitable[Answer]]
Dial = Callable[[str, int], Awaitable[socket.socket]]


async def dial(host: str, port: int) -> socket.socket:
    """A connection from this process's own network namespace. Raises OSError."""
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    return await connect(connection, host, port)


async def connect(connection: socket.socket, host: str, port: int) -> socket.socket:
    """Connects a socket, and closes it if that fails. Raises OSError."""
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (host, port))
    except BaseException:
        connection.close()
        raise
    return connection


# === asking ===


class Response(msgspec.Struct, frozen=True):
    """The answer of a server: `body` can be read once, while the connection is open."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]


@asynccontextmanager
async def ask(
    dialled: Dial, host: str, port: int, path: str, *, method: str = "GET", seconds: float = 10
) -> AsyncIterator[Response]:
    """One request. The whole of it, reading included, may take `seconds`. Raises HttpError."""
    try:
        async with asyncio.timeout(seconds):
            connection = await dialled(host, port)
            reader, writer = await asyncio.open_connection(sock=connection, limit=_MAX_HEAD)
            try:
                head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: text/plain;version=0.0.4\r\n"
                writer.write(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
                status, headers = await _read_head(reader)
                yield Response(status, headers, _read_body(reader, headers))
            finally:
                writer.transport.abort()
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise HttpError(f"cannot read http://{host}:{port}{path}: {error or type(error).__name__}") from error


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("the answer is not HTTP/1.1")
    fields = (line.partition(":") for line in lines)
    return int(rest[:3]), {name.strip().lower(): value.strip() for name, _, value in fields}


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            async for piece in _read_exactly(reader, size):
                yield piece
            await reader.readexactly(2)
    elif "content-length" in headers:
        async for piece in _read_exactly(reader, int(headers["content-length"])):
            yield piece
    else:
        while piece := await reader.read(_PIECE):
            yield piece


async def _read_exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size > 0:
        piece = await reader.read(min(size, _PIECE))
        if not piece:
            raise EOFError("the body ended early")
        size -= len(piece)
        yield piece


# === answering ===


class HttpServer:
    """Answers requests on sockets that listen already, wherever (in whichever network namespace) they were opened."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.Task[None]] = set()

    async def listen(self, listener: socket.socket) -> None:
        """Takes over a listening socket."""
        listener.setblocking(False)
        self._servers.append(await asyncio.start_server(self._accepted, sock=listener, limit=_MAX_HEAD))

    async def aclose(self) -> None:
        """Stops listening and drops the connections."""
        for server in self._servers:
            server.close()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        try:
            async with asyncio.timeout(60):
                await self._serve(reader, writer)
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError):
            pass  # the client went away or speaks something else: there is nobody to tell
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split("\r\n", 1)[0].split(" ", 2)
        peer = writer.get_extra_info("peername") or ("",)
        answer = await self._handler(Request(method, path.partition("?")[0], peer[0] in ("127.0.0.1", "::1")))
        phrase = HTTPStatus(answer.status).phrase
        lines = [f"HTTP/1.1 {answer.status} {phrase}", f"Content-Type: {answer.content_type}", "Connection: close"]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        async with aclosing(answer.body) as body:
            async for piece in body:
                writer.write(piece)
                await writer.drain()
        writer.write_eof()
        await writer.drain()
