"""Whether what the pods say of themselves has reached every proxy: a pod is ready at once, and served a moment later.

Between the two lie the EndpointSlices, which a controller writes, and the control plane, which reads them and waits for
the proxies to acknowledge. "Ready" is told when all of that has happened, so that the first request finds its way.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from meltemi.kube.client import Client
from meltemi.kube.errors import ApiError
from meltemi.kube.reflector import What, objects
from meltemi.kube.resources import DEBUG_API, ENDPOINT_SLICES, PODS, SERVICES, Key, Obj
from meltemi.local.controllers import endpoints

_log = logging.getLogger(__name__)
_TURN = 10.0
_ASK_AGAIN = 0.1


async def settled(client: Client) -> None:
    """Wait until every EndpointSlice tells its pods as they are now, and every proxy has taken them. Set a deadline."""
    while slices := await _told(client):
        newest = max(slices, key=lambda entry: int(entry["metadata"]["resourceVersion"]))
        if await _is_live(client, newest["metadata"]):
            return
        await asyncio.sleep(_ASK_AGAIN)


async def _told(client: Client) -> list[Obj]:
    """The EndpointSlices, once no Service wants other ones for the pods as they are."""
    slices: dict[Key, Obj] = {}
    async with aclosing(objects(client, ENDPOINT_SLICES).changes()) as changes:
        synced = False
        async for change in changes:
            synced = synced or change.what is What.SYNCED
            if change.what is What.DELETED:
                slices.pop(change.key, None)
            elif change.value is not None:
                slices[change.key] = change.value
            if synced and await _is_told(client, [*slices.values()]):
                return [*slices.values()]
    return []


async def _is_told(client: Client, slices: list[Obj]) -> bool:
    pods, services = (await client.list(PODS)).items, (await client.list(SERVICES)).items
    for service in services:
        own = endpoints.slices_of(service, _of(service, slices))
        if endpoints.plan(service, _of(service, pods), own).changes:
            return False
    return True


def _of(service: Obj, objs: list[Obj]) -> list[Obj]:
    return [obj for obj in objs if obj["metadata"]["namespace"] == service["metadata"]["namespace"]]


async def _is_live(client: Client, metadata: Obj) -> bool:
    """Ask the control plane, in turns: it may be starting, or be busy with a burst of changes."""
    query: dict[str, str | int | bool] = {
        "kind": ENDPOINT_SLICES.kind,
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "resourceVersion": metadata["resourceVersion"],
        "timeout": str(_TURN),
    }
    try:
        answer = await client.raw(f"{DEBUG_API}/wait", query)
    except ApiError as error:
        _log.debug("the control plane cannot be asked: %s", error)
        return False
    return bool(answer["live"])
