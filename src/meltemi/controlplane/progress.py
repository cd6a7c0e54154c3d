"""When is my change live? When every proxy that it concerns has acknowledged it; here one can wait for that.

An object that was applied has a resource version. The control plane has seen it when its facts hold that version or a
later one; the revision that came of it is live when no proxy is behind it. A proxy that refused a part of it has
answered too: it is not waited for, but told of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.controlplane.revisions import Revisions


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """What waiting for an object came to: who has taken it, who is behind, and what is wrong with it."""

    seen: bool
    revision: int
    proxies: int
    behind: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether every proxy has taken all that concerns it."""
        return self.seen and not self.behind


class Progress:
    """Lets callers wait until a condition on the hub or the facts holds."""

    def __init__(self, revisions: Revisions) -> None:
        self._revisions = revisions
        self._changed = asyncio.Event()
        revisions.hub.on_progress = self._on_change
        revisions.on_revision.append(lambda _: self._on_change())

    def _on_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition holds, `timeout` seconds at most; tells whether it does."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True

    async def wait_live(self, ref: Ref, resource_version: int, timeout: float) -> Live:
        """Wait until an object, in that version or a later one, is live at every proxy; `timeout` in seconds.

        A negative version stands for the object's absence: it was deleted.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        revisions = self._revisions
        seen = await self.wait_until(lambda: self._has_seen(ref, resource_version), timeout)
        revision = revisions.number
        if seen:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            await self.wait_until(lambda: not revisions.hub.behind(revision), left)
        problems = (
            *revisions.pipeline.graph.problems_of(ref),
            *(problem for problem in revisions.hub.problems() if problem.ref == ref),
        )
        return Live(
            seen=seen,
            revision=revision,
            proxies=len(revisions.hub.connections),
            behind=tuple(sorted(connection.proxy.id for connection in revisions.hub.behind(revision))) if seen else (),
            problems=problems,
        )

    def _has_seen(self, ref: Ref, resource_version: int) -> bool:
        version = self._revisions.pipeline.resource_version(ref)
        if resource_version < 0:
            return version is None
        return resource_version == 0 if version is None else version >= resource_version
