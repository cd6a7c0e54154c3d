"""The controllers together, on an API server: from a Deployment to endpoints."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meltemi.kube.client import Client
from meltemi.kube.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    EVENTS,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Obj,
    Resource,
)
from meltemi.local.apiserver.server import ApiServer
from meltemi.local.controllers.loop import Controllers

NOW = "2026-01-01T12:00:00Z"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    made = ApiServer(tmp_path / "state")
    yield made
    made.verbs.store.close()


@pytest.fixture
def client(server: ApiServer) -> Client:
    return server.client()


@pytest.fixture
def controllers(server: ApiServer) -> Controllers:
    return Controllers(server.verbs, lambda: datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC))


def deployment(image: str, replicas: int) -> Obj:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": spec,
    }


async def all_of(client: Client, resource: Resource) -> list[Obj]:
    return (await client.list(resource, "default")).items


async def run_pods(client: Client, controllers: Controllers) -> None:
    """Plays the kubelet: every pod runs and is ready at once, until nothing changes any more."""
    for _ in range(50):
        controllers.settle()
        waiting = [pod for pod in await all_of(client, PODS) if not pod["status"].get("podIP")]
        if not waiting:
            return
        for pod in waiting:
            address = f"10.244.0.{int(pod['metadata']['resourceVersion']) % 250}"
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": NOW}
            status = {"phase": "Running", "podIP": address, "conditions": [condition]}
            await client.update_status(PODS, {**pod, "status": status})
    raise AssertionError("the pods do not come to rest")


async def test_a_deployment_becomes_pods_and_a_service_finds_them(client: Client, controllers: Controllers) -> None:
    service = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    await client.create(SERVICES, service)
    await client.create(DEPLOYMENTS, deployment("1", 3))
    await run_pods(client, controllers)
    assert len(await all_of(client, PODS)) == 3
    [entry] = await all_of(client, ENDPOINT_SLICES)
    assert [endpoint["conditions"]["ready"] for endpoint in entry["endpoints"]] == [True] * 3
    status = (await client.get(DEPLOYMENTS, "web", "default"))["status"]
    assert status["availableReplicas"] == 3


async def test_a_new_image_replaces_all_pods(client: Client, controllers: Controllers) -> None:
    await client.create(DEPLOYMENTS, deployment("1", 3))
    await run_pods(client, controllers)
    await client.update(DEPLOYMENTS, deployment("2", 3))
    await run_pods(client, controllers)
    assert [pod["spec"]["containers"][0]["image"] for pod in await all_of(client, PODS)] == ["2"] * 3
    sizes = {
        rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: rs["spec"]["replicas"]
        for rs in await all_of(client, REPLICA_SETS)
    }
    assert sizes == {"1": 0, "2": 3}


async def test_a_deleted_pod_is_replaced_and_a_deleted_deployment_leaves_nothing(
    client: Client, controllers: Controllers
) -> None:
    await client.create(DEPLOYMENTS, deployment("1", 2))
    await run_pods(client, controllers)
    victim = (await all_of(client, PODS))[0]["metadata"]["name"]
    await client.delete(PODS, victim, "default")
    await run_pods(client, controllers)
    names = [pod["metadata"]["name"] for pod in await all_of(client, PODS)]
    assert len(names) == 2
    assert victim not in names
    await client.delete(DEPLOYMENTS, "web", "default")
    controllers.settle()
    assert await all_of(client, PODS) == await all_of(client, REPLICA_SETS) == []


async def test_the_default_account_comes_back(client: Client, controllers: Controllers) -> None:
    controllers.settle()
    await client.delete(SERVICE_ACCOUNTS, "default", "default")
    controllers.settle()
    assert await client.get(SERVICE_ACCOUNTS, "default", "default")


async def test_a_deleted_slice_comes_back(client: Client, controllers: Controllers) -> None:
    service = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    await client.create(SERVICES, service)
    controllers.settle()
    [entry] = await all_of(client, ENDPOINT_SLICES)
    await client.delete(ENDPOINT_SLICES, entry["metadata"]["name"], "default")
    controllers.settle()
    assert len(await all_of(client, ENDPOINT_SLICES)) == 1


async def test_a_namespace_goes_although_controllers_are_at_work_in_it(
    client: Client, controllers: Controllers
) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "shop"}})
    wanted = deployment("1", 2)
    wanted["metadata"]["namespace"] = "shop"
    await client.create(DEPLOYMENTS, wanted)
    controllers.settle()
    await client.delete(NAMESPACES, "shop")
    controllers.settle()
    assert "shop" not in [obj["metadata"]["name"] for obj in (await client.list(NAMESPACES)).items]


async def test_the_loop_wakes_when_something_changes(
    client: Client, controllers: Controllers, server: ApiServer
) -> None:
    pods_changed = asyncio.Event()
    server.verbs.store.subscribe("pods", pods_changed.set)
    running = asyncio.create_task(controllers.run())
    await client.create(DEPLOYMENTS, deployment("1", 1))
    async with asyncio.timeout(5):
        await pods_changed.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert len(await all_of(client, PODS)) == 1


async def test_what_was_done_is_told_on_the_objects(client: Client, controllers: Controllers) -> None:
    await client.create(DEPLOYMENTS, deployment("1", 1))
    await run_pods(client, controllers)
    told = {(e["involvedObject"]["kind"], e["reason"]) for e in await all_of(client, EVENTS)}
    assert told == {("Deployment", "ScalingReplicaSet"), ("ReplicaSet", "SuccessfulCreate")}


async def test_a_pod_waits_for_its_service_account(client: Client, server: ApiServer) -> None:
    moment = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    controllers = Controllers(server.verbs, lambda: moment)
    wanted = deployment("1", 1)
    wanted["spec"]["template"]["spec"]["serviceAccountName"] = "late"
    await client.create(DEPLOYMENTS, wanted)
    controllers.settle()
    assert await all_of(client, PODS) == []
    [failure] = [e for e in await all_of(client, EVENTS) if e["reason"] == "FailedCreate"]
    assert 'serviceaccount "late" not found' in failure["message"]
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "late", "namespace": "default"}})
    moment += timedelta(seconds=1)
    controllers.settle()
    assert len(await all_of(client, PODS)) == 1


async def test_orphans_are_adopted_by_who_selects_them(client: Client, controllers: Controllers) -> None:
    await client.create(DEPLOYMENTS, deployment("1", 2))
    await run_pods(client, controllers)
    before = {pod["metadata"]["uid"] for pod in await all_of(client, PODS)}
    await client.delete(DEPLOYMENTS, "web", "default", propagation="Orphan")
    controllers.settle()
    made = await client.create(DEPLOYMENTS, deployment("1", 2))
    await run_pods(client, controllers)
    assert {pod["metadata"]["uid"] for pod in await all_of(client, PODS)} == before
    [replica_set] = await all_of(client, REPLICA_SETS)
    assert replica_set["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
