"""A steady load of HTTP requests, and what came of each.

Every worker sends one request after the other over a connection that it keeps, and tries none twice. Nothing is lost
if every request was answered with 200.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

_TIMEOUT = aiohttp.ClientTimeout(total=20)
_ORDER_TIMEOUT = aiohttp.ClientTimeout(total=60)


class Asked(msgspec.Struct, frozen=True):
    """One request: when it was sent (monotonic seconds), how long it took, its status (0: none) and what was answered."""

    at: float
    seconds: float
    status: int
    text: str

    @property
    def is_lost(self) -> bool:
        """Whether it was not answered as it should be."""
        return self.status != 200


class Load:
    """Requests to a URL while the context is open."""

    def __init__(self, url: str, *, workers: int = 4, headers: dict[str, str] | None = None) -> None:
        self.asked: list[Asked] = []
        self._url = url
        self._workers = workers
        self._headers = headers or {}
        self._stop = False
        self._news = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers)
        self._tasks = [asyncio.create_task(self._work(self._session)) for _ in range(self._workers)]
        await self.more(2 * self._workers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)
        assert self._session is not None
        await self._session.close()

    async def more(self, count: int, seconds: float = 30) -> None:
        """Wait until so many more requests than now have been answered."""
        wanted = len(self.asked) + count
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: len(self.asked) >= wanted)

    @property
    def lost(self) -> list[Asked]:
        """The requests that were not answered with 200."""
        return [each for each in self.asked if each.is_lost]

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while not self._stop:
            at = time.monotonic()
            try:
                async with session.get(self._url) as response:
                    asked = Asked(at, time.monotonic() - at, response.status, await response.text())
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                asked = Asked(at, time.monotonic() - at, 0, repr(error))
            async with self._news:
                self.asked.append(asked)
                self._news.notify_all()


class LoadWithin:
    """The same from one pod of the mesh to a service: the shop's `caller` sends the requests. Times are Unix times."""

    def __init__(self, caller: str, url: str, *, workers: int = 4) -> None:
        """`caller` is where the program is reached from outside."""
        self.asked: list[Asked] = []
        self._caller = caller
        self._url = url
        self._workers = workers

    async def __aenter__(self) -> Self:
        await order(self._caller, "/start", url=self._url, workers=str(self._workers))
        await self.more(2 * self._workers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.asked = [Asked(*each) for each in await order(self._caller, "/stop")]

    async def more(self, count: int) -> None:
        """Wait until so many more requests than now have been answered."""
        await order(self._caller, "/more", count=str(count))

    @property
    def lost(self) -> list[Asked]:
        """The requests that were not answered with 200. To be looked at after the end."""
        return [each for each in self.asked if each.is_lost]


async def order(caller: str, path: str, **query: str) -> Any:
    """Tell the shop's `caller` to do something; what it answers."""
    async with (
        aiohttp.ClientSession(timeout=_ORDER_TIMEOUT) as session,
        session.get(f"{caller}{path}", params=query) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.json(content_type=None)


class Answer(msgspec.Struct, frozen=True):
    """What came back from outside's one request. Header names are lower-case."""

    status: int
    text: str
    headers: dict[str, str]


async def get(url: str, *, follow: bool = False, **headers: str) -> Answer:
    """One request from outside; redirects are not followed unless asked for."""
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT) as session,
        session.get(url, headers=headers, allow_redirects=follow) as response,
    ):
        told = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, await response.text(), told)
