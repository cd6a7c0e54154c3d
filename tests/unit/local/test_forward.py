"""TCP forwarding over loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from meltemi.local.forward import Address, ForwardTable, listen_here
from meltemi.testing.envoys import free_ports

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_port() -> int:
    [port] = free_ports(1)
    return port


@asynccontextmanager
async def backend(serve: Serve) -> AsyncIterator[Address]:
    """A server on loopback."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads everything, then answers with it in upper case."""
    writer.write((await reader.read()).upper())
    await writer.drain()
    writer.close()


@asynccontextmanager
async def table(endpoints: list[Address]) -> AsyncIterator[tuple[ForwardTable, Address]]:
    """A table with one frontend."""
    front = Address("127.0.0.1", free_port())
    forwards = ForwardTable(listen_here)
    assert forwards.update({front: endpoints}) == {}
    try:
        yield forwards, front
    finally:
        forwards.close()


async def exchange(front: Address, data: bytes) -> bytes:
    """Sends, ends its direction, and reads to the end."""
    reader, writer = await asyncio.open_connection(front.ip, front.port)
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_an_answer_comes_after_the_request_has_ended() -> None:
    async with backend(shout) as server, table([server]) as (_, front):
        assert await exchange(front, b"hello") == b"HELLO"


async def test_much_data_goes_through_whole() -> None:
    data = bytes(range(97, 123)) * 200_000
    async with backend(shout) as server, table([server]) as (_, front):
        assert await exchange(front, data) == data.upper()


async def test_a_reader_who_does_not_read_stops_the_writer() -> None:
    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal poured
        try:
            while True:
                writer.write(bytes(1 << 16))
                await asyncio.wait_for(writer.drain(), 0.5)
                poured += 1 << 16
        except (TimeoutError, ConnectionError):
            stopped.set()
        writer.transport.abort()

    poured, stopped = 0, asyncio.Event()
    async with backend(pour) as server, table([server]) as (_, front):
        with socket.socket() as client:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, (front.ip, front.port))
            await asyncio.wait_for(stopped.wait(), 20)
    assert poured < 64 << 20


async def test_an_endpoint_that_does_not_answer_is_passed_over() -> None:
    async with backend(shout) as server, table([Address("127.0.0.1", free_port()), server]) as (_, front):
        assert [await exchange(front, b"a") for _ in range(4)] == [b"A"] * 4


async def test_connections_are_spread_in_turn() -> None:
    def named(name: bytes) -> Serve:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(name)
            writer.close()

        return serve

    async with backend(named(b"1")) as one, backend(named(b"2")) as two, table([one, two]) as (_, front):
        assert sorted([await exchange(front, b"") for _ in range(4)]) == [b"1", b"1", b"2", b"2"]


async def test_a_frontend_without_endpoints_resets_its_clients() -> None:
    async with table([]) as (_, front):
        reader, _ = await asyncio.open_connection(front.ip, front.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_an_update_closes_and_reports_what_cannot_be_opened() -> None:
    async with backend(shout) as server, table([server]) as (forwards, front):
        other = Address("127.0.0.1", server.port)
        refused = forwards.update({other: [server]})
        assert list(refused) == [other]
        assert forwards.frontends() == ()
        with pytest.raises(ConnectionRefusedError):
            await exchange(front, b"")
