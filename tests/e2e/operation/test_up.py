"""`meltemi up` and `meltemi down`: what comes, what changes with the files, and that nothing stays."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Iterator

import pytest

from meltemi.kube.resources import CONFIG_MAPS, PODS, Key

from .rig import BOOKSHOP, START_SECONDS, Mesh, Traces

USERS = ["root", "ordinary user"]

POD = """
apiVersion: v1
kind: Namespace
metadata: {name: small, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: small}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: small}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {name: web, command: [python3, -m, http.server, "8080"], readinessProbe: {tcpSocket: {port: 8080}}}
"""


def config(name: str, word: str) -> str:
    """A small object that one can change."""
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata:\n  word: {word}\n"


@pytest.fixture(params=USERS)
def mesh(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    """A mesh that has not been started, of root and of an ordinary user."""
    if request.param == "root" and os.getuid() != 0:
        pytest.skip("needs root: the other case runs it as this user")
    mesh = Mesh(ordinary_user=request.param != "root")
    try:
        yield mesh
    finally:
        mesh.close()


def fetch(port: int, path: str = "/") -> str:
    """A page, from outside of the mesh."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as response:
        text: str = response.read().decode()
        return text


async def uids(mesh: Mesh) -> set[str]:
    """Which pods there are."""
    async with mesh.client() as client:
        return {pod["metadata"]["uid"] for pod in (await client.list(PODS)).items}


async def traces(mesh: Mesh, namespace: str, service: str) -> Traces:
    """What the mesh has on this machine now, with the port of a service."""
    api = int(mesh.wait_line(r"api +https://127.0.0.1:(\d+)")[1])
    ports = [await mesh.host_port(namespace, service)]
    processes = mesh.processes()
    assert mesh.up is not None
    found = Traces([*processes], [api, *ports])
    assert len(processes) > 8
    assert found.namespaces > 8
    return found


async def test_the_bookshop_comes_up_whole_and_once_and_goes_without_a_trace(mesh: Mesh) -> None:
    mesh.start(BOOKSHOP)
    mesh.wait_ready()
    page = fetch(await mesh.host_port("istio-ingress", "gateway"))
    for part in ("The Etesian Sea", "Pine, Thyme, Dust", "catalog <b>HTTP/2</b>", "in stock", "till <b>TCP sold"):
        assert part in page
    assert "class=problem" not in page

    before = await uids(mesh)
    again = mesh.meltemi("up", BOOKSHOP)
    assert "runs already" in again.out
    assert await uids(mesh) == before

    left = await traces(mesh, "istio-ingress", "gateway")
    assert "is down" in mesh.meltemi("down").out
    assert mesh.up is not None
    assert mesh.up.wait(20) == 0
    left.assert_gone()
    assert not (mesh.home / "kubeconfig").exists()
    assert "was not running" in mesh.meltemi("down").out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
async def test_nothing_is_left_behind(mesh: Mesh, number: signal.Signals) -> None:
    (mesh.files / "pod.yaml").write_text(POD)
    mesh.start(mesh.files)
    mesh.wait_ready()
    assert "Directory listing" in fetch(await mesh.host_port("small", "web"))
    left = await traces(mesh, "small", "web")

    status = mesh.signal(number)

    assert status == (0 if number is signal.SIGINT else -signal.SIGKILL)
    left.assert_gone()
    assert mesh.meltemi("status", status=None).status != 0

    mesh.start(mesh.files)  # What was there is there again.
    mesh.wait_ready()
    assert "Directory listing" in fetch(await mesh.host_port("small", "web"))


async def test_detached_it_returns_when_everything_is_ready(mesh: Mesh) -> None:
    (mesh.files / "pod.yaml").write_text(POD)
    done = mesh.meltemi("up", "--detach", mesh.files, seconds=START_SECONDS)
    assert "ready" in done.out
    try:
        assert "Directory listing" in fetch(await mesh.host_port("small", "web"))
        assert "small" in mesh.meltemi("get", "pods", "--all-namespaces").out
    finally:
        assert "is down" in mesh.meltemi("down").out


async def test_a_directory_is_followed_and_mistakes_keep_what_was_good(mesh: Mesh) -> None:
    first, second = mesh.files / "first.yaml", mesh.files / "second.yaml"
    first.write_text(config("first", "one"))
    mesh.start(mesh.files)
    mesh.wait_line("applied +1 created")
    word = Key("default", "first")
    await mesh.until(CONFIG_MAPS, lambda known: word in known)

    first.write_text(config("first", "two"))
    await mesh.until(CONFIG_MAPS, lambda known: known[word]["data"] == {"word": "two"})

    second.write_text(config("second", "one"))
    await mesh.until(CONFIG_MAPS, lambda known: Key("default", "second") in known)

    seen = len(mesh.lines)
    first.write_text(config("first", "three") + "oops: [\n")
    mesh.wait_line(r"first\.yaml:\d+", after=seen)
    seen = len(mesh.lines)
    second.write_text(config("second", "two") + "spec: {none: 1}\n---\nkind: Nothing\n")
    mesh.wait_line(r"second\.yaml:\d+", after=seen)
    known = await mesh.until(CONFIG_MAPS, lambda known: True)
    assert known[word]["data"] == {"word": "two"}

    first.write_text(config("first", "four"))
    second.unlink()
    known = await mesh.until(CONFIG_MAPS, lambda known: Key("default", "second") not in known)
    await mesh.until(CONFIG_MAPS, lambda known: known[word]["data"] == {"word": "four"})


def test_files_that_are_not_there_are_refused_by_name(mesh: Mesh) -> None:
    missing = mesh.meltemi("up", mesh.files / "nothing.yaml", status=1)
    assert "nothing.yaml" in missing.err
