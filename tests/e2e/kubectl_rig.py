"""A local API server with its controllers in a process of its own, a small kubelet, and the real kubectl."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meltemi.kube.client import Client
from meltemi.kube.config import load
from meltemi.kube.reflector import objects
from meltemi.kube.resources import PODS, Obj
from meltemi.kube.transport import HttpTransport
from meltemi.local.apiserver.podaccess import ExecOptions, ExecStreams, LogOptions
from meltemi.local.apiserver.server import ApiServer, listen
from meltemi.local.controllers.loop import Controllers

NEEDS_KUBECTL = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
_DEADLINE = 60


class Pods:
    """A pod runner that runs nothing: logs are made up, commands run beside it."""

    async def logs(self, namespace: str, pod: str, options: LogOptions) -> AsyncIterator[bytes]:
        yield f"a line of {pod}\n".encode()

    async def exec(self, namespace: str, pod: str, options: ExecOptions, streams: ExecStreams) -> int:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*options.command, stdin=pipe, stdout=pipe, stderr=pipe)
        assert process.stdin is not None
        if options.stdin:
            async for piece in streams.stdin():
                process.stdin.write(piece)
        process.stdin.close()
        assert process.stdout is not None
        assert process.stderr is not None
        await streams.stdout(await process.stdout.read())
        await streams.stderr(await process.stderr.read())
        return await process.wait()


async def kubelet(client: Client) -> None:
    """Places every pod, says that it runs, and ends it when it is to go."""
    addresses = (f"10.244.0.{number}" for number in itertools.count(2))
    async for change in objects(client, PODS).changes():
        pod = change.value
        if pod is None:
            continue
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        if pod["metadata"].get("deletionTimestamp"):
            await client.delete(PODS, name, namespace, grace_seconds=0)
        elif not pod["spec"].get("nodeName"):
            binding: Obj = {"target": {"name": "local"}}
            await client.create(PODS, binding, namespace=namespace, name=name, subresource="binding")
        elif not pod["status"].get("podIP"):
            await client.update_status(PODS, {**pod, "status": _running(pod, next(addresses))})


def _running(pod: Obj, address: str) -> Obj:
    moment = "2026-01-01T00:00:00Z"
    containers = [
        {
            "name": c["name"],
            "ready": True,
            "restartCount": 0,
            "image": "",
            "imageID": "",
            "state": {"running": {"startedAt": moment}},
        }
        for c in pod["spec"]["containers"]
    ]
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": moment}
    return {"phase": "Running", "podIP": address, "conditions": [ready], "containerStatuses": containers}


async def serve(directory: Path, port: int) -> None:
    """The server process. Writes the kubeconfig when it is ready; ends with its standard input."""
    pods = Pods()
    server = ApiServer(directory / "state", pods=lambda: pods)
    listener = listen(port=port)
    await server.start([listener])
    tasks = [asyncio.create_task(Controllers(server.verbs).run()), asyncio.create_task(kubelet(server.client()))]
    server.write_kubeconfig(directory / "kubeconfig", f"https://127.0.0.1:{listener.getsockname()[1]}")
    print("ready", flush=True)  # noqa: T201
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.stop()


class Cluster:
    """The server process and ways to talk to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self.environment = {**os.environ, "KUBECONFIG": str(directory / "kubeconfig"), "HOME": str(directory)}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts the server, at the same port as before."""
        pipe = asyncio.subprocess.PIPE
        arguments = (sys.executable, __file__, str(self.directory), str(self.port))
        self._process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe)
        assert self._process.stdout is not None
        async with asyncio.timeout(_DEADLINE):
            assert await self._process.stdout.readline() == b"ready\n"
        self.port = int(load(self.directory / "kubeconfig").server.rpartition(":")[2])

    async def stop(self) -> None:
        """Asks the server to end, and waits."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            async with asyncio.timeout(_DEADLINE):
                await self._process.wait()
            self._process = None

    async def kill(self) -> None:
        """Ends the server as a crash would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        self._process = None

    def client(self) -> Client:
        """A client over the network."""
        return Client(HttpTransport(load(self.directory / "kubeconfig")))

    async def kubectl(self, *arguments: str, typed: str = "", fails: bool = False) -> str:
        """What kubectl prints (both streams). Asserts that it succeeds, or that it fails."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "kubectl", *arguments, env=self.environment, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(_DEADLINE):
            output, _ = await process.communicate(typed.encode())
        text = output.decode()
        assert (process.returncode != 0) is fails, text
        return text


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
