"""Tables of the API, and watches of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from meltemi.cli import listing
from meltemi.cli.streams import lines
from meltemi.kube.client import Client
from meltemi.kube.errors import Gone
from meltemi.kube.resources import PODS
from meltemi.kube.transport import Request


class Watches:
    """A transport whose streams have been written beforehand; each ends as the server's watches do."""

    def __init__(self, *streams: list[dict[str, Any]]) -> None:
        self._streams = list(streams)
        self.asked: list[dict[str, str]] = []

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, *, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append(dict(request.query))
        events = self._streams.pop(0)

        async def pieces() -> AsyncIterator[bytes]:
            for event in events:
                text = json.dumps(event).encode() + b"\n"
                yield text[:10]
                yield text[10:]

        yield pieces()


class WatchingClient:
    def __init__(self, transport: Watches) -> None:
        self.transport = transport


def event(kind: str, name: str, revision: str) -> dict[str, Any]:
    metadata = {"name": name, "resourceVersion": revision}
    rows = [{"cells": [name], "object": {"metadata": metadata}}] if name else None
    return {"type": kind, "object": {"kind": "Table", "metadata": {"resourceVersion": revision}, "rows": rows}}


async def watched(transport: Watches, count: int) -> list[str]:
    found: list[str] = []
    changes = listing.changes(cast("Client", WatchingClient(transport)), PODS, "default", "1")
    async with aclosing(cast("Any", changes)) as events:
        async for each in events:
            found += [str(row.cells[0]) for row in each.object.rows or ()]
            if len(found) == count:
                break
    return found


async def test_a_watch_that_the_server_ends_is_taken_up_where_it_stopped() -> None:
    transport = Watches(
        [event("ADDED", "a", "5"), event("BOOKMARK", "", "9")],
        [event("MODIFIED", "b", "12")],
        [event("MODIFIED", "c", "13")],
    )
    assert await watched(transport, 3) == ["a", "b", "c"]
    assert [query["resourceVersion"] for query in transport.asked] == ["1", "9", "12"]


async def test_a_watch_that_is_too_far_behind_says_so() -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    with pytest.raises(Gone, match="too old"):
        await watched(Watches([{"type": "ERROR", "object": status}]), 1)


async def test_lines_are_put_together_from_pieces_of_any_size() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b\nc\n\nd", b"", b"e"):
            yield piece

    assert [line async for line in lines(pieces())] == [b"ab", b"c", b"", b"de"]
