"""Deletion: finalizers, grace, dependents, namespaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meltemi.kube.client import Client
from meltemi.kube.errors import Conflict, Forbidden, NotFound
from meltemi.kube.resources import CONFIG_MAPS, NAMESPACES, PODS, Obj
from meltemi.local.apiserver.server import ApiServer


def config_map(name: str, namespace: str = "default", **metadata: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": namespace, **metadata}}


def owned_by(*owners: Obj, blocking: bool = False) -> list[Obj]:
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": blocking,
        }
        for owner in owners
    ]


async def names(client: Client, namespace: str = "default") -> list[str]:
    return [obj["metadata"]["name"] for obj in (await client.list(CONFIG_MAPS, namespace)).items]


async def make_pod(client: Client, *, node: str = "") -> Obj:
    spec = {"containers": [{"name": "a"}], **({"nodeName": node} if node else {})}
    return await client.create(PODS, {"metadata": {"name": "p", "namespace": "default"}, "spec": spec})


async def test_an_object_without_ties_goes_at_once(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    answer = await client.delete(CONFIG_MAPS, "a", "default")
    assert answer["status"] == "Success"
    assert await names(client) == []
    with pytest.raises(NotFound):
        await client.delete(CONFIG_MAPS, "a", "default")


async def test_finalizers_hold_an_object_until_the_last_is_taken_off(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("a", finalizers=["x/y"]))
    held = await client.delete(CONFIG_MAPS, "a", "default")
    assert held["metadata"]["deletionTimestamp"]
    await client.patch(CONFIG_MAPS, "a", {"metadata": {"finalizers": None}}, namespace="default")
    assert await names(client) == []


async def test_dependents_follow_their_last_owner(client: Client) -> None:
    one = await client.create(CONFIG_MAPS, config_map("one"))
    two = await client.create(CONFIG_MAPS, config_map("two"))
    await client.create(CONFIG_MAPS, config_map("child", ownerReferences=owned_by(one, two)))
    await client.delete(CONFIG_MAPS, "one", "default")
    assert await names(client) == ["child", "two"]
    await client.delete(CONFIG_MAPS, "two", "default")
    assert await names(client) == []


async def test_orphaned_dependents_stay_without_owner(client: Client) -> None:
    one = await client.create(CONFIG_MAPS, config_map("one"))
    await client.create(CONFIG_MAPS, config_map("child", ownerReferences=owned_by(one)))
    await client.delete(CONFIG_MAPS, "one", "default", propagation="Orphan")
    assert await names(client) == ["child"]
    assert "ownerReferences" not in (await client.get(CONFIG_MAPS, "child", "default"))["metadata"]


async def test_foreground_deletion_waits_for_the_dependents_that_block(client: Client) -> None:
    one = await client.create(CONFIG_MAPS, config_map("one"))
    child = config_map("child", ownerReferences=owned_by(one, blocking=True), finalizers=["x/y"])
    await client.create(CONFIG_MAPS, child)
    await client.delete(CONFIG_MAPS, "one", "default", propagation="Foreground")
    assert await names(client) == ["child", "one"]
    await client.patch(CONFIG_MAPS, "child", {"metadata": {"finalizers": None}}, namespace="default")
    assert await names(client) == []


async def test_an_object_whose_owner_is_gone_already_goes_too(client: Client) -> None:
    one = await client.create(CONFIG_MAPS, config_map("one"))
    await client.delete(CONFIG_MAPS, "one", "default")
    await client.create(CONFIG_MAPS, config_map("child", ownerReferences=owned_by(one)))
    assert await names(client) == []


async def test_a_pod_on_a_node_is_given_its_grace(client: Client) -> None:
    await make_pod(client, node="local")
    going = await client.delete(PODS, "p", "default")
    assert going["metadata"]["deletionGracePeriodSeconds"] == 30
    assert going["metadata"]["deletionTimestamp"] == "2026-01-01T12:00:30Z"
    await client.delete(PODS, "p", "default", grace_seconds=0)
    with pytest.raises(NotFound):
        await client.get(PODS, "p", "default")


async def test_a_pod_on_no_node_goes_at_once(client: Client) -> None:
    await make_pod(client)
    await client.delete(PODS, "p", "default")
    with pytest.raises(NotFound):
        await client.get(PODS, "p", "default")


async def test_only_the_object_with_the_given_uid_is_deleted(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    with pytest.raises(Conflict, match="UID in precondition"):
        await client.delete(CONFIG_MAPS, "a", "default", uid="another")


async def test_a_namespace_goes_with_all_that_is_in_it(client: Client) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "shop"}})
    await client.create(CONFIG_MAPS, config_map("a", "shop"))
    await client.delete(NAMESPACES, "shop")
    with pytest.raises(NotFound):
        await client.get(NAMESPACES, "shop")
    assert await names(client, "shop") == []


async def test_a_namespace_waits_for_what_is_held_and_takes_nothing_new(client: Client) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "shop"}})
    await client.create(CONFIG_MAPS, config_map("a", "shop", finalizers=["x/y"]))
    going = await client.delete(NAMESPACES, "shop")
    assert going["status"]["phase"] == "Terminating"
    with pytest.raises(Forbidden, match="because it is being terminated"):
        await client.create(CONFIG_MAPS, config_map("b", "shop"))
    await client.patch(CONFIG_MAPS, "a", {"metadata": {"finalizers": None}}, namespace="shop")
    with pytest.raises(NotFound):
        await client.get(NAMESPACES, "shop")


async def test_a_deletion_that_a_stop_has_interrupted_is_taken_up(
    client: Client, server: ApiServer, tmp_path: Path
) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "shop"}})
    await client.create(CONFIG_MAPS, config_map("a", "shop"))
    store = server.verbs.store
    namespace = next(item.obj for item in store.items("namespaces") if item.obj["metadata"]["name"] == "shop")
    marked = {**namespace, "metadata": {**namespace["metadata"], "deletionTimestamp": "2026-01-01T12:00:00Z"}}
    store.put("namespaces", marked)
    server.verbs.resume()
    with pytest.raises(NotFound):
        await client.get(NAMESPACES, "shop")
