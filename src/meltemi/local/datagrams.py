"""Carries datagrams from an address that clients know to endpoints that answer them, in user space: QUIC to a gateway.

UDP has no connections, so a client is known by its address and port: all that it sends goes to one endpoint, by a socket
of its own, and what comes back on that socket goes to the client. Nobody says goodbye. Who has been silent for a while is
forgotten, and so is, where there are too many, whoever has been silent the longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

import msgspec

from meltemi.local.forward import Address

IDLE_SECONDS = 300.0
"""For how long a client is remembered: as long as Envoy keeps a silent QUIC connection."""
MOST_CLIENTS = 512
_LARGEST = 65535
_BURST = 64  # datagrams taken at once, before others have their turn

Client = tuple[str, int]


class _Flow(msgspec.Struct):
    """What one client sends, and what is sent back. `used`: when last, on the loop's clock."""

    upstream: socket.socket
    used: float


class DatagramForwarder:
    """One bound socket, and the endpoints among which its clients are spread in turn.

    Datagrams for which there is no endpoint are lost, as datagrams may be.
    """

    def __init__(
        self, front: socket.socket, endpoints: Sequence[Address] = (), *, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        """Takes the socket over. Call it in a running event loop."""
        self.endpoints = tuple(endpoints)
        self._front = front
        self._idle = idle_seconds
        self._next = 0
        self._flows: dict[Client, _Flow] = {}  # whoever has been silent the longest comes first
        self._loop = asyncio.get_running_loop()
        self._sweeping: asyncio.TimerHandle | None = None
        front.setblocking(False)
        self._loop.add_reader(front.fileno(), self._from_clients)

    def __repr__(self) -> str:
        return f"<DatagramForwarder of {self.clients} clients to {', '.join(map(str, self.endpoints)) or 'nobody'}>"

    @property
    def clients(self) -> int:
        """How many clients are remembered."""
        return len(self._flows)

    def close(self) -> None:
        """Stops at once, for all clients."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for client in list(self._flows):
            self._forget(client)
        self._loop.remove_reader(self._front.fileno())
        self._front.close()

    def _from_clients(self) -> None:
        for _ in range(_BURST):
            try:
                data, client = self._front.recvfrom(_LARGEST)
            except OSError:
                return
            flow = self._flows.pop(client, None) or self._begin(client)
            if flow is None:
                continue
            flow.used = self._loop.time()
            self._flows[client] = flow
            with contextlib.suppress(OSError):
                flow.upstream.send(data)

    def _begin(self, client: Client) -> _Flow | None:
        if not self.endpoints:
            return None
        if len(self._flows) >= MOST_CLIENTS:
            self._forget(next(iter(self._flows)))
        endpoint = self.endpoints[self._next % len(self.endpoints)]
        self._next += 1
        upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        upstream.setblocking(False)
        try:
            upstream.connect((endpoint.ip, endpoint.port))
        except OSError:
            upstream.close()
            return None
        self._loop.add_reader(upstream.fileno(), self._from_endpoint, client, upstream)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._idle, self._sweep)
        return _Flow(upstream, self._loop.time())

    def _from_endpoint(self, client: Client, upstream: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                data = upstream.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there any more: what the client sends next finds another endpoint
                self._forget(client)
                return
            with contextlib.suppress(OSError):
                self._front.sendto(data, client)

    def _sweep(self) -> None:
        now = self._loop.time()
        for client in [client for client, flow in self._flows.items() if flow.used + self._idle <= now]:
            self._forget(client)
        oldest = next(iter(self._flows.values()), None)
        self._sweeping = None if oldest is None else self._loop.call_at(oldest.used + self._idle, self._sweep)

    def _forget(self, client: Client) -> None:
        flow = self._flows.pop(client)
        self._loop.remove_reader(flow.upstream.fileno())
        flow.upstream.close()
