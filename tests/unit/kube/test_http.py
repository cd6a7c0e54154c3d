"""The client over real sockets: TLS on loopback, tokens, watches, a server that goes away and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from meltemi.kube.client import Client, decode_object
from meltemi.kube.config import Connection, load
from meltemi.kube.errors import NotFound, Unauthorized, Unreachable
from meltemi.kube.reflector import Reflector
from meltemi.kube.resources import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, Obj
from meltemi.kube.transport import HttpTransport
from meltemi.local.apiserver.server import ApiServer, listen


class Place:
    """A server's directory and address; servers in it come and go."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self.server: ApiServer | None = None

    async def start(self) -> None:
        self.server = ApiServer(self.directory / "state")
        listener = listen(port=self.port)
        self.port = listener.getsockname()[1]
        await self.server.start([listener])
        self.server.write_kubeconfig(self.directory / "kubeconfig", f"https://127.0.0.1:{self.port}")

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop()
            self.server = None


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Client]:
    made = Client(HttpTransport(load(place.directory / "kubeconfig")))
    yield made
    await made.aclose()


def config_map(name: str, size: int = 1) -> Obj:
    return {"metadata": {"name": name, "namespace": "default"}, "data": {"x": "y" * size}}


async def test_objects_go_there_and_back(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, config_map("a"))
    assert await client.get(CONFIG_MAPS, "a", "default") == made
    assert (await client.list(NAMESPACES)).items[0]["metadata"]["name"] == "default"
    with pytest.raises(NotFound, match='configmaps "b" not found'):
        await client.get(CONFIG_MAPS, "b", "default")


async def test_a_watch_carries_objects_larger_than_any_buffer(client: Client) -> None:
    revision = (await client.list(CONFIG_MAPS)).resource_version
    async with asyncio.timeout(10), aclosing(client.watch(CONFIG_MAPS, resource_version=revision)) as events:
        await client.create(CONFIG_MAPS, config_map("big", 500_000))
        event = await anext(events)
    assert len(decode_object(event.object)["data"]["x"]) == 500_000


async def test_discovery_names_every_kind(client: Client) -> None:
    found = await client.discover()
    assert found[("apps/v1", "Deployment")] == DEPLOYMENTS
    assert found[("v1", "Namespace")] == NAMESPACES


async def test_a_wrong_token_and_a_wrong_authority_are_refused(place: Place) -> None:
    good = load(place.directory / "kubeconfig")
    wrong_token = Client(HttpTransport(Connection(server=good.server, ca=good.ca, token="guess")))
    with pytest.raises(Unauthorized):
        await wrong_token.list(NAMESPACES)
    no_authority = Client(HttpTransport(Connection(server=good.server, token=good.token)))
    with pytest.raises(Unreachable, match="certificate"):
        await no_authority.list(NAMESPACES)
    await wrong_token.aclose()
    await no_authority.aclose()


async def test_a_reflector_outlives_its_server(place: Place, client: Client) -> None:
    troubled = asyncio.Event()
    reflector = Reflector(
        client,
        CONFIG_MAPS,
        lambda raw: str(decode_object(raw)["metadata"]["name"]),
        trouble=lambda error: troubled.set() if error else None,
    )
    async with asyncio.timeout(20), aclosing(reflector.changes()) as changes:
        assert (await anext(changes)).what.value == "Synced"
        pending = asyncio.ensure_future(anext(changes))
        await place.stop()
        await troubled.wait()
        await place.start()
        await client.create(CONFIG_MAPS, config_map("after"))
        reflector.retry_now()
        assert (await pending).value == "after"
