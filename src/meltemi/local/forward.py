"""Carries TCP connections from an address that clients know to an endpoint that serves it, in user space.

Two uses: a service's own address, for pods without a sidecar; and a port of the machine, for a gateway's pods. The kernel
could do it with rules, but not rootless to the outside, and not with a choice of endpoint per connection that follows the
mesh's. Each direction ends by itself (half-close), and what one side has not yet taken is held in a bounded buffer: then
the other side is not read from. A connection outlives the removal of its frontend or endpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import msgspec

_BUFFER = 256 << 10
_BACKLOG = 512
_CONNECT_SECONDS = 5.0
_RESET = struct.pack("ii", 1, 0)

Listen = Callable[[str, int], socket.socket]


class Address(msgspec.Struct, frozen=True, order=True):
    """An IPv4 address and a TCP port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


class ForwardTable:
    """The frontends that are open, and the endpoints behind each.

    `listen` makes a listening socket: `listen_here`, or `Door.listen` with the arguments turned.
    """

    def __init__(self, listen: Listen) -> None:
        self._listen = listen
        self._forwarders: dict[Address, Forwarder] = {}

    def __repr__(self) -> str:
        return f"<ForwardTable: {len(self._forwarders)} frontends>"

    def update(self, wanted: Mapping[Address, Sequence[Address]]) -> dict[Address, OSError]:
        """Opens and closes frontends so that they are exactly these, and tells which could not be opened, and why.

        One that could not be opened is tried again at the next update.
        """
        for address in [address for address in self._forwarders if address not in wanted]:
            self._forwarders.pop(address).close()
        refused = {}
        for address, endpoints in wanted.items():
            forwarder = self._forwarders.get(address)
            if forwarder is None:
                try:
                    listener = self._listen(address.ip, address.port)
                except OSError as error:
                    refused[address] = error
                    continue
                forwarder = self._forwarders[address] = Forwarder(listener)
            forwarder.endpoints = tuple(endpoints)
        return refused

    def frontends(self) -> tuple[Address, ...]:
        """The frontends that are open."""
        return tuple(sorted(self._forwarders))

    def close(self) -> None:
        """Closes all frontends."""
        self.update({})


class Forwarder:
    """One listening socket, and the endpoints among which its connections are spread in turn.

    An endpoint that does not answer is passed over; if none does, the client's connection is reset.
    """

    def __init__(self, listener: socket.socket, endpoints: Sequence[Address] = ()) -> None:
        """Takes the listener over. Call it in a running event loop."""
        self.endpoints = tuple(endpoints)
        self._listener = listener
        self._next = 0
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept)

    def __repr__(self) -> str:
        return f"<Forwarder to {', '.join(map(str, self.endpoints)) or 'nobody'}>"

    def close(self) -> None:
        """Stops listening; connections go on to their own ends."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(_BACKLOG):
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # Out of descriptors: those who wait in the backlog are served when some are free.
                return
            client.setblocking(False)
            task = asyncio.ensure_future(self._join(client))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _join(self, client: socket.socket) -> None:
        upstream = await self._connect()
        if upstream is None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
            return
        for side in (client, upstream):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        near, far = _Side(), _Side()
        near.peer, far.peer = far, near
        try:
            await self._loop.connect_accepted_socket(lambda: far, upstream)
            await self._loop.connect_accepted_socket(lambda: near, client)
        except OSError:
            upstream.close()
            client.close()

    async def _connect(self) -> socket.socket | None:
        for _ in range(len(self.endpoints)):
            endpoints = self.endpoints
            if not endpoints:
                return None
            endpoint = endpoints[self._next % len(endpoints)]
            self._next += 1
            upstream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            upstream.setblocking(False)
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await self._loop.sock_connect(upstream, (endpoint.ip, endpoint.port))
            except OSError:
                upstream.close()
            except BaseException:
                upstream.close()
                raise
            else:
                return upstream
        return None


class _Side(asyncio.Protocol):
    """One side of a joined connection: what it reads, the other writes."""

    peer: _Side

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._has_read_all = False
        self._has_sent_all = False
        self._is_full = False

    def connection_made(self, given: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", given)
        transport.set_write_buffer_limits(high=_BUFFER)
        self._transport = transport
        for data in self._early:
            transport.write(data)
        if self._has_sent_all:
            self.end()
        if self.peer._is_full:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.peer.send(data)

    def eof_received(self) -> bool:
        self._has_read_all = True
        self.peer.end()
        return not self._has_sent_all  # Keep this side open: the answer may still come.

    def pause_writing(self) -> None:
        self._is_full = True
        self.peer.hold()

    def resume_writing(self) -> None:
        self._is_full = False
        self.peer.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.peer.abandon(exc)

    def send(self, data: bytes) -> None:
        if self._transport is None:
            self._early.append(data)
        else:
            self._transport.write(data)

    def end(self) -> None:
        self._has_sent_all = True
        if self._transport is None or self._transport.is_closing():
            return
        if self._has_read_all:
            self._transport.close()
        else:
            with contextlib.suppress(OSError):
                self._transport.write_eof()

    def hold(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()

    def abandon(self, error: Exception | None) -> None:
        """The other side is gone: for good, or by an error that this side's client shall see as one."""
        if self._transport is None or self._transport.is_closing():
            return
        if error is None:
            self._transport.close()
        else:
            self._transport.abort()


def listen_here(ip: str, port: int) -> socket.socket:
    """A listening socket in the network namespace of the calling thread. Raises OSError as bind(2) does."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ip, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
