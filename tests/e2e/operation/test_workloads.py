"""Workloads as Kubernetes knows them, through the real kubectl: probes, configuration, names, scale, updates, ends."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from meltemi.kube.resources import ENDPOINT_SLICES, EVENTS, PODS, Key, Obj

from .load import Load, LoadWithin, get, order
from .rig import Mesh, containers, is_ready

PYTHON = sys.executable


def ready_addresses(known: dict[Key, Obj], service: str) -> set[str]:
    """The addresses behind a service that may be called."""
    return {
        address
        for one in known.values()
        if one["metadata"]["labels"].get("kubernetes.io/service-name") == service
        for endpoint in one.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready")
        for address in endpoint["addresses"]
    }


async def tell(shop: Mesh, pod: Obj, path: str) -> str:
    """Call one pod's application, past all balancing: from within the pod."""
    program = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080{path}').read().decode())"
    name = pod["metadata"]["name"]
    command = ("exec", "-n", "shop", name, "-c", pod["spec"]["containers"][0]["name"], "--", PYTHON, "-c", program)
    return (await asyncio.to_thread(shop.kubectl, *command)).out.strip()


async def ask(shop: Mesh, url: str) -> tuple[int, str]:
    """Have the shop's caller call something; status and text."""
    caller = await shop.host_port("shop", "caller")
    status, text = await order(f"http://127.0.0.1:{caller}", "/get", url=url)
    return status, text


async def test_a_failing_readiness_probe_takes_a_pod_out_and_a_good_one_brings_it_back(shop: Mesh) -> None:
    one, other = await shop.pods("app=echo", 2)
    address = one["status"]["podIP"]
    caller = f"http://127.0.0.1:{await shop.host_port('shop', 'caller')}"
    async with LoadWithin(caller, "http://echo:8080/?delay=0.01", workers=2) as load:
        await tell(shop, one, "/set?ready=no")
        await shop.until(ENDPOINT_SLICES, lambda known: ready_addresses(known, "echo") == {other["status"]["podIP"]})
        key = Key("shop", one["metadata"]["name"])
        await shop.until(PODS, lambda known: not is_ready(known[key]))
        row = shop.kubectl("get", "pod", key.name, "-n", "shop", "--no-headers").out.split()
        assert row[1] == "1/2"
    async with LoadWithin(caller, "http://echo:8080/", workers=2) as apart:
        await apart.more(30)
    assert {each.text for each in apart.asked[4:]} == {other["metadata"]["name"]}
    await tell(shop, one, "/set?ready=yes")
    await shop.until(ENDPOINT_SLICES, lambda known: address in ready_addresses(known, "echo"))
    assert load.lost == []
    assert apart.lost == []
    unhealthy = await shop.until(EVENTS, lambda known: messages(known, key.name, "Unhealthy"))
    assert any("503" in message for message in messages(unhealthy, key.name, "Unhealthy"))


async def test_a_failing_liveness_probe_restarts_the_application(shop: Mesh) -> None:
    pod = (await shop.pods("app=echo", 2))[0]
    key = Key("shop", pod["metadata"]["name"])
    before = containers(pod)["echo"]["restartCount"]
    await tell(shop, pod, "/set?alive=no")
    known = await shop.until(
        PODS, lambda known: containers(known[key])["echo"]["restartCount"] > before and is_ready(known[key])
    )
    assert containers(known[key])["istio-proxy"]["restartCount"] == containers(pod)["istio-proxy"]["restartCount"]
    described = shop.kubectl("describe", "pod", key.name, "-n", "shop").out
    assert "failed its liveness probe" in described
    assert "Restart Count:  1" in described or f"Restart Count:  {before + 1}" in described
    await shop.pods("app=echo", 2)


def messages(events: dict[Key, Obj], pod: str, reason: str) -> list[str]:
    """What the events of a pod say, for one reason."""
    return [
        event["message"]
        for event in events.values()
        if event["involvedObject"]["name"] == pod and event["reason"] == reason
    ]


CONFIGURED = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings, namespace: shop}}
data: {{greeting: hello, nested: "a: 1"}}
---
apiVersion: v1
kind: Secret
metadata: {{name: password, namespace: shop}}
stringData: {{word: sesame}}
---
apiVersion: v1
kind: Service
metadata: {{name: configured, namespace: shop}}
spec: {{selector: {{app: configured}}, ports: [{{name: http, port: 8080}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: configured, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: configured}}}}
  template:
    metadata: {{labels: {{app: configured}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: app
          command: [python3, echo.py]
          workingDir: {directory}
          envFrom: [{{configMapRef: {{name: settings}}, prefix: SET_}}]
          env:
            - {{name: WORD, valueFrom: {{secretKeyRef: {{name: password, key: word}}}}}}
            - {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
          readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}
          volumeMounts:
            - {{name: settings, mountPath: /etc/settings}}
            - {{name: password, mountPath: /etc/password}}
      volumes:
        - {{name: settings, configMap: {{name: settings}}}}
        - {{name: password, secret: {{secretName: password}}}}
"""


@pytest.fixture
def configured(shop: Mesh) -> Iterator[str]:
    """A Deployment that reads a ConfigMap and a Secret; its manifest."""
    manifest = CONFIGURED.format(directory=shop.files)
    shop.kubectl("apply", "-f", "-", typed=manifest)
    yield manifest
    shop.kubectl("delete", "-f", "-", "--wait=true", "--ignore-not-found", typed=manifest)


async def test_configuration_and_secrets_come_as_variables_and_files_and_files_follow_changes(
    shop: Mesh, configured: str
) -> None:
    shop.kubectl("wait", "--for=condition=Available", "deployment/configured", "-n", "shop", "--timeout=30s")
    pod = (await shop.pods("app=configured", 1))[0]
    variables: dict[str, str] = json.loads(await tell(shop, pod, "/environment"))
    assert variables["SET_greeting"] == "hello"
    assert variables["WORD"] == "sesame"
    assert variables["POD"] == pod["metadata"]["name"]
    assert await tell(shop, pod, "/file?path=/etc/settings/nested") == "a: 1"
    assert await tell(shop, pod, "/file?path=/etc/password/word") == "sesame"

    shop.kubectl("patch", "configmap", "settings", "-n", "shop", "-p", '{"data": {"greeting": "good day"}}')
    shop.kubectl("patch", "secret", "password", "-n", "shop", "-p", '{"stringData": {"word": "simsim"}}')
    async with asyncio.timeout(20):
        while await tell(shop, pod, "/file?path=/etc/settings/greeting") != "good day":
            pass
        while await tell(shop, pod, "/file?path=/etc/password/word") != "simsim":
            pass
    assert containers((await shop.pods("app=configured", 1))[0])["app"]["restartCount"] == 0


NAMES = """
apiVersion: v1
kind: Service
metadata: {name: replicas, namespace: shop}
spec: {clusterIP: None, selector: {app: echo}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: echo.shop.svc.cluster.local}
"""


async def test_names_are_found_as_in_kubernetes(shop: Mesh) -> None:
    shop.kubectl("apply", "-f", "-", typed=NAMES)
    pods = await shop.pods("app=echo", 2)
    addresses = sorted(pod["status"]["podIP"] for pod in pods)
    await shop.until(ENDPOINT_SLICES, lambda known: ready_addresses(known, "replicas") == set(addresses))
    virtual = shop.kubectl("get", "service", "echo", "-n", "shop", "-o", "jsonpath={.spec.clusterIP}").out
    expected = {
        "echo": [virtual],
        "echo.shop": [virtual],
        "echo.shop.svc": [virtual],
        "echo.shop.svc.cluster.local": [virtual],
        "replicas.shop": addresses,
        "alias": [virtual],
    }
    caller = (await shop.pods("app=caller", 1))[0]["metadata"]["name"]

    def inside(program: str) -> Any:
        return json.loads(shop.kubectl("exec", "-n", "shop", caller, "-c", "caller", "--", PYTHON, "-c", program).out)

    found = inside(
        "import json, socket\n"
        f"names = {list(expected)!r}\n"
        "look = lambda name: socket.getaddrinfo(name, 80, socket.AF_INET, socket.SOCK_STREAM)\n"
        "print(json.dumps({name: sorted({entry[4][0] for entry in look(name)}) for name in names}))"
    )
    assert found == expected
    records = inside(
        "import json, dns.resolver\n"
        "found = dns.resolver.resolve('_http._tcp.replicas.shop.svc.cluster.local', 'SRV')\n"
        "print(json.dumps(sorted([each.port, str(each.target)] for each in found)))"
    )
    assert [port for port, _ in records] == [8080, 8080]
    targets = [name for _, name in records]
    assert sorted(address for [address] in inside(_addresses_of(targets)).values()) == addresses
    missing = inside(
        "import json, socket\n"
        "try: socket.getaddrinfo('nobody.shop', 80)\n"
        "except socket.gaierror as error: print(json.dumps(error.errno))"
    )
    assert missing == -2
    shop.kubectl("delete", "-f", "-", typed=NAMES)


def _addresses_of(names: list[str]) -> str:
    return (
        "import json, dns.resolver\n"
        f"names = {names!r}\n"
        "print(json.dumps({name: [str(each) for each in dns.resolver.resolve(name, 'A')] for name in names}))"
    )


async def test_replicas_scale_up_and_down_without_a_request_being_lost(shop: Mesh) -> None:
    door = f"http://127.0.0.1:{await shop.host_port('istio-ingress', 'gateway')}"
    await shop.pods("app=echo", 2)
    async with Load(f"{door}/?delay=0.01", workers=3) as load:
        await asyncio.to_thread(shop.kubectl, "scale", "deployment/echo", "-n", "shop", "--replicas=4")
        pods = await shop.pods("app=echo", 4)
        names = {pod["metadata"]["name"] for pod in pods}
        seen = len(load.asked)
        async with asyncio.timeout(20):
            while {each.text for each in load.asked[seen:]} != names:
                await load.more(1)
        await asyncio.to_thread(shop.kubectl, "scale", "deployment/echo", "-n", "shop", "--replicas=2")
        left = {pod["metadata"]["name"] for pod in await shop.pods("app=echo", 2)}
        seen = len(load.asked)
        await load.more(30)
        assert {each.text for each in load.asked[seen + 3 :]} <= left
    assert load.lost == []


async def test_a_rolling_update_loses_no_request(shop: Mesh) -> None:
    door = f"http://127.0.0.1:{await shop.host_port('istio-ingress', 'gateway')}"
    caller = f"http://127.0.0.1:{await shop.host_port('shop', 'caller')}"
    before = {pod["metadata"]["name"] for pod in await shop.pods("app=echo", 2)}
    async with (
        Load(f"{door}/?delay=0.01", workers=3) as outside,
        LoadWithin(caller, "http://echo:8080/?delay=0.01", workers=3) as within,
    ):
        await asyncio.to_thread(shop.kubectl, "set", "env", "deployment/echo", "-n", "shop", "VERSION=v2")
        rollout = ("rollout", "status", "deployment/echo", "-n", "shop", "--timeout=60s")
        assert "successfully rolled out" in (await asyncio.to_thread(shop.kubectl, *rollout)).out
        after = {pod["metadata"]["name"] for pod in await shop.pods("app=echo", 2)}
        await outside.more(20)
        await within.more(20)
    assert not before & after
    assert outside.lost == []
    assert within.lost == []
    assert (await get(door)).headers["x-version"] == "v2"
    assert "REVISION" in shop.kubectl("rollout", "history", "deployment/echo", "-n", "shop").out


async def test_what_is_deleted_ends_and_its_name_answers_no_more(shop: Mesh, configured: str) -> None:
    await shop.pods("app=configured", 1)
    assert (await ask(shop, "http://configured:8080/"))[0] == 200
    process = shop.find("echo.py", WORD="sesame")
    assert process
    shop.kubectl("delete", "deployment/configured", "service/configured", "-n", "shop", "--wait=true")
    await shop.until(PODS, lambda known: not any(key.name.startswith("configured") for key in known))
    assert not shop.find("echo.py", WORD="sesame")
    status, text = await ask(shop, "http://configured:8080/")
    assert status == 0, text


def test_kubectl_lists_waits_logs_runs_and_describes(shop: Mesh) -> None:
    wide = shop.kubectl("get", "pods", "-n", "shop", "-o", "wide").out
    assert " local " in wide
    assert "2/2" in wide
    assert "10.244." in wide
    assert "shop" in shop.kubectl("get", "namespaces").out
    for kind in ("deployments", "replicasets", "services", "endpointslices", "virtualservices", "gateways", "events"):
        assert len(shop.kubectl("get", kind, "-n", "shop").out.splitlines()) >= 2, kind
    shop.kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=echo", "-n", "shop", "--timeout=20s")
    assert "serving" in shop.kubectl("logs", "deployment/echo", "-n", "shop", "-c", "echo").out
    done = shop.kubectl(
        "exec", "deployment/caller", "-n", "shop", "-c", "caller", "--", "sh", "-c", "echo out; exit 4", status=4
    )
    assert done.out == "out\n"
    described = shop.kubectl("describe", "deployment", "echo", "-n", "shop").out
    assert "2 desired | 2 updated | 2 total | 2 available" in described
    described = shop.kubectl("describe", "service", "echo", "-n", "shop").out
    assert "Endpoints:" in described
    explained = shop.kubectl("explain", "virtualservice.spec.http").out
    assert "route" in explained
