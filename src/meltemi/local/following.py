"""The changes of one kind at the API, decoded, for those parts of the machine that follow it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from meltemi.api import registry
from meltemi.kube.client import Client
from meltemi.kube.reflector import Change, Reflector, What
from meltemi.kube.resources import Resource
from meltemi.sources.kubernetes import decode


async def follow(client: Client, resource: Resource) -> AsyncGenerator[Change[Any], None]:
    """All changes, without end. Objects that do not decode are left out: they were refused when they were written."""
    kind = registry.find(resource.api_version, resource.kind)
    assert kind is not None
    reflector: Reflector[Any] = Reflector(client, resource, lambda raw: decode(kind, raw).resource)
    async with contextlib.aclosing(reflector.changes()) as changes:
        async for change in changes:
            if change.value is not None or change.what in (What.DELETED, What.SYNCED):
                yield change
