"""Datagrams: from clients to endpoints and back, and who is forgotten."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from meltemi.local.datagrams import DatagramForwarder
from meltemi.local.forward import Address


def bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.setblocking(False)
    return made


def address(of: socket.socket) -> Address:
    return Address(*of.getsockname())


async def next_turn() -> None:
    await asyncio.sleep(0)


async def ask(client: socket.socket, front: tuple[str, int], data: bytes = b"hello") -> bytes:
    """Send until an answer comes: a datagram may be lost."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        while True:
            await loop.sock_sendto(client, data, front)
            try:
                async with asyncio.timeout(1):
                    return await loop.sock_recv(client, 100)
            except TimeoutError:
                pass


@asynccontextmanager
async def endpoint(name: bytes) -> AsyncIterator[socket.socket]:
    """Answers with its name and what it was sent."""
    made, loop = bound(), asyncio.get_running_loop()

    async def serve() -> None:
        while True:
            data, client = await loop.sock_recvfrom(made, 100)
            await loop.sock_sendto(made, name + data, client)

    task = asyncio.create_task(serve())
    try:
        yield made
    finally:
        task.cancel()
        made.close()


@asynccontextmanager
async def forwarder(
    endpoints: Sequence[socket.socket], idle_seconds: float = 60
) -> AsyncIterator[tuple[DatagramForwarder, tuple[str, int]]]:
    front = bound()
    where = front.getsockname()
    made = DatagramForwarder(front, [address(each) for each in endpoints], idle_seconds=idle_seconds)
    try:
        yield made, where
    finally:
        made.close()


async def test_each_client_keeps_its_endpoint_and_gets_its_own_answers() -> None:
    async with endpoint(b"a") as a, endpoint(b"b") as b, forwarder([a, b]) as (_, front):
        with bound() as one, bound() as two:
            assert await ask(one, front) == b"ahello"
            assert await ask(two, front) == b"bhello"
            assert await ask(one, front, b"again") == b"aagain"
            assert await ask(two, front, b"again") == b"bagain"


async def test_a_client_whose_endpoint_is_gone_finds_another() -> None:
    gone = bound()
    gone_address = address(gone)
    gone.close()
    async with endpoint(b"b") as b, forwarder([]) as (made, front):
        made.endpoints = (gone_address, address(b))
        with bound() as client:
            assert await ask(client, front) == b"bhello"


async def test_who_is_silent_is_forgotten() -> None:
    async with endpoint(b"a") as a, forwarder([a], idle_seconds=0.1) as (made, front):
        with bound() as client:
            await ask(client, front)
            async with asyncio.timeout(10):
                while made.clients:
                    await next_turn()
            assert await ask(client, front) == b"ahello"
            assert made.clients == 1


async def test_without_endpoints_datagrams_are_lost() -> None:
    async with endpoint(b"a") as a, forwarder([]) as (made, front):
        with bound() as client:
            client.sendto(b"lost", front)
            made.endpoints = (address(a),)
            assert (await ask(client, front)).startswith(b"a")
