"""Lists in pages, watches, bookmarks, and histories that have been compacted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from meltemi.kube.client import Client, WatchEvent, decode_object
from meltemi.kube.errors import BadRequest, Gone
from meltemi.kube.resources import CONFIG_MAPS, DEPLOYMENTS, Obj
from meltemi.local.apiserver import store as store_module
from meltemi.local.apiserver import watching
from meltemi.local.apiserver.server import ApiServer


def config_map(name: str, **labels: str) -> Obj:
    return {"metadata": {"name": name, "namespace": "default", "labels": labels}}


async def next_of(events: AsyncIterator[WatchEvent]) -> tuple[str, str]:
    async with asyncio.timeout(5):
        event = await anext(events)
    return event.type, decode_object(event.object)["metadata"].get("name", "")


async def test_a_list_comes_in_pages_that_leave_nothing_out(client: Client) -> None:
    for number in range(7):
        await client.create(CONFIG_MAPS, config_map(f"c{number}"))
    sizes, names = [], []
    async for page in client.pages(CONFIG_MAPS, "default", size=3):
        sizes.append(len(page.items))
        names += [decode_object(raw)["metadata"]["name"] for raw in page.items]
    assert sizes == [3, 3, 1]
    assert names == [f"c{number}" for number in range(7)]


async def test_later_pages_carry_the_revision_of_the_first(client: Client) -> None:
    for number in range(4):
        await client.create(CONFIG_MAPS, config_map(f"c{number}"))
    revisions = []
    async for page in client.pages(CONFIG_MAPS, "default", size=2):
        revisions.append(page.resource_version)
        if len(revisions) == 1:
            await client.create(CONFIG_MAPS, config_map("later"))
    assert len(set(revisions)) == 1


async def test_a_watch_tells_what_happens_after_a_revision(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("before"))
    revision = (await client.list(CONFIG_MAPS)).resource_version
    async with aclosing(client.watch(CONFIG_MAPS, resource_version=revision)) as events:
        await client.create(CONFIG_MAPS, config_map("a"))
        assert await next_of(events) == ("ADDED", "a")
        await client.patch(CONFIG_MAPS, "a", {"data": {"x": "y"}}, namespace="default")
        await client.delete(CONFIG_MAPS, "a", "default")
        assert await next_of(events) == ("MODIFIED", "a")
        assert await next_of(events) == ("DELETED", "a")


async def test_objects_come_into_a_selectors_sight_and_leave_it(client: Client) -> None:
    revision = (await client.list(CONFIG_MAPS)).resource_version
    async with aclosing(client.watch(CONFIG_MAPS, resource_version=revision, labels="app=web")) as events:
        await client.create(CONFIG_MAPS, config_map("a"))
        await client.patch(CONFIG_MAPS, "a", {"metadata": {"labels": {"app": "web"}}}, namespace="default")
        assert await next_of(events) == ("ADDED", "a")
        await client.patch(CONFIG_MAPS, "a", {"metadata": {"labels": {"app": "other"}}}, namespace="default")
        assert await next_of(events) == ("DELETED", "a")


async def test_a_watch_without_revision_first_tells_what_exists(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    async with aclosing(client.watch(CONFIG_MAPS, "default")) as events:
        assert await next_of(events) == ("ADDED", "a")


async def test_a_watch_list_ends_what_exists_with_a_bookmark(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    async with aclosing(client.watch(CONFIG_MAPS, "default", initial=True)) as events:
        assert await next_of(events) == ("ADDED", "a")
        bookmark = decode_object((await anext(events)).object)
    assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_bookmarks_tell_how_far_a_quiet_watch_has_come(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_BOOKMARK_SECONDS", 0.01)
    revision = (await client.list(DEPLOYMENTS)).resource_version
    async with aclosing(client.watch(DEPLOYMENTS, resource_version=revision)) as events:
        made = await client.create(CONFIG_MAPS, config_map("elsewhere"))
        async with asyncio.timeout(5):
            event = await anext(events)
    assert event.type == "BOOKMARK"
    assert decode_object(event.object)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_a_compacted_revision_is_gone(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_HISTORY", 3)
    revision = (await client.list(CONFIG_MAPS)).resource_version
    for number in range(10):
        await client.create(CONFIG_MAPS, config_map(f"c{number}"))
    async with aclosing(client.watch(CONFIG_MAPS, resource_version=revision)) as events:
        with pytest.raises(Gone, match="too old resource version"):
            await anext(events)


async def test_a_watch_ends_after_its_time_and_when_the_server_stops(client: Client, server: ApiServer) -> None:
    async with asyncio.timeout(10):
        async with aclosing(client.watch(CONFIG_MAPS, "default", seconds=1)) as events:
            assert [event async for event in events] == []
        async with aclosing(client.watch(CONFIG_MAPS, "default")) as events:
            asyncio.get_running_loop().call_soon(server._watches.close)
            assert [event async for event in events] == []


async def test_a_malformed_selector_or_page_is_a_bad_request(client: Client) -> None:
    with pytest.raises(BadRequest, match="is not a label selector"):
        await client.list(CONFIG_MAPS, labels="a=b=c")
    with pytest.raises(BadRequest, match="continue key is not valid"):
        await client.raw("/api/v1/configmaps", {"continue": "nonsense"})
