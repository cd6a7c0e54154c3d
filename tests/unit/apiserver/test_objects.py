"""Objects through the API: creation, concurrency, status, patches, apply, dry run. All requests go through the client."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.kube.client import Client, PatchType
from meltemi.kube.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound
from meltemi.kube.resources import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, PODS, SECRETS, SERVICE_ACCOUNTS, SERVICES, Obj


def config_map(name: str = "c", namespace: str = "default", **data: str) -> Obj:
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


def service(name: str = "web", **spec: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"port": 80}], **spec}}


def deployment(image: str = "1", replicas: int = 1) -> Obj:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": spec,
    }


async def test_a_created_object_has_an_identity(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, config_map(a="b"))
    metadata = made["metadata"]
    assert made["kind"] == "ConfigMap"
    assert metadata["uid"]
    assert metadata["creationTimestamp"] == "2026-01-01T12:00:00Z"
    assert await client.get(CONFIG_MAPS, "c", "default") == made


async def test_a_name_is_made_up_where_only_a_prefix_is_given(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, {"metadata": {"generateName": "x-", "namespace": "default"}})
    assert made["metadata"]["name"].startswith("x-")
    assert len(made["metadata"]["name"]) == 7


async def test_a_second_creation_is_refused(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map())
    with pytest.raises(AlreadyExists, match='configmaps "c" already exists'):
        await client.create(CONFIG_MAPS, config_map())


async def test_namespaces_exist_from_the_start_with_a_default_account(client: Client) -> None:
    names = [obj["metadata"]["name"] for obj in (await client.list(NAMESPACES)).items]
    assert names == ["default", "istio-system", "kube-system"]
    for name in names:
        assert await client.get(SERVICE_ACCOUNTS, "default", name)


async def test_nothing_is_created_in_a_namespace_that_does_not_exist(client: Client) -> None:
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await client.create(CONFIG_MAPS, config_map(namespace="nowhere"))


async def test_an_update_on_an_old_version_conflicts(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, config_map(a="1"))
    await client.update(CONFIG_MAPS, {**made, "data": {"a": "2"}})
    with pytest.raises(Conflict, match="the object has been modified"):
        await client.update(CONFIG_MAPS, {**made, "data": {"a": "3"}})


async def test_an_update_that_changes_nothing_makes_no_revision(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, config_map(a="1"))
    again = await client.update(CONFIG_MAPS, made)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_generation_counts_changes_of_the_spec_only(client: Client) -> None:
    made = await client.create(DEPLOYMENTS, deployment())
    assert made["metadata"]["generation"] == 1
    labelled = await client.patch(DEPLOYMENTS, "web", {"metadata": {"labels": {"a": "b"}}}, namespace="default")
    assert labelled["metadata"]["generation"] == 1
    scaled = await client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 5}}, namespace="default")
    assert scaled["metadata"]["generation"] == 2


async def test_status_is_written_through_its_subresource_only(client: Client) -> None:
    made = await client.create(DEPLOYMENTS, {**deployment(), "status": {"replicas": 7}})
    assert "status" not in made
    ignored = await client.update(DEPLOYMENTS, {**made, "status": {"replicas": 7}})
    assert "status" not in ignored
    changed = {**made, "status": {"replicas": 7}, "spec": {**made["spec"], "replicas": 99}}
    written = await client.update_status(DEPLOYMENTS, changed)
    assert written["status"] == {"replicas": 7}
    assert written["spec"]["replicas"] == 1
    assert written["metadata"]["generation"] == 1


async def test_a_patch_may_carry_the_version_it_is_meant_for(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, config_map(a="1"))
    version = made["metadata"]["resourceVersion"]
    await client.patch(CONFIG_MAPS, "c", {"data": {"a": "2"}}, namespace="default")
    patch = {"metadata": {"resourceVersion": version}, "data": {"a": "3"}}
    with pytest.raises(Conflict):
        await client.patch(CONFIG_MAPS, "c", patch, namespace="default")


async def test_a_json_patch_that_fails_its_test_is_invalid(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map(a="1"))
    operations = [{"op": "test", "path": "/data/a", "value": "2"}, {"op": "remove", "path": "/data/a"}]
    with pytest.raises(Invalid, match="the value is another"):
        await client.patch(CONFIG_MAPS, "c", operations, namespace="default", how=PatchType.JSON)


async def test_a_dry_run_answers_and_leaves_no_trace(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, config_map(), dry_run=True)
    assert made["metadata"]["uid"]
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "c", "default")
    await client.create(CONFIG_MAPS, config_map())
    await client.delete(CONFIG_MAPS, "c", "default", dry_run=True)
    assert await client.get(CONFIG_MAPS, "c", "default")


async def test_every_wrong_field_is_named_at_once(client: Client) -> None:
    wrong = service("Bad_Name", ports=[{"port": 0, "name": "a"}, {"port": 1}], clusterIP="1.2.3.4")
    with pytest.raises(Invalid) as refusal:
        await client.create(SERVICES, wrong)
    fields = {cause.field for cause in refusal.value.status.causes}
    assert fields == {"metadata.name", "spec.ports[0].port", "spec.ports[1].name", "spec.clusterIP"}


async def test_services_get_addresses_that_stay(client: Client) -> None:
    made = await client.create(SERVICES, service())
    address = made["spec"]["clusterIP"]
    assert address.startswith("10.96.")
    assert made["spec"]["clusterIPs"] == [address]
    replaced = await client.update(SERVICES, service())
    assert replaced["spec"]["clusterIP"] == address
    with pytest.raises(Invalid, match="field is immutable"):
        await client.update(SERVICES, service(clusterIP="10.96.5.5"))
    headless = await client.create(SERVICES, service("headless", clusterIP="None"))
    assert headless["spec"]["clusterIP"] == "None"
    external = await client.create(SERVICES, service("away", type="ExternalName", externalName="example.org"))
    assert "clusterIP" not in external["spec"]


async def test_secrets_take_plain_text_and_keep_it_encoded(client: Client) -> None:
    secret = {"metadata": {"name": "s", "namespace": "default"}, "stringData": {"a": "b"}}
    made = await client.create(SECRETS, secret)
    assert made["data"] == {"a": "Yg=="}
    assert made["type"] == "Opaque"
    assert "stringData" not in made


async def test_a_running_pods_spec_is_fixed_but_for_a_few_fields(client: Client) -> None:
    pod = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "a", "image": "1"}]}}
    await client.create(PODS, pod)
    patch = {"spec": {"containers": [{"name": "a", "image": "2"}]}}
    await client.patch(PODS, "p", patch, namespace="default", how=PatchType.STRATEGIC)
    with pytest.raises(Invalid, match="pod updates may not change fields"):
        await client.patch(PODS, "p", {"spec": {"hostname": "h"}}, namespace="default")


async def test_a_deployments_selector_must_match_its_pods_and_cannot_change(client: Client) -> None:
    wrong = deployment()
    wrong["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    with pytest.raises(Invalid, match="does not match template"):
        await client.create(DEPLOYMENTS, wrong)
    await client.create(DEPLOYMENTS, deployment())
    labels = {"new": "x"}
    patch = {"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}}
    with pytest.raises(Invalid, match="field is immutable"):
        await client.patch(DEPLOYMENTS, "web", patch, namespace="default")


async def test_an_object_of_another_kind_or_name_is_refused(client: Client) -> None:
    with pytest.raises(BadRequest, match="which is not what the URL names"):
        await client.create(CONFIG_MAPS, {**config_map(), "apiVersion": "v1", "kind": "Secret"})
    with pytest.raises(BadRequest, match="namespace of the provided object"):
        await client.create(CONFIG_MAPS, config_map(), namespace="kube-system")


async def test_an_apply_creates_then_changes_then_removes(client: Client) -> None:
    first = await client.apply(DEPLOYMENTS, deployment("1", 2), field_manager="ann")
    assert first["metadata"]["generation"] == 1
    same = await client.apply(DEPLOYMENTS, deployment("1", 2), field_manager="ann")
    assert same["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    without_replicas = deployment("2")
    del without_replicas["spec"]["replicas"]
    second = await client.apply(DEPLOYMENTS, without_replicas, field_manager="ann")
    assert second["spec"]["template"]["spec"]["containers"][0]["image"] == "2"
    assert second["spec"]["replicas"] == 1


async def test_an_apply_over_anothers_field_names_it_and_force_takes_it(client: Client) -> None:
    await client.apply(DEPLOYMENTS, deployment("1", 2), field_manager="ann")
    await client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 5}}, namespace="default")
    with pytest.raises(Conflict) as refusal:
        await client.apply(DEPLOYMENTS, deployment("1", 3), field_manager="ann")
    assert refusal.value.status.causes[0].field == ".spec.replicas"
    assert 'conflict with "test" using Update' in str(refusal.value)
    forced = await client.apply(DEPLOYMENTS, deployment("1", 3), field_manager="ann", force=True)
    assert forced["spec"]["replicas"] == 3


async def test_an_apply_by_a_user_leaves_what_controllers_have_written(client: Client) -> None:
    made = await client.apply(DEPLOYMENTS, deployment(), field_manager="ann")
    await client.update_status(DEPLOYMENTS, {**made, "status": {"replicas": 1}})
    await client.patch(DEPLOYMENTS, "web", {"metadata": {"annotations": {"note": "x"}}}, namespace="default")
    again = await client.apply(DEPLOYMENTS, deployment("2"), field_manager="ann")
    assert again["status"] == {"replicas": 1}
    assert again["metadata"]["annotations"] == {"note": "x"}


async def test_standing_namespaces_cannot_be_deleted(client: Client) -> None:
    with pytest.raises(Forbidden, match="may not be deleted"):
        await client.delete(NAMESPACES, "default")
