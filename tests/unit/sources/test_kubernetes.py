"""Objects of an API become batches of typed resources."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from meltemi.api import core, networking, registry
from meltemi.base.refs import Origin, Ref
from meltemi.kube.client import Client
from meltemi.kube.errors import Invalid
from meltemi.kube.resources import PODS, SERVICES, Key, Obj, Resource
from meltemi.local.apiserver import admission
from meltemi.local.apiserver.server import ApiServer
from meltemi.sources.kubernetes import Batch, KubernetesSource, Put, Removed, decode, resource_of

VIRTUAL_SERVICE = registry.kind_of(networking.VirtualService)
POD = registry.kind_of(core.Pod)


class Batches:
    """Keeps what a source delivers and lets tests wait for it."""

    def __init__(self) -> None:
        self.all: list[Batch] = []
        self._news = asyncio.Event()

    def __call__(self, batch: Batch) -> None:
        self.all.append(batch)
        self._news.set()

    async def next(self) -> Batch:
        async with asyncio.timeout(5):
            while not self.all:
                self._news.clear()
                await self._news.wait()
        return self.all.pop(0)


@pytest.fixture
async def batches(client: Client) -> AsyncIterator[Batches]:
    made = Batches()
    source = KubernetesSource(client, made)
    running = asyncio.create_task(source.run())
    async with asyncio.timeout(5):
        await source.wait_synced()
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def virtual_service(host: str = "web", **spec: Any) -> Obj:
    route = {"destination": {"host": host}}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"hosts": ["web"], "http": [{"route": [route]}], **spec},
    }


async def test_the_first_batch_has_everything_that_exists(batches: Batches) -> None:
    first = await batches.next()
    namespaces = [change.key.name for change in first.changes if change.kind.kind == "Namespace"]
    assert sorted(namespaces) == ["default", "istio-system", "kube-system"]
    assert all(not problems for problems in first.problems.values())


async def test_changes_come_as_typed_resources(client: Client, batches: Batches) -> None:
    await batches.next()
    address = resource_of(VIRTUAL_SERVICE)
    await client.create(address, virtual_service())
    [put] = (await batches.next()).changes
    assert isinstance(put, Put)
    assert isinstance(put.resource, networking.VirtualService)
    assert put.resource.spec.hosts == ("web",)
    assert put.resource.ref == Ref("VirtualService", "default", "web")
    await client.delete(address, "web", "default")
    assert (await batches.next()).changes == (Removed(VIRTUAL_SERVICE, Key("default", "web")),)


async def test_a_burst_is_one_batch(client: Client, batches: Batches) -> None:
    await batches.next()
    for number in range(5):
        service = {"metadata": {"name": f"s{number}", "namespace": "default"}, "spec": {"ports": [{"port": 80}]}}
        await client.create(SERVICES, service)
    await client.delete(SERVICES, "s0", "default")
    seen: dict[str, str] = {}
    while len(seen) < 5 or seen["s0"] != "Removed":
        for change in (await batches.next()).changes:
            seen[change.key.name] = type(change).__name__
    assert seen == {"s0": "Removed", "s1": "Put", "s2": "Put", "s3": "Put", "s4": "Put"}


async def test_what_does_not_decode_becomes_problems_and_the_last_good_stays(server: ApiServer, client: Client) -> None:
    server.verbs._validate = admission.no_rules
    made = Batches()
    source = KubernetesSource(client, made, kinds=[VIRTUAL_SERVICE])
    running = asyncio.create_task(source.run())
    await made.next()
    await client.create(resource_of(VIRTUAL_SERVICE), virtual_service())
    assert len((await made.next()).changes) == 1
    await client.patch(resource_of(VIRTUAL_SERVICE), "web", {"spec": {"hosts": 5}}, namespace="default")
    broken = await made.next()
    assert broken.changes == ()
    ref = Ref("VirtualService", "default", "web")
    assert [problem.path for problem in broken.problems[ref]] == ["spec.hosts"]
    await client.patch(resource_of(VIRTUAL_SERVICE), "web", {"spec": {"hosts": ["b"]}}, namespace="default")
    mended = await made.next()
    assert mended.problems == {ref: ()}
    assert len(mended.changes) == 1
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_kind_that_the_api_does_not_know_is_not_waited_for(client: Client) -> None:
    unknown = msgspec.structs.replace(VIRTUAL_SERVICE, plural="unknowns")
    made = Batches()
    source = KubernetesSource(client, made, kinds=[unknown, POD])
    running = asyncio.create_task(source.run())
    async with asyncio.timeout(5):
        await source.wait_synced()
    assert "unknowns.networking.istio.io" in source.statistics().trouble
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def test_the_origin_comes_from_the_annotation() -> None:
    obj = {"metadata": {"name": "p", "annotations": {"meltemi.dev/origin": "a/b.yaml:17"}}, "spec": {"containers": []}}
    resource = decode(POD, msgspec.json.encode(obj)).resource
    assert resource is not None
    assert resource.origin == Origin("a/b.yaml", 17)
    assert (resource.api_version, resource.kind) == ("v1", "Pod")


async def test_the_api_server_refuses_what_the_mesh_could_not_use(client: Client) -> None:
    address: Resource = resource_of(VIRTUAL_SERVICE)
    with pytest.raises(Invalid) as refusal:
        await client.create(address, virtual_service(hots=["web"]))
    assert [cause.field for cause in refusal.value.status.causes] == ["spec.hots"]
    assert "did you mean hosts?" in str(refusal.value)


async def test_an_object_is_read_in_every_served_version(client: Client) -> None:
    await client.create(resource_of(VIRTUAL_SERVICE), virtual_service())
    old = Resource("networking.istio.io", "v1alpha3", "virtualservices", "VirtualService")
    assert (await client.get(old, "web", "default"))["apiVersion"] == "networking.istio.io/v1alpha3"
    await client.patch(
        old, "web", {"apiVersion": "networking.istio.io/v1alpha3", "spec": {"hosts": ["x"]}}, namespace="default"
    )
    assert (await client.get(resource_of(VIRTUAL_SERVICE), "web", "default"))["spec"]["hosts"] == ["x"]


async def test_pods_decode(client: Client, batches: Batches) -> None:
    await batches.next()
    await client.create(
        PODS, {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "a"}]}}
    )
    [put] = (await batches.next()).changes
    assert isinstance(put, Put)
    assert isinstance(put.resource, core.Pod)
    assert put.resource.spec.containers[0].name == "a"
