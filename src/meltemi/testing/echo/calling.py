"""The client: makes the calls of an order, and tells what came of each. No call raises; what went wrong is its reply."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import msgspec

from meltemi.testing.echo.orders import Order, Reply

_PORTS = {"http": 80, "h2": 80, "ws": 80, "grpc": 80, "https": 443, "h2s": 443}
_TLS = ("https", "h2s")


class Caller:
    """Something that can make one call after another; it may keep a connection between them."""

    async def call(self) -> Reply:
        """One call. Raises OSError and the like where no answer comes."""
        raise TypeError("a caller knows how to call")

    async def aclose(self) -> None:
        """Ends the connection, if there is one."""


class Wire:
    """A connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Writes, and waits while the other side does not take it."""
        self.writer.write(data)
        await self.writer.drain()

    async def read(self) -> bytes:
        """Some bytes; empty at the end."""
        return await self.reader.read(1 << 16)

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names of the server's certificate, if it was verified."""
        tls = self.writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else None
        return tuple(name for kind, name in (certificate or {}).get("subjectAltName", ()) if kind == "DNS")

    async def aclose(self) -> None:
        """Closes it."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def connect(order: Order, url: SplitResult) -> Wire:
    """Connects to where an order wants to."""
    host, port = url.hostname or "", url.port or _PORTS.get(url.scheme, 0)
    if order.to:
        host, _, number = order.to.rpartition(":")
        port = int(number)
    tls = client_tls(order, url.scheme) if url.scheme in _TLS else None
    name = (order.sni or url.hostname or "") if tls is not None else None
    reader, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=name)
    return Wire(reader, writer)


def client_tls(order: Order, scheme: str) -> ssl.SSLContext:
    """The client's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2" if scheme == "h2s" else "http/1.1"])
    if order.trusted:
        context.load_verify_locations(cadata=order.trusted)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if order.certificate:
        with tempfile.TemporaryDirectory() as directory:
            pair = Path(directory) / "pair.pem"
            pair.write_text(f"{order.certificate}\n{order.key}")
            context.load_cert_chain(pair)
    return context


async def perform(order: Order) -> list[Reply]:
    """Makes all calls of an order; their replies as they come in."""
    left = order.count
    replies: list[Reply] = []

    async def work() -> None:
        nonlocal left
        caller: Caller | None = None
        try:
            while left > 0:
                left -= 1
                caller = caller or _caller(order)
                reply = await _bounded(caller.call, order.timeout)
                replies.append(reply)
                if not order.reuse or reply.error:
                    await caller.aclose()
                    caller = None
        finally:
            if caller is not None:
                await caller.aclose()

    await asyncio.gather(*(work() for _ in range(min(order.at_once, order.count))))
    return replies


async def _bounded(call: Callable[[], Awaitable[Reply]], seconds: float) -> Reply:
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            reply = await call()
    except TimeoutError:
        reply = Reply(error=f"no answer within {seconds} s")
    except (OSError, EOFError, ValueError) as error:
        reply = Reply(error=f"{type(error).__name__}: {error}")
    return msgspec.structs.replace(reply, seconds=time.monotonic() - started)


def _caller(order: Order) -> Caller:
    """Protocols are loaded when they are first spoken: a pod that only serves starts without them."""
    url = urlsplit(order.url)
    match url.scheme:
        case "http" | "https":
            from meltemi.testing.echo.http_calls import Http1Caller

            return Http1Caller(order, url)
        case "h2" | "h2s":
            from meltemi.testing.echo.http_calls import Http2Caller

            return Http2Caller(order, url)
        case "grpc":
            from meltemi.testing.echo.grpc_calls import GrpcCaller

            return GrpcCaller(order, url)
        case "ws":
            from meltemi.testing.echo.line_calls import WebSocketCaller

            return WebSocketCaller(order, url)
        case "tcp":
            from meltemi.testing.echo.line_calls import TcpCaller

            return TcpCaller(order, url)
    raise ValueError(f"the scheme {url.scheme!r} is none that this client speaks")
