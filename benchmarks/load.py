"""A load generator for HTTP/1.1: at a fixed rate, whatever the answers take (open loop), or as fast as answers come.

Run as `python -m benchmarks.load`; it obeys commands as `benchmarks.processes` says.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import uvloop

from benchmarks.processes import serve_commands
from benchmarks.report import percentile


class Visitor(asyncio.Protocol):
    """One connection, with one request under way at most."""

    def __init__(self, request: bytes, on_answer: Callable[[Visitor, bool], None]) -> None:
        self.transport: asyncio.Transport
        self.began = 0.0
        self._request = request
        self._on_answer = on_answer
        self._input = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, began: float) -> None:
        """Send the request, which was due at a time."""
        self.began = began
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._input = data = self._input + data if self._input else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        start = data.find(b"content-length: ", 0, end) + len(b"content-length: ")
        length = int(data[start : data.find(b"\r\n", start, end + 2)])
        if len(data) >= end + 4 + length:
            self._input = b""
            self._on_answer(self, data.startswith(b"HTTP/1.1 200"))


class Load:
    """The commands."""

    async def run(
        self, address: str, port: int, host: str, seconds: float, connections: int, rate: int = 0
    ) -> dict[str, Any]:
        """Ask for `seconds`; `rate` requests a second, or without a rate as fast as answers come."""
        loop = asyncio.get_running_loop()
        free: deque[Visitor] = deque()
        due: deque[float] = deque()
        times: list[float] = []
        failed = 0
        stopped = asyncio.Event()
        ended = time.perf_counter() + 3600

        def on_answer(visitor: Visitor, succeeded: bool) -> None:
            nonlocal failed
            now = time.perf_counter()
            times.append(now - visitor.began)
            failed += not succeeded
            if due:
                visitor.ask(due.popleft())
            elif not rate and now < ended:
                visitor.ask(now)
            else:
                free.append(visitor)
                if len(free) == connections:
                    stopped.set()

        request = f"GET / HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\n\r\n".encode()
        for _ in range(connections):
            _, visitor = await loop.create_connection(lambda: Visitor(request, on_answer), address, port)
            free.append(visitor)
        visitors = list(free)
        began = time.perf_counter()
        ended = began + seconds
        if rate:
            for number in range(int(rate * seconds)):
                moment = began + number / rate
                if (wait := moment - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                due.append(moment)
                while due and free:
                    free.popleft().ask(due.popleft())
        else:
            while free:
                free.popleft().ask(time.perf_counter())
        async with asyncio.timeout(seconds + 20):
            while len(free) < connections:
                stopped.clear()
                await stopped.wait()
        wall = time.perf_counter() - began
        for visitor in visitors:
            visitor.transport.abort()
        return {
            "requests": len(times),
            "failed": failed,
            "wall": wall,
            "p50": percentile(times, 0.5) * 1e6,
            "p99": percentile(times, 0.99) * 1e6,
        }


if __name__ == "__main__":
    uvloop.run(serve_commands(Load()))
