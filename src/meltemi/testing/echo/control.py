"""How tests reach an echo application: its control port, and a gate through which they reach any address of the mesh.

    POST /orders            an Order; answers with the list of replies
    GET  /seen?key=&count=&seconds=      the requests of a key, as soon as there are `count` of them
    CONNECT host:port       (gate only) a tunnel (RFC 9110, 9.3.6)

The control port is not captured by the sidecar, so that a test's own traffic crosses no policy of the test.
"""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import parse_qs, urlsplit

import msgspec

from meltemi.testing.echo.answering import Register
from meltemi.testing.echo.calling import perform
from meltemi.testing.echo.orders import Order, Seen
from meltemi.testing.echo.streams import Connection, Serve

_REFUSED = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"


def control(register: Register) -> Serve:
    """The control port: one request per connection."""

    async def serve(connection: Connection) -> None:
        method, target, length = await _head(connection)
        body = await connection.exactly(length)
        if method == "POST":
            answer = msgspec.json.encode(await perform(msgspec.json.decode(body, type=Order)))
        else:
            query = {name: values[-1] for name, values in parse_qs(urlsplit(target).query).items()}
            seconds = float(query.get("seconds", "0"))
            echoes = await register.seen(query.get("key", ""), int(query.get("count", "0")), seconds)
            answer = msgspec.json.encode(Seen(echoes))
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n"
        await connection.send(f"{head}connection: close\r\n\r\n".encode() + answer)

    return serve


async def gate(connection: Connection) -> None:
    """A tunnel to where the client asks."""
    method, target, _ = await _head(connection)
    host, _, port = target.rpartition(":")
    try:
        if method != "CONNECT":
            raise OSError(f"{method} is not CONNECT")
        reader, writer = await asyncio.open_connection(host, int(port))
    except (OSError, ValueError):
        await connection.send(_REFUSED)
        return
    await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")

    async def back() -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await connection.send(data)
            connection.writer.write_eof()

    answering = asyncio.ensure_future(back())
    try:
        while data := await connection.read():
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        await answering
    finally:
        answering.cancel()
        writer.close()
        await asyncio.gather(answering, return_exceptions=True)


async def _head(connection: Connection) -> tuple[str, str, int]:
    """Method, target and length of the body."""
    line = (await connection.line()).decode()
    if line.count(" ") != 2:
        raise ConnectionError(f"{line!r} begins no request")
    length = 0
    while (header := (await connection.line()).decode().strip()) != "":
        name, _, value = header.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    method, target, _ = line.split(" ")
    return method, target, length
