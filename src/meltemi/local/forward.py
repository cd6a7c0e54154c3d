"""Carries TCP connections from a listening socket to one of several targets, in this process.

It serves two kinds of clients: pods without a sidecar, which connect to a service's virtual address, and the machine
outside, which reaches a LoadBalancer service on a port of its own. Traffic between sidecars never comes here.

Both directions are copied until each has ended by itself, so that a half-closed connection works. Invariant: a slow
reader holds up its own connection only, with a bounded amount of memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

Target = tuple[str, int]
_PIECE = 64 * 1024
_CONNECT_SECONDS = 3.0
_TRIES = 3


class Forwarder:
    """Forwards what arrives on one listening socket. `targets` is asked for each connection; an empty answer refuses it."""

    def __init__(self, listener: socket.socket, targets: Callable[[], Sequence[Target]]) -> None:
        self._listener = listener
        self._targets = targets
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Forwarder {self._listener.getsockname()}: {len(self._connections)} connections>"

    async def start(self) -> None:
        """Begins to accept."""
        self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=_PIECE)

    async def stop(self) -> None:
        """Stops accepting and ends what is under way."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError) as error:
            _log.debug("a forwarded connection ended: %r", error)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await self._connect()
        if there is None:
            # Nobody is there: the client sees a reset rather than an empty answer.
            writer.transport.abort()
            return
        far_reader, far_writer = there
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, far_writer))
                group.create_task(_copy(far_reader, writer))
        except* OSError:
            writer.transport.abort()
        finally:
            far_writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to one target, chosen at random; another one is tried where the first does not answer."""
        targets = list(self._targets())
        random.shuffle(targets)
        for host, port in targets[:_TRIES]:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await asyncio.open_connection(host, port, limit=_PIECE)
        return None


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
