"""From facts to proxies: facts are gathered for a moment, committed as one revision, and carried to the streams.

A burst of changes becomes one revision: the first fact opens a short window (milliseconds), which is extended while
facts keep coming, up to an upper bound. Whoever hands in facts can wait for the revision that has them.

Invariant: the graph is touched by this module only, on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

from meltemi.envoy.resource import Offer
from meltemi.flow import Fact, Revision
from meltemi.pipeline import Pipeline
from meltemi.xds.hub import Hub

K = TypeVar("K")
V = TypeVar("V")

log = logging.getLogger(__name__)

# Seconds of quiet that end a window, and the longest that one stays open.
QUIET = 0.003
LONGEST = 0.05

_REVISION = Gauge("meltemi_revision", "The number of the newest revision.")
_COMMITS = Counter("pilot_push_triggers", "Revisions made, by what they changed.", ["type"])
_SECONDS = Histogram(
    "pilot_pushcontext_init_seconds",
    "Seconds from the commit of a batch of facts until every stream concerned was told.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3),
)


class Revisions:
    """The one place where facts are committed."""

    def __init__(self, pipeline: Pipeline, hub: Hub, *, quiet: float = QUIET, longest: float = LONGEST) -> None:
        self.pipeline = pipeline
        self.hub = hub
        self.on_revision: list[Callable[[Revision], None]] = []
        self._quiet = quiet
        self._longest = longest
        self._facts: list[Fact] = []
        self._opened = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[int] | None = None
        self._failed = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def number(self) -> int:
        """The number of the newest revision."""
        return self.pipeline.graph.number

    def put(self, facts: Iterable[Fact]) -> asyncio.Future[int]:
        """Hand in facts; the future gives the number of the revision that has them. Nobody needs to await it."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._facts.extend(facts)
        if self._done is None:
            self._done = loop.create_future()
            self._opened = now
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(min(now + self._quiet, self._opened + self._longest), self._close_window)
        return self._done

    def flush(self) -> None:
        """Commit at once what has been gathered. That may be nothing: the first revision of an empty mesh has its defaults."""
        if self._timer is not None:
            self._timer.cancel()
        self._close_window()

    async def wait_failed(self) -> None:
        """Wait until a revision could not be carried to the streams, and raise what went wrong.

        Whoever runs the control plane should end it then: half of a revision must not be served for long, and a fresh
        process makes everything anew.
        """
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    def _close_window(self) -> None:
        facts, done = self._facts, self._done
        self._facts, self._done, self._timer = [], None, None
        try:
            number = self._commit(facts)
        except Exception as error:
            log.exception("a revision could not be made")
            self._failure = error
            self._failed.set()
            if done is not None and not done.done():
                done.set_exception(error)
            return
        if done is not None and not done.done():
            done.set_result(number)

    def _commit(self, facts: list[Fact]) -> int:
        started = time.perf_counter()
        revision = self.pipeline.graph.commit(facts)
        if not revision.is_empty:
            self._publish(revision)
            _SECONDS.observe(time.perf_counter() - started)
        return revision.number

    def _publish(self, revision: Revision) -> None:
        pipeline = self.pipeline
        _REVISION.set(revision.number)
        for name in revision.changes:
            _COMMITS.labels(name).inc()
        offers: dict[Hashable, Offer | None] = {}
        for table in pipeline.offers:
            delta = revision.of(table)
            offers.update(((table.name, key), None) for key in delta.removed)
            offers.update(((table.name, key), row) for key, row in delta.changed.items())
        audiences = revision.of(pipeline.audiences)
        audience_patches = revision.of(pipeline.audience_patches)
        view_patches = revision.of(pipeline.view_patches)
        self.hub.on_revision(
            revision.number,
            audiences=_merged(audiences.removed, audiences.changed),
            offers=offers,
            placements=revision.of(pipeline.placements).changed,
            audience_patches=_merged(audience_patches.removed, audience_patches.changed),
            view_patches=_merged(view_patches.removed, view_patches.changed),
        )
        for listener in self.on_revision:
            listener(revision)


def _merged(removed: Mapping[K, V], changed: Mapping[K, V]) -> dict[K, V | None]:
    return {**dict.fromkeys(removed), **changed}
