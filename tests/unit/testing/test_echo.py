"""The echo application, server and client, on loopback without a mesh."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from meltemi.testing.certificates import Issuer
from meltemi.testing.echo import streams
from meltemi.testing.echo.answering import Register
from meltemi.testing.echo.calling import perform
from meltemi.testing.echo.control import control, gate
from meltemi.testing.echo.orders import Order, Reply, Seen


@asynccontextmanager
async def served(serve: streams.Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    port = await streams.listen(0, serve, tls)
    try:
        yield port.number
    finally:
        await port.aclose()


def register() -> Register:
    return Register("pod-1", "v7")


async def one(order: Order) -> Reply:
    (reply,) = await perform(order)
    assert not reply.error
    return reply


@pytest.mark.parametrize(("scheme", "protocol"), [("http", "HTTP/1.1"), ("h2", "HTTP/2")])
async def test_a_request_is_answered_with_an_account_of_it(scheme: str, protocol: str) -> None:
    async with served(streams.http(register())) as port:
        url = f"{scheme}://127.0.0.1:{port}/books?status=418"
        reply = await one(Order(url=url, method="POST", headers=(("host", "shop"), ("x-a", "1")), body="words"))
    echo = reply.echo
    assert (reply.status, reply.protocol) == (418, protocol)
    assert (echo.version, echo.pod, echo.protocol) == ("v7", "pod-1", protocol)
    assert (echo.method, echo.path, echo.host, echo.body) == ("POST", "/books?status=418", "shop", "words")
    assert echo.headers["x-a"] == "1"


@pytest.mark.parametrize("scheme", ["http", "h2"])
async def test_bodies_may_be_larger_than_a_window(scheme: str) -> None:
    body = "words " * 100_000
    async with served(streams.http(register())) as port:
        reply = await one(Order(url=f"{scheme}://127.0.0.1:{port}/", method="POST", body=body))
    assert reply.echo.body == body


async def test_a_keyed_request_fails_as_often_as_it_asks_and_is_kept() -> None:
    book = register()
    async with served(streams.http(book)) as port, served(control(book)) as control_port:
        headers = (("x-echo-key", "k"), ("x-echo-fail", "2"))
        order = Order(url=f"http://127.0.0.1:{port}/", headers=headers, count=3, reuse=True)
        assert [reply.status for reply in await perform(order)] == [503, 503, 200]
        asked = await one(Order(url=f"http://127.0.0.1:{control_port}/seen?key=k&count=3&seconds=5"))
        assert [echo.attempt for echo in msgspec.json.decode(asked.body, type=Seen).echoes] == [1, 2, 3]


async def test_a_request_can_ask_to_be_cut_off() -> None:
    async with served(streams.http(register())) as port:
        for scheme in ("http", "h2"):
            headers = (("x-echo-key", scheme), ("x-echo-reset", "1"))
            order = Order(url=f"{scheme}://127.0.0.1:{port}/", headers=headers, count=2)
            cut, answered = await perform(order)
            assert cut.error
            assert answered.status == 200


@pytest.mark.parametrize(
    ("kind", "heard"),
    [
        ("server", 3),
        ("client", 1),
        ("bidi", 2),
        ("unary", 1),
    ],
)
async def test_grpc_speaks_all_four_kinds(kind: str, heard: int) -> None:
    async with served(streams.http(register())) as port:
        reply = await one(Order(url=f"grpc://127.0.0.1:{port}", kind=kind, messages=("a", "b")))
        assert (reply.status, len(reply.messages)) == (0, heard)
        if kind == "bidi":
            assert reply.messages == ("v7 pod-1 a", "v7 pod-1 b")
        if kind == "client":
            assert reply.body == "v7 pod-1 a\nv7 pod-1 b"
        refused = await one(Order(url=f"grpc://127.0.0.1:{port}", kind=kind, headers=(("x-echo-status", "14"),)))
        assert refused.status == 14


async def test_websocket_and_tcp_answer_each_message() -> None:
    async with AsyncExitStack() as stack:
        book = register()
        web = await stack.enter_async_context(served(streams.http(book)))
        plain = await stack.enter_async_context(served(streams.lines(book, greets=False)))
        polite = await stack.enter_async_context(served(streams.lines(book, greets=True)))
        expected = ("v7 pod-1 a", "v7 pod-1 b")
        reply = await one(Order(url=f"ws://127.0.0.1:{web}/chat", messages=("a", "b")))
        assert (reply.status, reply.messages) == (101, expected)
        assert (await one(Order(url=f"tcp://127.0.0.1:{plain}", messages=("a", "b")))).messages == expected
        greeted = await one(Order(url=f"tcp://127.0.0.1:{polite}", messages=("a",), hear_first=True))
        assert greeted.messages == ("v7 pod-1 welcome", "v7 pod-1 a")


async def test_tls_tells_the_name_that_was_asked_for(tmp_path: Path) -> None:
    issuer = Issuer("books")
    pair = issuer.server("books.example")
    (tmp_path / "tls.crt").write_text(pair.certificate)
    (tmp_path / "tls.key").write_text(pair.key)
    async with served(streams.http(register()), streams.server_tls(tmp_path)) as port:
        for scheme, protocol in (("https", "HTTP/1.1"), ("h2s", "HTTP/2")):
            url = f"{scheme}://books.example:{port}/"
            reply = await one(Order(url=url, to=f"127.0.0.1:{port}", trusted=issuer.certificate))
            assert (reply.echo.sni, reply.echo.protocol, reply.names) == ("books.example", protocol, ("books.example",))


async def test_the_gate_carries_connections_on() -> None:
    async with served(streams.http(register())) as port, served(gate) as gate_port:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate_port)
        writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b'"version":"v7"' in await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_what_goes_wrong_is_a_reply() -> None:
    async with served(streams.http(register())) as port:
        (slow,) = await perform(Order(url=f"http://127.0.0.1:{port}/?delay=30", timeout=0.05))
        assert slow.error == "no answer within 0.05 s"
    (refused,) = await perform(Order(url=f"http://127.0.0.1:{port}/"))
    assert refused.error.startswith("ConnectionRefusedError")
