"""What the echo server answers: its account of the request, in the way that the request asks for.

x-echo-status: 503         the status (also as `status` in the query)
x-echo-delay: 0.5          seconds to wait before (also `delay`)
x-echo-key: some-name      requests of this name are kept, for `Register.seen`
x-echo-fail: 2             the first two requests of that key fail with the status (503 by default)
x-echo-reset: 2            the first two requests of that key are cut off without an answer
x-echo-set: name=value     a header of the answer
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

import msgspec

from meltemi.testing.echo.orders import Echo

_UNAVAILABLE = 503
_KEPT = 1000


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request, whatever protocol it came by. Header names are lower-case, repeated headers joined by commas."""

    protocol: str
    method: str = ""
    target: str = ""
    host: str = ""
    headers: dict[str, str] = {}
    body: str = ""
    peer: str = ""
    sni: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What to answer, and after how many seconds. `reset`: cut the connection instead."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: float = 0.0
    reset: bool = False


class Register:
    """Who this server is, and what it has seen under each key."""

    def __init__(self, pod: str, version: str) -> None:
        self.pod = pod
        self.version = version
        self._seen: defaultdict[str, list[Echo]] = defaultdict(list)
        self._news = asyncio.Condition()

    def __repr__(self) -> str:
        return f"<Register of {self.pod} {self.version}: {len(self._seen)} keys>"

    async def answer(self, request: Request) -> Answer:
        """Keeps the request if it has a key, and tells what to answer."""
        query = {name: values[-1] for name, values in parse_qs(urlsplit(request.target).query).items()}

        def said(name: str) -> str:
            return request.headers.get(f"x-echo-{name}") or query.get(name, "")

        def asked(name: str) -> str:
            return said(name) if said("only") in ("", self.version, self.pod) else ""

        key = said("key")
        echo = self._echo(request, len(self._seen[key]) + 1 if key else 0)
        if key:
            await self._keep(key, echo)
        fails = int(asked("fail") or 0)
        status = int(asked("status") or (_UNAVAILABLE if fails else 200))
        if fails and echo.attempt > fails:
            status = 200
        name, _, value = asked("set").partition("=")
        return Answer(
            status=status,
            headers=(("content-type", "application/json"), *(((name, value),) if name else ())),
            body=msgspec.json.encode(echo),
            delay=float(asked("delay") or 0),
            reset=0 < echo.attempt <= int(asked("reset") or 0),
        )

    async def seen(self, key: str, count: int, seconds: float) -> tuple[Echo, ...]:
        """The requests of a key; waits until there are `count`, for `seconds` at most."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: len(self._seen[key]) >= count)
        except TimeoutError:
            pass
        return tuple(self._seen[key])

    def line(self, text: str) -> str:
        """The answer to a line over TCP."""
        return f"{self.version} {self.pod} {text}"

    def _echo(self, request: Request, attempt: int) -> Echo:
        return Echo(
            version=self.version,
            pod=self.pod,
            protocol=request.protocol,
            method=request.method,
            path=request.target,
            host=request.host,
            headers=request.headers,
            body=request.body,
            peer=request.peer,
            attempt=attempt,
            sni=request.sni,
        )

    async def _keep(self, key: str, echo: Echo) -> None:
        async with self._news:
            if len(self._seen[key]) < _KEPT:
                self._seen[key].append(echo)
            self._news.notify_all()
