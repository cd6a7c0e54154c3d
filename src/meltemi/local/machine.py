"""One machine's mesh, inside its sandbox: the API, the controllers, the pods, and the mesh's own processes, put together.

    API server, controllers, pod runner, DNS, forwarders      in this process
    control plane, agent                                      processes of their own, started again when they end
    applications, Envoys                                      processes of their pods

Order matters at the start (the agent before the first proxy, the API before everything) and at the end (pods before the
agent). Invariant: what users have asked for is in the API; everything here can be made again from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from meltemi.agent.client import AgentClient
from meltemi.agent.spec import Address
from meltemi.inject import policy
from meltemi.kube.client import Client
from meltemi.kube.resources import CONFIG_MAPS, PODS, SECRETS, Obj, Resource
from meltemi.local.apiserver.catalogue import Kind
from meltemi.local.apiserver.server import ApiServer, listen
from meltemi.local.components import Component
from meltemi.local.controllers.loop import Controllers
from meltemi.local.door import Door
from meltemi.local.exposure import PROXY_DNS, Exposure
from meltemi.local.following import follow
from meltemi.local.home import Home
from meltemi.local.network import MeshNetwork
from meltemi.local.podreports import ApiReports
from meltemi.local.processes import Processes
from meltemi.local.proxies import ProxyLauncher, Surroundings
from meltemi.local.reawakening import forget_last_run
from meltemi.local.runner import PodRunner
from meltemi.local.syscalls import MountFlag, mount
from meltemi.local.watch import Watch
from meltemi.local.workshop import RunnerSettings
from meltemi.sources.files import Files, Report

log = logging.getLogger(__name__)

XDS_PORT, AUTHORITY_PORT, ADMIN_PORT = 15011, 15012, 15014
NODE = "local"
_STOP_GRACE = 3.0


Tell = Callable[[str, object], None]
"""Told what happens: a word and a value (see `news`)."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one `meltemi up` is to do. `runtime` is a directory with a short path that may be hidden by another, `started` a monotonic
    time in seconds."""

    home: Home
    runtime: Path
    files: tuple[str, ...] = ()
    follow: bool = True
    api_port: int = 0
    started: float


class Machine:
    """Everything inside the sandbox."""

    def __init__(self, plan: Plan, door: Door, tell: Tell) -> None:
        self._plan = plan
        self._door = door
        self._tell = tell
        self._stop = asyncio.Event()
        self._has_applied = not plan.files
        self.runner: PodRunner | None = None

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT, then end everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            await self._stop.wait()
            self._tell("stopping", None)
            # The mesh is not there for others from now on, whatever still ends in it.
            self._plan.home.kubeconfig.unlink(missing_ok=True)

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        home, runtime = self._plan.home, self._plan.runtime
        # In memory, and only inside: nothing of it is left when the sandbox ends.
        mount("tmpfs", str(runtime), "tmpfs", MountFlag.NOSUID | MountFlag.NODEV, "mode=700")
        network = MeshNetwork()
        stack.callback(network.close)
        api = await self._start_api(stack)
        client = api.client("meltemi-machine")
        await forget_last_run(client)
        await stack.enter_async_context(background(Controllers(api.verbs).run(), "controllers"))
        exposure = Exposure(client, self._door, lambda entry: self._tell("reachable", entry))
        await stack.enter_async_context(background(exposure.run(), "exposure"))
        await self._start_components(stack, network)
        agent = AgentClient(runtime / "agent.sock")
        stack.push_async_callback(agent.aclose)
        around = Surroundings(
            sockets=runtime / "s",
            roots=home.controlplane / "ca" / "root-cert.pem",
            control_plane=Address(str(network.gateway), XDS_PORT),
            authority=Address(str(network.gateway), AUTHORITY_PORT),
            resolver=Address(PROXY_DNS.ip, PROXY_DNS.port),
        )
        launcher = ProxyLauncher(client, agent, around)
        stack.push_async_callback(launcher.aclose)
        await stack.enter_async_context(background(launcher.keep_fresh(), "tokens"))

        reports = ApiReports(client)
        processes = Processes.start()
        stack.push_async_callback(processes.aclose)
        runner = PodRunner(self._settings(), processes, network, reports, reports, launcher)
        self.runner = runner
        stack.push_async_callback(runner.stop, _STOP_GRACE)
        await stack.enter_async_context(background(runner.run(follow(client, PODS)), "pods"))
        for resource in (CONFIG_MAPS, SECRETS):
            watching = self._watch_objects(client, resource, runner)
            await stack.enter_async_context(background(watching, resource.plural))
        if self._plan.files:
            await stack.enter_async_context(background(self._keep_files(Files(client, self._plan.files)), "files"))
        watch = Watch(client, self._tell, self._plan.started, lambda: self._has_applied)
        await stack.enter_async_context(background(watch.run(), "progress"))

    async def _start_api(self, stack: contextlib.AsyncExitStack) -> ApiServer:
        """The API listens twice: outside for the user's commands, and inside, where the control plane is."""
        home = self._plan.home
        api = ApiServer(
            home.api, mutate=_admit, pods=lambda: self.runner, admin_address=lambda: f"127.0.0.1:{ADMIN_PORT}"
        )
        outside, inside = self._door.listen(self._plan.api_port), listen()
        addresses = [f"https://127.0.0.1:{each.getsockname()[1]}" for each in (outside, inside)]
        await api.start([outside, inside])
        stack.push_async_callback(api.stop)
        api.write_kubeconfig(home.controlplane / "kubeconfig", addresses[1], "istio-system")
        api.write_kubeconfig(home.kubeconfig, addresses[0])
        self._tell("api", addresses[0])
        return api

    async def _start_components(self, stack: contextlib.AsyncExitStack, network: MeshNetwork) -> None:
        home, runtime = self._plan.home, self._plan.runtime
        level = logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()
        commands = {
            "controlplane": [
                "meltemi.controlplane",
                *("--kubeconfig", str(home.controlplane / "kubeconfig")),
                *("--state", str(home.controlplane)),
                *("--address", str(network.gateway)),
                *("--log-level", level),
            ],
            "agent": ["meltemi.agent", "--control", str(runtime / "agent.sock"), "--log-level", level],
        }
        for name, arguments in commands.items():
            component = Component(name, arguments, home.logs / f"{name}.log")
            await stack.enter_async_context(background(component.run(), name))

    def _settings(self) -> RunnerSettings:
        home = self._plan.home
        interpreter = str(Path(sys.executable).parent)
        path = os.pathsep.join(dict.fromkeys([interpreter, *os.environ.get("PATH", os.defpath).split(os.pathsep)]))
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ", "HOME") if name in os.environ}
        return RunnerSettings(
            runtime=self._plan.runtime / "pods",
            logs=home.logs / "pods",
            base_environment={"PATH": path, "PYTHONUNBUFFERED": "1", **kept},
            hidden=(str(home.directory), str(self._plan.runtime)),
        )

    async def _watch_objects(self, client: Client, resource: Resource, runner: PodRunner) -> None:
        async for change in follow(client, resource):
            runner.object_changed(change.key.namespace)

    async def _keep_files(self, files: Files) -> None:
        if not self._plan.follow:
            self._applied(await files.apply())
            return
        async with contextlib.aclosing(files.follow()) as reports:
            async for report in reports:
                self._applied(report)

    def _applied(self, report: Report) -> None:
        self._has_applied = True
        self._tell("applied", report)


def _admit(kind: Kind, obj: Obj, namespace: Obj | None) -> None:
    """What a scheduler and the injection webhook do elsewhere. A pod with no node would be deleted without grace."""
    if kind.id == "pods":
        obj["spec"].setdefault("nodeName", NODE)
        policy.mark(obj, namespace)


@contextlib.asynccontextmanager
async def background(work: Coroutine[Any, Any, None], name: str) -> AsyncGenerator[None, None]:
    """Runs beside the others until the context ends. If it fails, so does the machine: there is no half of a mesh."""
    task = asyncio.ensure_future(work)
    machine = asyncio.current_task()
    assert machine is not None

    def on_end(ended: asyncio.Future[None]) -> None:
        if not ended.cancelled() and ended.exception() is not None:
            log.error("the machine stops: %s failed", name, exc_info=ended.exception())
            machine.cancel()

    task.add_done_callback(on_end)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
