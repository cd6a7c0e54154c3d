"""Changes come in bursts; one burst is to become one revision.

The first change opens a window of a few milliseconds, every further one extends it, up to a bound. Of several
changes of one thing only the last is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

QUIET_SECONDS = 0.005
LONGEST_SECONDS = 0.1


class Gatherer(Generic[K, V]):
    """Keeps the last value per key, and hands all of them over when it has been quiet for a moment.

    While `hold` is set nothing is handed over: `release` then hands over everything at once.
    """

    def __init__(
        self,
        deliver: Callable[[dict[K, V]], None],
        *,
        quiet: float = QUIET_SECONDS,
        longest: float = LONGEST_SECONDS,
        hold: bool = False,
    ) -> None:
        self._deliver = deliver
        self._quiet, self._longest = quiet, longest
        self._held = hold
        self._waiting: dict[K, V] = {}
        self._opened = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: K, value: V) -> None:
        """Takes a change in."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._waiting:
            self._opened = now
        self._waiting.pop(key, None)
        self._waiting[key] = value
        if self._held:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(min(now + self._quiet, self._opened + self._longest), self.flush)

    def release(self) -> None:
        """Ends a hold, and hands over what has been gathered, even if that is nothing."""
        self._held = False
        self.flush(even_if_empty=True)

    def flush(self, *, even_if_empty: bool = False) -> None:
        """Hands over at once what has been gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting or even_if_empty:
            gathered, self._waiting = self._waiting, {}
            self._deliver(gathered)

    def close(self) -> None:
        """Forgets what has been gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting = {}
