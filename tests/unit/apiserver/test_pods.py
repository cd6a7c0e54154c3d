"""Logs and commands of pods, over real sockets, with a pod runner that plays its part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meltemi.kube.client import Client
from meltemi.kube.config import load
from meltemi.kube.errors import ApiError, BadRequest, NotFound, ServerError, Unauthorized
from meltemi.kube.execution import Command, run
from meltemi.kube.resources import PODS
from meltemi.kube.transport import HttpTransport
from meltemi.local.apiserver import refusals
from meltemi.local.apiserver.podaccess import ExecOptions, ExecStreams, LogOptions
from meltemi.local.apiserver.server import ApiServer, listen


class Runner:
    """A pod runner whose commands echo."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.asked: list[LogOptions | ExecOptions] = []
        self.hanging = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def logs(self, namespace: str, pod: str, options: LogOptions) -> AsyncIterator[bytes]:
        self.asked.append(options)
        if options.container == "missing":
            raise refusals.bad_request("container missing is not valid for pod p")
        yield b"first\n"
        if options.follow:
            await self.more.wait()
            yield b"second\n"

    async def exec(self, namespace: str, pod: str, options: ExecOptions, streams: ExecStreams) -> int:
        self.asked.append(options)
        if options.command == ("hang",):
            self.hanging.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        if options.command == ("missing",):
            raise refusals.bad_request("executable file not found: missing")
        await streams.stderr(b"to err")
        if options.tty:
            async for size in streams.resizes():
                await streams.stdout(f"{size.columns}x{size.rows}".encode())
                break
        if options.stdin:
            async for piece in streams.stdin():
                await streams.stdout(piece.upper())
        return int(options.command[1]) if len(options.command) > 1 else 0


@pytest.fixture
def runner() -> Runner:
    return Runner()


@pytest.fixture
async def transport(tmp_path: Path, runner: Runner) -> AsyncIterator[HttpTransport]:
    server = ApiServer(tmp_path / "state", pods=lambda: runner)
    listener = listen()
    await server.start([listener])
    server.write_kubeconfig(tmp_path / "kubeconfig", f"https://127.0.0.1:{listener.getsockname()[1]}")
    pod = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "a"}]}}
    await server.client().create(PODS, pod)
    made = HttpTransport(load(tmp_path / "kubeconfig"))
    yield made
    await made.aclose()
    await server.stop()


async def typed(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_a_log_is_streamed_as_it_goes_on(transport: HttpTransport, runner: Runner) -> None:
    pieces = Client(transport).pod_log("default", "p", follow=True, tail=5)
    async with asyncio.timeout(10):
        assert await anext(pieces) == b"first\n"
        runner.more.set()
        assert [piece async for piece in pieces] == [b"second\n"]
    assert runner.asked == [LogOptions(follow=True, tail_lines=5)]


async def test_a_log_that_cannot_be_read_says_why(transport: HttpTransport) -> None:
    client = Client(transport)
    with pytest.raises(BadRequest, match="container missing is not valid"):
        await anext(client.pod_log("default", "p", container="missing"))
    with pytest.raises(NotFound, match='pods "q" not found'):
        await anext(client.pod_log("default", "q"))


async def test_a_command_has_its_streams_and_its_exit_code(transport: HttpTransport) -> None:
    out, err = bytearray(), bytearray()
    command = Command("default", "p", ("echo", "7"))
    async with asyncio.timeout(10):
        code = await run(transport, command, stdout=out.extend, stderr=err.extend, stdin=typed(b"ab", b"cd"))
    assert (code, bytes(out), bytes(err)) == (7, b"ABCD", b"to err")


async def test_a_terminal_tells_its_size(transport: HttpTransport) -> None:
    async def sizes() -> AsyncIterator[tuple[int, int]]:
        yield 120, 40

    out = bytearray()
    command = Command("default", "p", ("echo",), tty=True)
    async with asyncio.timeout(10):
        assert await run(transport, command, stdout=out.extend, stderr=out.extend, resizes=sizes()) == 0
    assert bytes(out) == b"to err120x40"


async def test_a_command_that_cannot_be_run_says_why(transport: HttpTransport) -> None:
    with pytest.raises(BadRequest, match="executable file not found"):
        await run(transport, Command("default", "p", ("missing",)), stdout=print, stderr=print)
    with pytest.raises(ApiError):
        await run(transport, Command("default", "nobody", ("x",)), stdout=print, stderr=print)


async def test_a_command_ends_when_its_client_goes_away(transport: HttpTransport, runner: Runner) -> None:
    running = asyncio.create_task(run(transport, Command("default", "p", ("hang",)), stdout=print, stderr=print))
    async with asyncio.timeout(10):
        await runner.hanging.wait()
        running.cancel()
        await runner.cancelled.wait()
    assert isinstance((await asyncio.gather(running, return_exceptions=True))[0], asyncio.CancelledError)


async def test_commands_are_for_the_administrator_only(transport: HttpTransport, tmp_path: Path) -> None:
    text = (tmp_path / "kubeconfig").read_text().replace("token: ", "token: x")
    (tmp_path / "other").write_text(text)
    stranger = HttpTransport(load(tmp_path / "other"))
    with pytest.raises((Unauthorized, ServerError)):
        await run(stranger, Command("default", "p", ("x",)), stdout=print, stderr=print)
    await stranger.aclose()
