"""Tells how far the pods have come: how many are ready, which do not come up and why, and when all are there and served."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from meltemi.api.core import Pod
from meltemi.kube.client import Client
from meltemi.kube.errors import ApiError
from meltemi.kube.reflector import What
from meltemi.kube.resources import PODS, Key
from meltemi.local.following import follow
from meltemi.local.news import Trouble
from meltemi.local.settling import settled

# Restarts after which a pod that is not ready is called trouble.
_PATIENCE = 2

# Seconds that the proxies get to acknowledge when all pods are ready.
_SETTLING_SECONDS = 30.0


class Watch:
    """Follows the pods from the start on."""

    def __init__(
        self, client: Client, tell: Callable[[str, object], None], started: float, wanted: Callable[[], bool]
    ) -> None:
        """`wanted` tells whether everything that was asked for has been applied, so that "all" means all."""
        self._client = client
        self._tell = tell
        self._started = started
        self._wanted = wanted
        self._pods: dict[Key, Pod] = {}
        self._counts = (0, 0)
        self._settling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            async with contextlib.aclosing(follow(self._client, PODS)) as changes:
                async for change in changes:
                    if change.what is What.DELETED:
                        self._pods.pop(change.key, None)
                    elif isinstance(change.value, Pod):
                        self._pods[change.key] = change.value
                        self._look_for_trouble(change.value)
                    self._count()
        finally:
            if self._settling is not None:
                self._settling.cancel()
                await asyncio.gather(self._settling, return_exceptions=True)

    def _count(self) -> None:
        alive = [pod for pod in self._pods.values() if not pod.metadata.deletion_timestamp]
        counts = (sum(pod.status.ready for pod in alive), len(alive))
        if counts != self._counts:
            self._counts = counts
            self._tell("pods", counts)
        if self._settling is None and counts[1] and counts[0] == counts[1] and self._wanted():
            self._settling = asyncio.ensure_future(self._settle())

    async def _settle(self) -> None:
        """All pods are ready: tell so as soon as the proxies know it."""
        try:
            async with asyncio.timeout(_SETTLING_SECONDS):
                await settled(self._client)
        except (TimeoutError, ApiError):
            self._tell(
                "trouble", Trouble("control plane", "not all proxies are up to date; see `meltemi proxy-status`")
            )
        self._tell("ready", time.monotonic() - self._started)

    def _look_for_trouble(self, pod: Pod) -> None:
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
            waiting = status.state.waiting if status.state else None
            if waiting is not None and status.restart_count >= _PATIENCE and waiting.message:
                name = f"{pod.namespace}/{pod.name} {status.name}"
                self._tell("trouble", Trouble(name, f"{waiting.reason}: {waiting.message}"))
