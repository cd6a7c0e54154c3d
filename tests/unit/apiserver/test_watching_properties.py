"""Whoever watches sees what whoever lists sees, whatever happens, selectors and lost histories included."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meltemi.kube.client import Client, decode_object
from meltemi.kube.errors import ApiError
from meltemi.kube.reflector import Reflector, What
from meltemi.kube.resources import CONFIG_MAPS, Obj
from meltemi.local.apiserver.server import ApiServer

names = st.sampled_from("abc")
labels = st.sampled_from(["web", "api"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), names, labels),
        st.tuples(st.just("delete"), names, labels),
        st.tuples(st.just("compact"), names, labels),
    ),
    max_size=15,
)


async def write(client: Client, server: ApiServer, step: tuple[str, str, str]) -> None:
    what, name, label = step
    try:
        if what == "put":
            obj = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": "default", "labels": {"app": label}},
            }
            await client.apply(CONFIG_MAPS, obj, force=True)
        elif what == "delete":
            await client.delete(CONFIG_MAPS, name, "default")
        else:
            shelf = server.verbs.store._shelf("configmaps")
            shelf.events.clear()
            shelf.floor = server.verbs.store.revision
    except ApiError:
        return


async def follow(client: Client, seen: dict[str, Obj], end: asyncio.Event) -> None:
    """Keeps `seen` as a watcher of `app=web` sees the world; ends when it sees the object that marks the end."""
    reflector = Reflector(client, CONFIG_MAPS, decode_object, namespace="default", labels="app=web")
    async with aclosing(reflector.changes()) as changes:
        async for change in changes:
            if change.what is What.DELETED:
                del seen[change.key.name]
            elif change.value is not None:
                seen[change.key.name] = change.value
            if "end" in seen:
                end.set()


async def compare(history: list[tuple[str, str, str]], interleave: list[bool]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        server = ApiServer(Path(directory) / "state")
        client = server.client()
        seen: dict[str, Obj] = {}
        end = asyncio.Event()
        following = asyncio.create_task(follow(client, seen, end))
        for step, pause in zip(history, interleave, strict=True):
            await write(client, server, step)
            if pause:
                await asyncio.sleep(0)
        await write(client, server, ("put", "end", "web"))
        async with asyncio.timeout(10):
            await end.wait()
        listed = (await client.list(CONFIG_MAPS, "default", labels="app=web")).items
        assert [seen[name] for name in sorted(seen)] == listed
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        server.verbs.store.close()


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_watcher_with_a_selector_sees_what_a_list_with_it_sees(data: Any) -> None:
    history = data.draw(steps)
    interleave = data.draw(st.lists(st.booleans(), min_size=len(history), max_size=len(history)))
    asyncio.run(compare(history, interleave))
