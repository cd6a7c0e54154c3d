"""Pods as processes: real namespaces, real links, real rules; as root and as an ordinary user."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

import pytest

from meltemi.local.door import Door
from meltemi.testing.pods import pod_of, runner_world
from meltemi.testing.sandboxed import Scenario, run_sandboxed

pytestmark = pytest.mark.e2e

Run = Callable[[Scenario], None]
PYTHON = sys.executable


@pytest.fixture(params=["root", "ordinary user"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a scenario in a sandbox, once as root and once as an ordinary user."""
    as_root = request.param == "root"
    if as_root and os.getuid() != 0:
        pytest.skip("needs root: the other case runs the scenario as this user")
    return lambda scenario: run_sandboxed(scenario, ordinary_user=not as_root)


def web_server(port: int = 8080) -> list[str]:
    """The command of a web server that shows the files of its working directory."""
    return [PYTHON, "-m", "http.server", str(port)]


async def fetch(address: str, port: int) -> int:
    """The status of a GET of / from the sandbox's own network."""
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


def test_a_pod_answers_from_its_own_address(run: Run) -> None:
    async def scenario(_door: Door) -> None:
        async with runner_world() as world:
            probe = {"httpGet": {"port": "web", "path": "/"}}
            container = {
                "name": "app",
                "command": web_server(80),
                "workingDir": "/usr",
                "ports": [{"name": "web", "containerPort": 80}],
                "readinessProbe": probe,
            }
            server = world.add(pod_of({"containers": [container]}, name="server"))
            status = await world.ready(server)
            assert await fetch(status.pod_ip, 80) == 200
            ask = f"import urllib.request; print(urllib.request.urlopen('http://{status.pod_ip}/').status)"
            client = world.add(
                pod_of({"containers": [{"name": "app", "command": [PYTHON, "-c", ask]}], "restartPolicy": "Never"})
            )
            assert (await world.finished(client)).phase == "Succeeded"
            assert await world.log(client) == "200\n"
            assert world.statuses[client.metadata.uid].pod_ip != status.pod_ip

    run(scenario)
