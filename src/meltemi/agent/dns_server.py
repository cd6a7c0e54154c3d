"""Serves names over UDP and TCP, and asks other resolvers for all that are not known here.

`dial` gives a connected socket to one of the others, wherever they are. They are asked in turn, over the protocol that the
client chose, each for two seconds; what they answer is passed on as it is. If there is none, or none answers, the client
gets SERVFAIL and not silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import IPv4Address
from typing import Protocol, cast

from meltemi.agent.dns_messages import completed, failure

_UPSTREAM_SECONDS = 2.0
_PACKET = 65535
_IDLE_SECONDS = 10.0
_AT_ONCE = 512

Dial = Callable[[str, IPv4Address, int], socket.socket]
"""Gives a connected, non-blocking socket: by protocol ("udp" or "tcp"), address and port. May raise OSError."""


class Answers(Protocol):
    """What answers from what it knows."""

    def answer(self, query: bytes, *, over_tcp: bool = False) -> bytes | None:
        """The answer to a query, or None for a name that others know (or a packet that is no query)."""

    def chase(self, answer: bytes) -> bytes | None:
        """The query to put to others for an answer that is only an alias of a name outside; None if it is not."""


class Upstream:
    """The other resolvers."""

    def __init__(self, servers: Sequence[IPv4Address], dial: Dial) -> None:
        self._servers = tuple(servers)
        self._dial = dial

    def __repr__(self) -> str:
        return f"<Upstream {', '.join(map(str, self._servers)) or 'nobody'}>"

    async def ask(self, query: bytes, *, over_tcp: bool) -> bytes | None:
        """The first answer that a resolver gives, or None."""
        own_id = secrets.token_bytes(2)
        for server in self._servers:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_UPSTREAM_SECONDS):
                    exchange = self._over_tcp if over_tcp else self._over_udp
                    answer = await exchange(server, own_id + query[2:])
                return query[:2] + answer[2:]
        return None

    async def _over_udp(self, server: IPv4Address, query: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with self._dial("udp", server, 53) as asking:
            await loop.sock_sendall(asking, query)
            while True:
                answer = await loop.sock_recv(asking, _PACKET)
                if answer[:2] == query[:2]:
                    return answer

    async def _over_tcp(self, server: IPv4Address, query: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(sock=self._dial("tcp", server, 53))
        try:
            writer.write(struct.pack("!H", len(query)) + query)
            return await _framed(reader)
        finally:
            writer.close()


class DnsServer:
    """Answers on one address, over both protocols."""

    def __init__(self, resolver: Answers, upstream: Upstream) -> None:
        self.resolver = resolver
        self._upstream = upstream
        self._work: set[asyncio.Task[None]] = set()
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<DnsServer {self.resolver!r}, {len(self._work)} queries under way>"

    async def start(self, ip: str, port: int = 53) -> None:
        """Listens. Raises OSError if the address cannot be bound."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(ip, port))
        self._tcp = await asyncio.start_server(self._serve_stream, ip, port)

    async def take_over(self, udp: socket.socket, tcp: socket.socket) -> None:
        """Answers on sockets that are bound, and listen, already."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        self._tcp = await asyncio.start_server(self._serve_stream, sock=tcp)

    async def aclose(self) -> None:
        """Stops listening and drops what is under way."""
        if self._udp:
            self._udp.close()
        if self._tcp:
            self._tcp.close()
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def take(self, query: bytes, reply: Callable[[bytes], None]) -> None:
        """Answers a datagram: at once from the table, or later from outside."""
        answer = self.resolver.answer(query)
        if answer is not None and not self.resolver.chase(answer):
            reply(answer)
        elif len(self._work) < _AT_ONCE:
            self._start(self._answer_later(query, reply))

    async def _answer_later(self, query: bytes, reply: Callable[[bytes], None]) -> None:
        answer = await self._answer(query, over_tcp=False)
        if answer is not None:
            reply(answer)

    async def _answer(self, query: bytes, *, over_tcp: bool) -> bytes | None:
        answer = self.resolver.answer(query, over_tcp=over_tcp)
        if answer is None:
            return await self._upstream.ask(query, over_tcp=over_tcp) or failure(query)
        further = self.resolver.chase(answer)
        if further is None:
            return answer
        others = await self._upstream.ask(further, over_tcp=over_tcp)
        return completed(answer, others) if others else answer

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_IDLE_SECONDS):
                    query = await _framed(reader)
                answer = await self._answer(query, over_tcp=True)
                if answer is None:
                    return
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.take(data, lambda answer: self._reply(answer, addr))

    def _reply(self, answer: bytes, addr: tuple[str, int]) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.sendto(answer, addr)


async def _framed(reader: asyncio.StreamReader) -> bytes:
    """One message of DNS over TCP: its length in two bytes, then itself (RFC 1035 section 4.2.2)."""
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return await reader.readexactly(length)
