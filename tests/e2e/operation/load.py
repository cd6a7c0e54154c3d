"""A steady load of HTTP requests, and what came of each.

Every worker sends one request after the other over a connection that it keeps, and tries none twice. Nothing is lost
if every request was answered with 200.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

_TIMEOUT = aiohttp.ClientTimeout(total=20)


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
