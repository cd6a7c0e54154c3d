"""Bursts become batches."""

from __future__ import annotations

import asyncio

from meltemi.sources.gathering import Gatherer


class Reader:
    """Keeps what is handed over and lets tests wait for it."""

    def __init__(self) -> None:
        self.batches: list[dict[str, int]] = []
        self._news = asyncio.Event()

    def __call__(self, batch: dict[str, int]) -> None:
        self.batches.append(batch)
        self._news.set()

    async def wait(self, count: int) -> list[dict[str, int]]:
        async with asyncio.timeout(5):
            while len(self.batches) < count:
                self._news.clear()
                await self._news.wait()
        return self.batches


async def test_what_comes_together_is_handed_over_together_and_only_the_last_of_each() -> None:
    reader = Reader()
    gatherer: Gatherer[str, int] = Gatherer(reader)
    gatherer.add("a", 1)
    gatherer.add("b", 2)
    gatherer.add("a", 3)
    assert await reader.wait(1) == [{"b": 2, "a": 3}]
    assert len(gatherer) == 0


async def test_a_window_that_never_gets_quiet_is_closed_all_the_same() -> None:
    reader = Reader()
    gatherer: Gatherer[str, int] = Gatherer(reader, quiet=3600, longest=0.001)
    gatherer.add("a", 1)
    assert await reader.wait(1) == [{"a": 1}]


async def test_nothing_is_handed_over_while_held_and_all_at_once_after() -> None:
    reader = Reader()
    gatherer: Gatherer[str, int] = Gatherer(reader, quiet=0, hold=True)
    gatherer.add("a", 1)
    await asyncio.sleep(0)
    gatherer.add("b", 2)
    assert reader.batches == []
    gatherer.release()
    assert reader.batches == [{"a": 1, "b": 2}]
    gatherer.add("c", 3)
    assert (await reader.wait(2))[1] == {"c": 3}


async def test_a_release_tells_also_that_there_was_nothing() -> None:
    reader = Reader()
    Gatherer[str, int](reader, hold=True).release()
    assert reader.batches == [{}]
