"""Watches: what has happened since a revision, and what happens from now on, as lines of JSON.

A watch holds a revision and sleeps until its kind changes; it never holds a queue, so a slow reader costs nothing
and, when it has fallen too far behind, is told to list again (410 in the stream), as Kubernetes does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from meltemi.kube.errors import Status
from meltemi.local.apiserver.catalogue import Kind
from meltemi.local.apiserver.rendering import Renderer
from meltemi.local.apiserver.selectors import Selector
from meltemi.local.apiserver.store import Compacted, Event, Store

_BOOKMARK_SECONDS = 30.0


class WatchOptions(msgspec.Struct, frozen=True):
    """What to watch and how: from which revision (None: first tell what exists), and for how many seconds."""

    namespace: str = ""
    selector: Selector = Selector()
    revision: int | None = None
    bookmarks: bool = False
    initial_end: bool = False
    """Whether a bookmark is to mark the end of what existed (WatchList)."""
    seconds: float = 1800.0


class Watches:
    """All open watches of the server, so that they can be ended together."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: set[asyncio.Event] = set()
        self._closing = False

    def close(self) -> None:
        """Ends all watches, and every later one at once."""
        self._closing = True
        for wake in self._open:
            wake.set()

    async def follow(self, kind: Kind, options: WatchOptions, renderer: Renderer) -> AsyncIterator[bytes]:
        """The lines of one watch."""
        wake = asyncio.Event()
        self._open.add(wake)
        unsubscribe = self._store.subscribe(kind.id, wake.set)
        try:
            async for lines in self._lines(kind, options, renderer, wake):
                yield lines
        finally:
            unsubscribe()
            self._open.discard(wake)

    async def _lines(
        self, kind: Kind, options: WatchOptions, renderer: Renderer, wake: asyncio.Event
    ) -> AsyncIterator[bytes]:
        now = asyncio.get_running_loop().time
        end = now() + options.seconds
        bookmark_due = now() + _BOOKMARK_SECONDS
        cursor = options.revision
        if cursor is None:
            cursor = self._store.revision
            yield self._initial(kind, options, renderer)
        while not self._closing and now() < end:
            wake.clear()
            try:
                events = self._store.events_since(kind.id, cursor)
            except Compacted as error:
                yield _expired(str(error))
                return
            cursor = self._store.revision
            lines = [
                renderer.event(what, event.item) for event in events if (what := _seen_as(event, options)) is not None
            ]
            if options.bookmarks and now() >= bookmark_due:
                lines.append(renderer.bookmark(cursor, initial_end=False))
                bookmark_due = now() + _BOOKMARK_SECONDS
            if lines:
                yield b"".join(lines)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(end, bookmark_due) - now())):
                    await wake.wait()

    def _initial(self, kind: Kind, options: WatchOptions, renderer: Renderer) -> bytes:
        lines = [
            renderer.event("ADDED", item)
            for item in self._store.items(kind.id, options.namespace)
            if options.selector.matches(item.obj)
        ]
        if options.initial_end:
            lines.append(renderer.bookmark(self._store.revision, initial_end=True))
        return b"".join(lines)


def _seen_as(event: Event, options: WatchOptions) -> str | None:
    """What an event is to a watcher with a selector: objects come into its sight and leave it."""
    if options.namespace and event.key.namespace != options.namespace:
        return None
    was = event.before is not None and options.selector.matches(event.before.obj)
    is_now = event.type != "DELETED" and options.selector.matches(event.item.obj)
    if was:
        return "MODIFIED" if is_now else "DELETED"
    return "ADDED" if is_now else None


def _expired(message: str) -> bytes:
    status = Status(code=410, reason="Expired", message=message).as_object()
    return msgspec.json.encode({"type": "ERROR", "object": status}) + b"\n"
