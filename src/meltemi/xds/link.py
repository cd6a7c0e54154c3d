"""TLS and sockets under HTTP/2: bytes between the network and a connection, with little memory for each peer.

All links read into one buffer, because only one of them reads at a time; what is written goes through TLS in small
portions, and only as fast as the socket takes them. So a peer that is idle costs its TLS session and nothing else,
however much it was sent before.

Python's own TLS transports keep a read buffer of a quarter of a megabyte for each peer, and gRPC's server what it sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, cast

from meltemi.xds.http2 import Connection, Method

log = logging.getLogger(__name__)

READ = 64 << 10
PORTION = 8 << 10  # what goes through TLS at once: OpenSSL keeps as much room for each peer as it once needed
# How much may wait for the socket before writing pauses, and how little goes on with it. In bytes.
HIGH, LOW = 64 << 10, 16 << 10
HANDSHAKE_SECONDS = 60.0  # many proxies that come back at once wait for one another

_shared = memoryview(bytearray(READ))

Context = Callable[[], ssl.SSLContext]


class Link(asyncio.BufferedProtocol):
    """One peer's socket, with TLS if there is a context, and its HTTP/2 connection above."""

    def __init__(self, methods: Mapping[str, Method], links: set[Link], context: Context | None) -> None:
        self.connection: Connection | None = None
        self.certificate: Mapping[str, Any] | None = None
        self.is_full = False
        self._methods = methods
        self._links = links
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context().wrap_bio(self._incoming, self._outgoing, server_side=True)

    # === the socket ===

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The peer has connected."""
        self._transport = own = cast("asyncio.Transport", transport)
        own.set_write_buffer_limits(HIGH, LOW)
        _keep_alive(own.get_extra_info("socket"))
        self._links.add(self)
        if self._tls is None:
            self.connection = Connection(self._methods, self)
        else:
            self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self.abort)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to: the same place for all, emptied before anyone else reads."""
        return _shared

    def buffer_updated(self, nbytes: int) -> None:
        """So much was read."""
        tls = self._tls
        if tls is None:
            self._hand_up(bytes(_shared[:nbytes]))
            return
        try:
            for start in range(0, nbytes, PORTION):
                self._incoming.write(_shared[start : min(start + PORTION, nbytes)])
                if self.connection is not None or self._shake_hands(tls):
                    self._decrypt(tls)
        except (ssl.SSLError, ssl.CertificateError) as error:
            log.info("a peer failed in TLS: %s", error)
            self._push_out()
            self.close()

    def eof_received(self) -> bool:
        """The peer says no more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._links.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.connection is not None:
            self.connection.lost()
        self._transport = self._tls = None

    def pause_writing(self) -> None:
        """Too much is waiting for the socket."""
        self.is_full = True

    def resume_writing(self) -> None:
        """The socket takes more."""
        self.is_full = False
        if self.connection is not None:
            self.connection.writable()

    # === TLS ===

    def _shake_hands(self, tls: ssl.SSLObject) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._push_out()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if tls.selected_alpn_protocol() not in (None, "h2"):
            raise ssl.SSLError("the peer does not speak HTTP/2")
        self.certificate = tls.getpeercert()
        self.connection = Connection(self._methods, self)
        return True

    def _decrypt(self, tls: ssl.SSLObject) -> None:
        while self._incoming.pending or tls.pending():
            try:
                data = tls.read(READ)
            except ssl.SSLWantReadError:
                break
            if not data:
                self.close()
                return
            self._hand_up(data)
        self._push_out()

    def _hand_up(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.received(data)

    def _push_out(self) -> None:
        if self._transport is not None and self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    # === for the connection ===

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._tls is None:
            self._transport.write(data)
            return
        try:
            left = memoryview(data)
            while left:
                left = left[self._tls.write(left) :]
        except ssl.SSLError as error:
            log.info("a peer failed in TLS: %s", error)
            self.abort()
            return
        self._push_out()

    def close(self) -> None:
        """Send what is queued, and end the connection."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()


class Listener:
    """A listening socket and its links. `context` is asked for each connection, so that certificates can be renewed."""

    def __init__(self, methods: Mapping[str, Method], context: Context | None = None) -> None:
        self.links: set[Link] = set()
        self._methods = methods
        self._context = context
        self._server: asyncio.Server | None = None

    async def open(self, address: str, port: int) -> int:
        """Listen; the port that was taken. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Link(self._methods, self.links, self._context), address, port, backlog=1024
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Listen no more, and end all connections."""
        if self._server is not None:
            self._server.close()
        for link in list(self.links):
            if link.connection is not None:
                link.connection.close()
            link.abort()
        if self._server is not None:
            await self._server.wait_closed()


def _keep_alive(connection: socket.socket | None) -> None:
    """Let the kernel find out when a peer is gone without a word: after about a minute."""
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
