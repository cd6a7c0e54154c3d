"""The agent process: `python -m meltemi.agent --control <unix socket>`.

It serves as many proxies as it is told to. On one machine there is one such process for all pods; in a pod of its own it
serves that one. It lives on when the control plane is away: certificates that hold are served on and renewals retried.
When it restarts, Envoys keep what they have and come back to their sockets; whoever started them tells it about them again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from meltemi.agent.control import (
    Add,
    ControlError,
    List,
    ProxyStatus,
    Remove,
    Reply,
    Request,
    Wait,
    close_all,
    decode_request,
    encode,
    receive,
    send,
)
from meltemi.agent.dns_proxy import SOCKETS
from meltemi.agent.proxy import ProxyAgent
from meltemi.agent.sockets import listen_privately

log = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0
"""How often files are looked at for changes."""

_CALLS_AT_ONCE = 4


class Agent:
    """All proxies that this process serves."""

    def __init__(self, clock: Callable[[], datetime], random: Random) -> None:
        self._clock = clock
        self._random = random
        self._slots = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._proxies: dict[str, ProxyAgent] = {}
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Agent of {len(self._proxies)} proxies>"

    async def do(self, request: Request, descriptors: list[int]) -> Reply:
        """Does what is asked; takes the descriptors over. Failures are told in the reply."""
        try:
            match request:
                case Add():
                    return Reply(request.id, proxies=(await self._add(request, descriptors),))
                case Remove():
                    await self._remove(request.proxy)
                    return Reply(request.id)
                case Wait():
                    return Reply(request.id, proxies=(await self._wait(request.proxy),))
                case List():
                    return Reply(request.id, proxies=tuple(proxy.status() for proxy in self._proxies.values()))
        except (OSError, ControlError) as error:
            return Reply(request.id, str(error))

    async def aclose(self) -> None:
        """Stops serving all of them."""
        for name in list(self._proxies):
            await self._remove(name)

    def refresh(self) -> None:
        """Looks at the files of all proxies again."""
        for proxy in self._proxies.values():
            proxy.refresh()

    async def _add(self, request: Add, descriptors: list[int]) -> ProxyStatus:
        sockets = request.listeners + request.resolvers
        if len(descriptors) != sockets + request.namespace or request.resolvers not in (0, SOCKETS):
            close_all(descriptors)
            raise ControlError(f"{len(descriptors)} descriptors came where {sockets} sockets were told of")
        async with self._changing:
            try:
                proxy = self._proxies.get(request.proxy.id)
                if proxy is None or proxy.spec != request.proxy:
                    await self._drop(request.proxy.id)
                    proxy = ProxyAgent(request.proxy, self._clock, self._random, self._slots)
                    await proxy.start()
                    self._proxies[request.proxy.id] = proxy
            except OSError:
                close_all(descriptors)
                raise
            namespace = descriptors.pop() if request.namespace else None
            opened = [socket.socket(fileno=number) for number in descriptors]
            await proxy.listen(opened[: request.listeners], opened[request.listeners :], namespace)
            return proxy.status()

    async def _remove(self, name: str) -> None:
        async with self._changing:
            await self._drop(name)

    async def _drop(self, name: str) -> None:
        if (proxy := self._proxies.pop(name, None)) is not None:
            await proxy.aclose()

    async def _wait(self, name: str) -> ProxyStatus:
        proxy = self._proxies.get(name)
        if proxy is None:
            raise ControlError(f"there is no proxy {name}")
        await proxy.ready.wait()
        return proxy.status()


class ControlServer:
    """Takes requests on a listening SOCK_SEQPACKET socket, from processes of the same user only."""

    def __init__(self, agent: Agent, listener: socket.socket) -> None:
        self._agent = agent
        self._listener = listener
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[socket.socket] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Stops taking requests."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for connection in list(self._connections):
            self._hang_up(connection)
        for task in self._tasks:
            task.cancel()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._connections.add(connection)
            self._loop.add_reader(connection.fileno(), self._readable, connection)

    def _readable(self, connection: socket.socket) -> None:
        try:
            packet, descriptors = receive(connection)
        except BlockingIOError:
            return
        except (OSError, ControlError) as error:
            log.warning("control: %s", error)
            packet, descriptors = b"", []
        if not packet:
            close_all(descriptors)
            self._hang_up(connection)
            return
        task = asyncio.create_task(self._answer(connection, packet, descriptors))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, connection: socket.socket, packet: bytes, descriptors: list[int]) -> None:
        try:
            request = decode_request(packet)
        except ControlError as error:
            log.warning("control: %s", error)
            close_all(descriptors)
            self._hang_up(connection)
            return
        reply = await self._agent.do(request, descriptors)
        if connection in self._connections:
            try:
                send(connection, encode(reply))
            except (OSError, ControlError) as error:
                log.warning("control: cannot answer: %s", error)
                self._hang_up(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            self._loop.remove_reader(connection.fileno())
            connection.close()


async def run(control: Path, stop: asyncio.Event) -> None:
    """Serves until `stop` is set. Raises OSError if the control socket cannot be made."""
    agent = Agent(lambda: datetime.now(UTC), Random())
    server = ControlServer(agent, listen_privately(control, socket.SOCK_SEQPACKET))
    try:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await stop.wait()
            agent.refresh()
    finally:
        server.close()
        await agent.aclose()
        control.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> None:
    """The process."""
    parser = argparse.ArgumentParser(prog="meltemi-agent", description="Serves certificates and metrics of proxies.")
    parser.add_argument(
        "--control", type=Path, required=True, help="unix socket on which proxies are added and removed"
    )
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s agent %(message)s")
    asyncio.run(_until_signal(options.control))


async def _until_signal(control: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(control, stop)
