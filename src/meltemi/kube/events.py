"""Events on objects: what `kubectl describe` shows at its end.

The same thing happening again is one event with a count, not many: the name of the event is made of what happened.
Source: Kubernetes core/v1 Event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from meltemi.kube.client import Client
from meltemi.kube.errors import ApiError, NotFound
from meltemi.kube.resources import EVENTS, Obj

NORMAL, WARNING = "Normal", "Warning"


def event(about: Obj, kind: str, reason: str, message: str, component: str, moment: datetime) -> Obj:
    """An event about an object: `kind` is Normal or Warning, `reason` one CamelCase word, `message` for people."""
    metadata = about["metadata"]
    time = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    same = "\n".join((metadata.get("uid", ""), component, reason, message))
    digest = hashlib.blake2b(same.encode(), digest_size=8).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata.get("namespace") or "default"},
        "involvedObject": {
            "apiVersion": about.get("apiVersion", ""),
            "kind": about.get("kind", ""),
            "name": metadata["name"],
            "namespace": metadata.get("namespace", ""),
            "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "type": kind,
        "reason": reason,
        "message": message[:1024],
        "source": {"component": component},
        "reportingComponent": component,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }


def again(before: Obj, happened: Obj) -> Obj:
    """The changes to an event that has happened once more, as a merge patch."""
    return {"count": int(before.get("count") or 1) + 1, "lastTimestamp": happened["lastTimestamp"]}


class Recorder:
    """Writes events in the name of a component. An event that cannot be written is lost: it is news, not state."""

    def __init__(self, client: Client, component: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._client = client
        self._component = component
        self._now = now

    async def record(self, about: Obj, kind: str, reason: str, message: str) -> None:
        """Tells what has happened to an object. See `event`."""
        happened = event(about, kind, reason, message, self._component, self._now())
        name, namespace = happened["metadata"]["name"], happened["metadata"]["namespace"]
        try:
            before = await self._client.get(EVENTS, name, namespace)
            await self._client.patch(EVENTS, name, again(before, happened), namespace=namespace)
        except NotFound:
            await self._create(happened)
        except ApiError:
            return

    async def _create(self, happened: Obj) -> None:
        try:
            await self._client.create(EVENTS, happened)
        except ApiError:
            return
