"""Waiting for what the API's objects come to: list, then watch, until it is so or the time is up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from meltemi.kube.client import Client
from meltemi.kube.errors import Gone
from meltemi.kube.resources import Obj, Resource
from meltemi.testing.objects import name_of

SECONDS = 30.0
"""How long a wait may take, unless a call says otherwise."""

Holds = Callable[[list[Obj]], bool]


class MeshError(AssertionError):
    """What a test waited for did not come, or was refused."""


async def until(
    client: Client, resource: Resource, namespace: str, holds: Holds, what: str, seconds: float = SECONDS
) -> list[Obj]:
    """Waits until something holds of all objects of a kind in a namespace. Raises MeshError that names `what`."""
    known: dict[str, Obj] = {}
    try:
        async with asyncio.timeout(seconds):
            while True:
                listed = await client.list(resource, namespace)
                known = {name_of(obj): obj for obj in listed.items}
                if holds([*known.values()]):
                    return [*known.values()]
                if await _watched(client, resource, namespace, listed.resource_version, known, holds):
                    return [*known.values()]
    except TimeoutError:
        states = "\n".join(f"{name}: {obj.get('status', obj.get('endpoints'))}" for name, obj in known.items())
        raise MeshError(f"after {seconds:.0f} s it is still not so that {what}:\n{states}") from None


async def _watched(
    client: Client, resource: Resource, namespace: str, version: str, known: dict[str, Obj], holds: Holds
) -> bool:
    """Follows changes until it holds; False if the watch ends before."""
    events = client.watch(resource, namespace, resource_version=version)
    with contextlib.suppress(Gone):
        async with contextlib.aclosing(events):
            async for event in events:
                obj = msgspec.json.decode(event.object)
                if event.type == "DELETED":
                    known.pop(name_of(obj), None)
                elif event.type != "BOOKMARK":
                    known[name_of(obj)] = obj
                if holds([*known.values()]):
                    return True
    return False
