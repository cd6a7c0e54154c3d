"""Tells how far the pods have come: how many are ready, which do not come up and why, and when all are there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from meltemi.api.core import Pod
from meltemi.kube.client import Client
from meltemi.kube.reflector import What
from meltemi.kube.resources import PODS, Key
from meltemi.local.following import follow
from meltemi.local.news import Trouble

# Restarts after which a pod that is not ready is called trouble.
_PATIENCE = 2


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
        self._is_ready = False

    async def run(self) -> None:
        """Follow until cancelled."""
        async with contextlib.aclosing(follow(self._client, PODS)) as changes:
            async for change in changes:
                if change.what is What.DELETED:
                    self._pods.pop(change.key, None)
                elif isinstance(change.value, Pod):
                    self._pods[change.key] = change.value
                    self._look_for_trouble(change.value)
                self._count()

    def _count(self) -> None:
        alive = [pod for pod in self._pods.values() if not pod.metadata.deletion_timestamp]
        counts = (sum(pod.status.ready for pod in alive), len(alive))
        if counts != self._counts:
            self._counts = counts
            self._tell("pods", counts)
        if not self._is_ready and counts[1] and counts[0] == counts[1] and self._wanted():
            self._is_ready = True
            self._tell("ready", time.monotonic() - self._started)

    def _look_for_trouble(self, pod: Pod) -> None:
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
            waiting = status.state.waiting if status.state else None
            if waiting is not None and status.restart_count >= _PATIENCE and waiting.message:
                name = f"{pod.namespace}/{pod.name} {status.name}"
                self._tell("trouble", Trouble(name, f"{waiting.reason}: {waiting.message}"))
