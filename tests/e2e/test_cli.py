"""The command line as a user has it: a small mesh, started by `meltemi up`, and every verb against it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVE = (
    "import http.server as h; print('serving', flush=True); "
    "h.ThreadingHTTPServer(('', 8080), h.SimpleHTTPRequestHandler).serve_forever()"
)
SHOP = f"""\
apiVersion: v1
kind: Namespace
metadata: {{name: shop, labels: {{istio-injection: enabled}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
        - name: web
          image: none
          command: [{json.dumps(sys.executable)}, -c, {json.dumps(SERVE)}]
          ports: [{{containerPort: 8080}}]
          readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
"""
ROUTE = """\
# answers for the shop
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
    - match: [{uri: {prefix: /teapot}}]
      directResponse: {status: 418}
    - route: [{destination: {host: web}}]
"""
ASK = (
    "import urllib.request as u, urllib.error as e\n"
    "try: print(u.urlopen('http://web/teapot').status)\n"
    "except e.HTTPError as error: print(error.code)"
)


class Mesh:
    """A mesh that runs, and `meltemi` as a program."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "shop.yaml").write_text(SHOP)
        (directory / "route.yaml").write_text(ROUTE)

    def run(self, *arguments: str, seconds: float = 60, status: int = 0) -> str:
        """Runs a command; what it told. Fails unless it ends with the status."""
        source = str(Path(__file__).parents[2] / "src")
        told = subprocess.run(
            [sys.executable, "-m", "meltemi.cli", *arguments],
            capture_output=True,
            text=True,
            cwd=self.directory,
            timeout=seconds,
            env={**os.environ, "PYTHONPATH": source, "MELTEMI_HOME": str(self.directory / "home")},
            check=False,
        )
        assert told.returncode == status, f"{arguments}: {told.returncode}\n{told.stdout}{told.stderr}"
        return told.stdout + told.stderr


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    directory = Path(tempfile.mkdtemp(prefix="meltemi-cli-"))
    made = Mesh(directory)
    try:
        told = made.run("up", "shop.yaml", "--detach", "--name", "cli-test", seconds=120)
        assert "ready" in told
        yield made
    finally:
        made.run("down", "--name", "cli-test")
        shutil.rmtree(directory)


def test_the_mesh_is_told_at_a_glance(mesh: Mesh) -> None:
    told = mesh.run("status")
    assert "mesh            the mesh 'cli-test'" in told
    assert "proxies         2 of 2 in sync" in told
    assert "workloads       1 of 1 ready" in told
    rows = [line.split() for line in mesh.run("proxy-status").splitlines()[1:]]
    assert {row[2] for row in rows} == {"SYNCED"}


def test_what_was_applied_with_wait_holds_for_the_next_request(mesh: Mesh) -> None:
    assert mesh.run("exec", "deploy/web", "--", sys.executable, "-c", ASK).strip() == "404"
    told = mesh.run("apply", "-f", "route.yaml", "--wait")
    assert "virtualservice.networking.istio.io/web created" in told
    assert "live at 2 proxies in " in told
    assert mesh.run("exec", "deploy/web", "--", sys.executable, "-c", ASK).strip() == "418"


def test_a_route_is_led_back_to_the_line_of_its_file(mesh: Mesh) -> None:
    mesh.run("apply", "-f", "route.yaml", "--wait")
    told = mesh.run("proxy-config", "routes", "deploy/web", "--name", "web.shop")
    assert "answer 418" in told
    assert "VirtualService shop/web spec.http[0].match[0] (route.yaml:8)" in told
    content = json.loads(mesh.run("proxy-config", "routes", "app=web", "--name", "web.shop", "-o", "json"))
    assert content[0]["content"]["routes"][0]["direct_response"]["status"] == 418
    for kind, part in (
        ("listeners", "routes 80"),
        ("clusters", "web.shop"),
        ("endpoints", "shop/web"),
        ("all", "ROUTES"),
    ):
        assert part in mesh.run("proxy-config", kind, "deploy/web", "-o", "wide")


def test_an_object_is_described_with_who_has_it(mesh: Mesh) -> None:
    mesh.run("apply", "-f", "route.yaml", "--wait")
    told = mesh.run("describe", "vs", "web", "-n", "shop")
    assert "acknowledged by all of 2 proxies" in told
    assert "part of the configuration of 2 proxies" in told


def test_a_host_that_does_not_exist_is_told_when_one_waits_and_in_the_status(mesh: Mesh) -> None:
    (mesh.directory / "odd.yaml").write_text(
        ROUTE.replace("name: web,", "name: odd,").replace("host: web", "host: wob")
    )
    told = mesh.run("apply", "-f", "odd.yaml", "--wait", status=1)
    assert "odd.yaml:10: error: VirtualService shop/odd: spec.http[1].route[0].destination.host:" in told
    assert "odd.yaml:10: error: VirtualService shop/odd: spec.http[1]" in mesh.run("status", status=1)
    assert "gone from 2 proxies in " in mesh.run("delete", "-f", "odd.yaml", "--wait")
    mesh.run("status")


def test_logs_are_those_of_the_workload_and_of_its_proxy(mesh: Mesh) -> None:
    lines = mesh.run("logs", "deploy/web", "--tail", "200").splitlines()
    assert len([line for line in lines if line.endswith("| serving")]) == 2
    mesh.run("logs", "deploy/web", "-c", "istio-proxy", "--tail", "1")


def test_a_command_has_its_exit_status(mesh: Mesh) -> None:
    mesh.run("exec", "deploy/web", "--", "sh", "-c", "exit 7", status=7)


def test_objects_are_listed_as_kubectl_lists_them(mesh: Mesh) -> None:
    rows = [line.split() for line in mesh.run("get", "pods", "-n", "shop").splitlines()]
    assert rows[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row[1:3] for row in rows[1:]] == [["2/2", "Running"]] * 2


def test_the_versions_of_all_parts_are_told(mesh: Mesh) -> None:
    from meltemi import __version__

    told = json.loads(mesh.run("version", "-o", "json"))
    assert told["client"] == told["controlPlane"]["version"] == __version__
