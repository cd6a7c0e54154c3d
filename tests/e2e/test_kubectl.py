"""The real kubectl against the local API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meltemi.kube.resources import CONFIG_MAPS

from .kubectl_rig import NEEDS_KUBECTL, Cluster

pytestmark = [pytest.mark.e2e, NEEDS_KUBECTL]

SHOP = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: web}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, name: http, targetPort: web}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers: [{name: web, image: one, ports: [{containerPort: 8080, name: web}]}]
"""
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: web}}]}]
"""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    await made.start()
    yield made
    await made.stop()


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


async def test_a_deployment_is_applied_rolled_out_shown_changed_and_deleted(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    assert "deployment.apps/web created" in await kubectl("apply", "-f", "-", typed=SHOP)
    assert "successfully rolled out" in await kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    assert (await kubectl("apply", "-f", "-", typed=SHOP)).count("unchanged") == 3
    pods = rows(await kubectl("get", "pods"))
    assert pods[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row[1:4] for row in pods[1:]] == [["1/1", "Running", "0"]] * 2
    assert rows(await kubectl("get", "deploy"))[1][:4] == ["web", "2/2", "2", "2"]
    assert rows(await kubectl("get", "svc", "web", "-o", "wide"))[1][-1] == "app=web"
    assert "condition met" in await kubectl("wait", "--for=condition=Available", "deploy/web", "--timeout=30s")
    await kubectl("scale", "deploy/web", "--replicas=3")
    await kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    await kubectl("set", "image", "deploy/web", "web=two")
    await kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    images = await kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.containers[*].image}")
    assert images == "two two two"
    assert rows(await kubectl("rollout", "history", "deploy/web"))[2:4] == [["1", "<none>"], ["2", "<none>"]]
    await kubectl("rollout", "undo", "deploy/web")
    await kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    assert "one" in await kubectl("get", "deploy", "web", "-o", "jsonpath={..image}")
    await kubectl("delete", "-f", "-", typed=SHOP)
    await kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=30s")
    assert "No resources found" in await kubectl("get", "pods,rs,endpointslices")


async def test_what_describe_tells(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    await kubectl("apply", "-f", "-", typed=SHOP)
    await kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    assert "10.244.0.2:8080,10.244.0.3:8080" in (await kubectl("describe", "svc", "web")).replace(
        "10.244.0.3:8080,10.244.0.2:8080", "10.244.0.2:8080,10.244.0.3:8080"
    )
    assert "NewReplicaSet:   web-" in await kubectl("describe", "deploy", "web")
    assert "Controlled By:    ReplicaSet/web-" in await kubectl("describe", "pod", "-l", "app=web")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "web.1"},
        "involvedObject": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "default"},
        "reason": "Tested",
        "message": "a test has come by",
        "type": "Normal",
    }
    uid = await kubectl("get", "deploy", "web", "-o", "jsonpath={.metadata.uid}")
    event["involvedObject"]["uid"] = uid  # type: ignore[index]
    await kubectl("create", "-f", "-", typed=json.dumps(event))
    assert "a test has come by" in await kubectl("describe", "deploy", "web")
    assert "Tested" in await kubectl("get", "events")


async def test_server_side_apply_keeps_peace_among_managers(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    assert "serverside-applied" in await kubectl("apply", "--server-side", "-f", "-", typed=SHOP)
    await kubectl("scale", "deploy/web", "--replicas=5")
    refused = await kubectl("apply", "--server-side", "-f", "-", typed=SHOP, fails=True)
    assert 'conflict with "kubectl" using Update: .spec.replicas' in refused or ".spec.replicas" in refused
    await kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", typed=SHOP)
    assert await kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "2"
    fields = json.loads(await kubectl("get", "svc", "web", "-o", "json", "--show-managed-fields"))["metadata"][
        "managedFields"
    ]
    assert {"manager": "kubectl", "operation": "Apply"}.items() <= fields[0].items()


async def test_mesh_kinds_are_applied_and_mistakes_named(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    await kubectl("apply", "-f", "-", typed=ROUTE)
    assert rows(await kubectl("get", "vs"))[1][:2] == ["web", '["web"]']
    assert rows(await kubectl("get", "virtualservices.v1beta1.networking.istio.io"))[1][0] == "web"
    refused = await kubectl("apply", "-f", "-", typed=ROUTE.replace("route:", "rout:"), fails=True)
    assert "spec.http[0]" in refused
    assert "route" in refused
    await kubectl("patch", "vs", "web", "--type=merge", "-p", '{"spec": {"hosts": ["a", "b"]}}')
    assert await kubectl("get", "vs", "web", "-o", "jsonpath={.spec.hosts}") == '["a","b"]'
    await kubectl("label", "vs", "web", "team=a")
    await kubectl("annotate", "vs", "web", "note=x")
    assert "web" in await kubectl("get", "vs", "-l", "team=a", "-o", "name")
    assert "KIND:       VirtualService" in await kubectl("explain", "vs")
    assert "team" in await kubectl(
        "diff", "-f", "-", typed=ROUTE.replace("{name: web}", "{name: web, labels: {team: b}}"), fails=True
    )


async def test_an_editor_changes_an_object(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.kubectl("apply", "-f", "-", typed=ROUTE)
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/- web/- edited/" "$1"\n')
    editor.chmod(0o755)
    cluster.environment["KUBE_EDITOR"] = str(editor)
    assert "edited" in await cluster.kubectl("edit", "vs", "web")
    assert await cluster.kubectl("get", "vs", "web", "-o", "jsonpath={.spec.hosts[0]}") == "edited"


async def test_things_are_created_by_their_own_commands(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    await kubectl("create", "namespace", "shop")
    await kubectl("-n", "shop", "create", "configmap", "c", "--from-literal=a=b")
    await kubectl("-n", "shop", "create", "secret", "generic", "s", "--from-literal=a=b")
    await kubectl("-n", "shop", "create", "serviceaccount", "acc")
    await kubectl("-n", "shop", "create", "service", "clusterip", "svc", "--tcp=80:8080")
    await kubectl("-n", "shop", "create", "deployment", "d", "--image=x", "--port=80")
    await kubectl("-n", "shop", "expose", "deployment", "d", "--port=80")
    assert await kubectl("-n", "shop", "get", "secret", "s", "-o", "jsonpath={.data}") == '{"a":"Yg=="}'
    token = await kubectl("-n", "shop", "create", "token", "acc", "--audience=istio-ca")
    client = cluster.client()
    assert (await client.review_token(token.strip(), ["istio-ca"])).service_account == ("shop", "acc")
    await client.aclose()
    await kubectl("delete", "namespace", "shop", "--timeout=30s")
    assert "NotFound" in await kubectl("get", "namespace", "shop", fails=True)


async def test_logs_and_commands(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    await kubectl("apply", "-f", "-", typed=SHOP)
    await kubectl("rollout", "status", "deploy/web", "--timeout=30s")
    assert "a line of web-" in await kubectl("logs", "-l", "app=web")
    assert "shouted" in await kubectl("exec", "-i", "deploy/web", "--", "cat", typed="shouted")
    failed = await kubectl("exec", "deploy/web", "--", "sh", "-c", "exit 3", fails=True)
    assert "exit code 3" in failed


async def test_a_watch_shows_changes_as_rows(cluster: Cluster) -> None:
    watching = asyncio.create_task(cluster.kubectl("get", "cm", "-w", "--request-timeout=5s"))
    await cluster.kubectl("create", "configmap", "seen", "--from-literal=a=b")
    assert rows(await watching)[-1][:2] == ["seen", "1"]


async def test_the_kinds_are_discovered(cluster: Cluster) -> None:
    listed = {row[-1]: row for row in rows(await cluster.kubectl("api-resources"))}
    assert listed["Deployment"][:3] == ["deployments", "deploy", "apps/v1"]
    assert listed["VirtualService"][:3] == ["virtualservices", "vs", "networking.istio.io/v1"]
    assert "Server Version: v1" in await cluster.kubectl("version")


async def test_a_server_that_is_killed_loses_nothing_it_has_acknowledged(cluster: Cluster) -> None:
    client = cluster.client()
    acknowledged: list[str] = []

    async def write() -> None:
        for number in range(100_000):
            name = f"c{number}"
            await client.create(CONFIG_MAPS, {"metadata": {"name": name, "namespace": "default"}})
            acknowledged.append(name)
            if number == 200:
                enough.set()

    enough = asyncio.Event()
    writing = asyncio.create_task(write())
    async with asyncio.timeout(60):
        await enough.wait()
    await cluster.kill()
    await asyncio.gather(writing, return_exceptions=True)
    await client.aclose()
    await cluster.start()
    client = cluster.client()
    found = {obj["metadata"]["name"] for obj in (await client.list(CONFIG_MAPS, "default")).items}
    await client.aclose()
    assert set(acknowledged) <= found
