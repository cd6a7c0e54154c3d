"""The agent as whoever starts proxies sees it: add, remove, wait, list.

The agent may be restarted at any time; its proxies' descriptions and sockets are remembered here and told to it again as
soon as it is back. Invariant: a call returns when the agent has done it, however often it was restarted in between, and
what was added and not removed is what the agent serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

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
    decode_reply,
    encode,
    new_socket,
    receive,
    send,
)
from meltemi.agent.spec import ProxySpec

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.2


class _Held(msgspec.Struct, frozen=True):
    """A proxy that the agent is to serve, with descriptors of our own."""

    spec: ProxySpec
    listeners: tuple[int, ...]
    resolvers: tuple[int, ...]
    namespace: int | None

    @property
    def descriptors(self) -> tuple[int, ...]:
        sockets = (*self.listeners, *self.resolvers)
        return sockets if self.namespace is None else (*sockets, self.namespace)


_Make = Callable[[int], tuple[Request, Sequence[int]]]
"""Makes a request of a number, with the descriptors to go beside it."""


class _Disconnected(Exception):
    """The agent went away before it answered."""


class AgentClient:
    """Keeps an agent process informed. To be used within one event loop; close it with `aclose`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: dict[str, _Held] = {}
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Reply]] = {}
        self._connection: socket.socket | None = None
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost.set()
        self._task = asyncio.create_task(self._keep_connected(), name="connection to the agent")

    def __repr__(self) -> str:
        state = "connected" if self._connected.is_set() else "not connected"
        return f"<AgentClient {state}, {len(self._held)} proxies>"

    async def add(
        self,
        spec: ProxySpec,
        *,
        listeners: Sequence[socket.socket] = (),
        resolvers: Sequence[socket.socket] = (),
        namespace: int | None = None,
    ) -> ProxyStatus:
        """Has a proxy served: its secret socket is there when this returns, its certificate follows (`wait_ready`).

        `listeners` listen already on port 15020 in the pod; `resolvers` are the two sockets for its DNS, if the spec has
        a `naming` (see `DnsProxy`); `namespace` is a descriptor of its network namespace, needed if the agent lives in
        another. All are duplicated; the caller may close its own. Raises ControlError.
        """
        self._forget(spec.id)
        held = _Held(
            spec,
            tuple(os.dup(listener.fileno()) for listener in listeners),
            tuple(os.dup(resolver.fileno()) for resolver in resolvers),
            None if namespace is None else os.dup(namespace),
        )
        self._held[spec.id] = held
        return (await self._ask(functools.partial(self._add, held))).proxies[0]

    async def remove(self, proxy: str) -> None:
        """Has a proxy (`<pod>.<namespace>`) served no longer. Raises ControlError."""
        self._forget(proxy)
        await self._ask(lambda number: (Remove(number, proxy), ()))

    async def wait_ready(self, proxy: str) -> ProxyStatus:
        """Returns when a proxy has its certificate. Raises ControlError if it was never added."""
        return (await self._ask(lambda number: (Wait(number, proxy), ()))).proxies[0]

    async def list(self) -> tuple[ProxyStatus, ...]:
        """How all proxies stand. Raises ControlError."""
        return (await self._ask(lambda number: (List(number), ()))).proxies

    async def aclose(self) -> None:
        """Ends the connection. The agent goes on serving what it serves."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._disconnect()
        for proxy in list(self._held):
            self._forget(proxy)

    def _forget(self, proxy: str) -> None:
        if (held := self._held.pop(proxy, None)) is not None:
            close_all(held.descriptors)

    def _add(self, held: _Held, number: int) -> tuple[Request, Sequence[int]]:
        if self._held.get(held.spec.id) is not held:
            raise ControlError(f"{held.spec.id} was removed or added again before the agent served it")
        request = Add(number, held.spec, len(held.listeners), len(held.resolvers), held.namespace is not None)
        return request, held.descriptors

    async def _ask(self, make: _Make) -> Reply:
        """Sends a request until it is answered. Raises ControlError if it is refused."""
        while True:
            await self._connected.wait()
            with contextlib.suppress(_Disconnected):
                return await self._send(make)

    async def _send(self, make: _Make) -> Reply:
        number = next(self._numbers)
        request, descriptors = make(number)
        packet = encode(request)
        if self._connection is None:
            raise _Disconnected
        try:
            send(self._connection, packet, descriptors)
        except OSError as error:
            self._disconnect()
            raise _Disconnected from error
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            reply = await answer
        finally:
            self._answers.pop(number, None)
        if reply.error:
            raise ControlError(reply.error)
        return reply

    async def _keep_connected(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._lost.wait()
            try:
                await self._connect()
                for held in list(self._held.values()):
                    with contextlib.suppress(ControlError):
                        await self._send(functools.partial(self._add, held))
            except (OSError, _Disconnected):
                self._disconnect()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE
                self._connected.set()

    async def _connect(self) -> None:
        connection = new_socket()
        try:
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        self._connection = connection
        self._lost.clear()
        asyncio.get_running_loop().add_reader(connection.fileno(), self._readable, connection)

    def _readable(self, connection: socket.socket) -> None:
        try:
            packet, descriptors = receive(connection)
            close_all(descriptors)
            reply = decode_reply(packet) if packet else None
        except BlockingIOError:
            return
        except (OSError, ControlError):
            reply = None
        if reply is None:
            self._disconnect()
        elif (answer := self._answers.get(reply.id)) is not None and not answer.done():
            answer.set_result(reply)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._connected.clear()
        self._lost.set()
        if connection is not None:
            asyncio.get_running_loop().remove_reader(connection.fileno())
            connection.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(_Disconnected())
