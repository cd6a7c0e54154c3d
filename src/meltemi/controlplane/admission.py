"""Proxies as facts: one that connects becomes a row of the pipeline, and is served once its configuration is there.

A proxy may be connected twice for a moment, when it comes back before its old connection is known to be dead; it is
forgotten when the last one ends.
"""

from __future__ import annotations

from collections import Counter

from meltemi.controlplane.revisions import Revisions
from meltemi.flow import Put, Remove
from meltemi.model.proxies import Placement, Proxy


class Admission:
    """Lets proxies in."""

    def __init__(self, revisions: Revisions) -> None:
        self._revisions = revisions
        self._connected: Counter[str] = Counter()

    async def admit(self, proxy: Proxy) -> Placement:
        """Make a proxy known; returns when the revision that has it is made, with the classes it belongs to."""
        pipeline = self._revisions.pipeline
        self._connected[proxy.id] += 1
        if pipeline.proxies.get(proxy.id) != proxy:
            await self._revisions.put([Put(pipeline.proxies, proxy.id, proxy)])
        placement = pipeline.placements.get(proxy.id)
        if placement is None:
            raise RuntimeError(f"no configuration could be made for {proxy.id}: see the problems of the graph")
        return placement

    def dismiss(self, proxy: Proxy) -> None:
        """A connection of the proxy has ended."""
        self._connected[proxy.id] -= 1
        if self._connected[proxy.id] <= 0:
            del self._connected[proxy.id]
            self._revisions.put([Remove(self._revisions.pipeline.proxies, proxy.id)])
