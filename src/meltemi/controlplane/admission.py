"""Proxies as facts: one that connects becomes a row of the pipeline, and is served once its configuration is there.

A proxy that has gone is remembered for a while. It may come back at once, when it was restarted or lost its connection,
and then finds everything as it was, what its kind had refused and what was last good included.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from meltemi.controlplane.revisions import Revisions
from meltemi.flow import Put, Remove
from meltemi.model.proxies import Placement, Proxy

# For how many seconds a proxy that has gone is remembered.
REMEMBERED = 60.0


class Admission:
    """Lets proxies in."""

    def __init__(self, revisions: Revisions, remembered: float = REMEMBERED) -> None:
        self._revisions = revisions
        self._remembered = remembered
        self._connected: Counter[str] = Counter()
        self._forgetting: dict[str, asyncio.TimerHandle] = {}

    def __repr__(self) -> str:
        return f"<Admission: {len(self._connected)} proxies, {len(self._forgetting)} remembered>"

    async def admit(self, proxy: Proxy) -> Placement:
        """Make a proxy known; returns when the revision that has it is made, with the classes it belongs to."""
        pipeline = self._revisions.pipeline
        self._connected[proxy.id] += 1
        timer = self._forgetting.pop(proxy.id, None)
        if timer is not None:
            timer.cancel()
        if pipeline.proxies.get(proxy.id) != proxy:
            await self._revisions.put([Put(pipeline.proxies, proxy.id, proxy)])
        placement = pipeline.placements.get(proxy.id)
        if placement is None:
            raise RuntimeError(f"no configuration could be made for {proxy.id}: see the problems of the graph")
        return placement

    def dismiss(self, proxy: Proxy) -> None:
        """A connection of the proxy has ended. It may have another one: one comes back before the old one is known dead."""
        self._connected[proxy.id] -= 1
        if self._connected[proxy.id] <= 0:
            del self._connected[proxy.id]
            loop = asyncio.get_running_loop()
            self._forgetting[proxy.id] = loop.call_later(self._remembered, self._forget, proxy.id)

    def _forget(self, proxy: str) -> None:
        del self._forgetting[proxy]
        self._revisions.put([Remove(self._revisions.pipeline.proxies, proxy)])
