"""A real mesh for tests: `meltemi up` in a process of its own, and what a test does with it, in plain calls.

    with Mesh.started(directory) as mesh:
        mesh.apply(yaml)                       returns when every proxy concerned has acknowledged
        shop, = mesh.deploy("shop", "default")
        shop.get("http://books:8080/")

Every wait is for an event (a watch of the API, an answer of the control plane), with a deadline, and a failure tells
what was there instead. The calls block; they are made on an event loop in a thread, so that tests need not be async.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from meltemi.api.yaml import load
from meltemi.base.refs import Ref
from meltemi.cli.failures import Failure
from meltemi.cli.meshapi import MeshApi, MeshProblem, ProxyState, ResourceRow
from meltemi.cli.waiting import is_rolled_out
from meltemi.kube import config, execution
from meltemi.kube.client import Client
from meltemi.kube.errors import NotFound
from meltemi.kube.execution import Command
from meltemi.kube.resources import DEPLOYMENTS, ENDPOINT_SLICES, NAMESPACES, PODS, SERVICES, Obj
from meltemi.kube.transport import HttpTransport
from meltemi.testing import tunnel, workloads
from meltemi.testing.clients import EchoPod
from meltemi.testing.echo.orders import Reply
from meltemi.testing.objects import (
    is_ready,
    name_of,
    outside_ports,
    ready_addresses,
    ref_of,
    resource_of_kind,
    selected,
)
from meltemi.testing.processes import child_running, children_of
from meltemi.testing.watching import SECONDS, MeshError, until

__all__ = ["SECONDS", "Mesh", "MeshError", "eventually"]

T = TypeVar("T")

_GATE = "meltemi-testing"
_LOOK_AGAIN = 0.05
_LOG_END = 2000


class Mesh:
    """A running mesh. `home` is its MELTEMI_HOME."""

    def __init__(self, home: Path, process: subprocess.Popen[str]) -> None:
        self.home = home
        self._process = process
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mesh", daemon=True)
        self._transport: HttpTransport
        self._client: Client
        self._api: MeshApi
        self._gate = ("127.0.0.1", 0)
        self._kinds: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Mesh {self.home} process {self._process.pid}>"

    # --- coming and going ---

    @classmethod
    @contextlib.contextmanager
    def started(cls, directory: Path, *, ordinary_user: bool = False) -> Iterator[Mesh]:
        """A mesh with nothing in it but the gate. `directory` becomes its home; root can be made to be `nobody`."""
        if ordinary_user and os.getuid() == 0:
            directory.chmod(0o777)
        command = [sys.executable, "-m", "meltemi.testing.machine", *(["--ordinary-user"] if ordinary_user else [])]
        with (directory / "up.log").open("w") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "MELTEMI_HOME": str(directory)},
            )
        mesh = cls(directory, process)
        try:
            mesh._begin()
            yield mesh
        finally:
            mesh._end()

    @property
    def kubeconfig(self) -> Path:
        """How to reach the API."""
        return self.home / "local" / "kubeconfig"

    def _begin(self) -> None:
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if line.split()[:1] == ["api"]:
                break
        else:
            raise MeshError(f"the mesh did not start: {said}{(self.home / 'up.log').read_text()}")
        threading.Thread(target=self._process.stdout.read, name="mesh output", daemon=True).start()
        self._thread.start()
        self._do(self._connect())
        self.apply(workloads.gate(_GATE))
        self._do(self._open_gate())

    async def _connect(self) -> None:
        self._transport = HttpTransport(config.load(self.kubeconfig))
        self._client = Client(self._transport, field_manager="test")
        self._api = MeshApi(self._transport, "the test's mesh")
        async with asyncio.timeout(SECONDS):
            while not self._kinds:
                try:
                    self._kinds = await self._api.kinds()
                except Failure:
                    # The control plane is starting: nothing tells when it listens but that it answers.
                    await asyncio.sleep(_LOOK_AGAIN)

    async def _open_gate(self) -> None:
        service = await until(
            self._client, SERVICES, _GATE, lambda found: any(map(outside_ports, found)), "the gate is open"
        )
        self._gate = ("127.0.0.1", next(outside_ports(each)[0] for each in service if outside_ports(each)))

    def _end(self) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(AttributeError):
                self._do(self._client.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        self._process.terminate()
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # --- objects ---

    def apply(self, objects: str | Iterable[Obj], *, wait: bool = True, seconds: float = SECONDS) -> list[Ref]:
        """Applies YAML or objects. Returns what it was, when it runs and every proxy concerned has acknowledged.

        Raises ApiError if the API refuses one, and MeshError if something is not live in time.
        """
        return self._do(self._apply(self._objects(objects), wait=wait, seconds=seconds))

    @contextlib.contextmanager
    def applied(self, objects: str | Iterable[Obj]) -> Iterator[list[Ref]]:
        """Applies objects for as long as the body runs."""
        listed = self._objects(objects)
        try:
            yield self.apply(listed)
        finally:
            self.delete([ref_of(obj) for obj in listed])

    def delete(self, refs: Sequence[Ref], *, seconds: float = SECONDS) -> None:
        """Deletes objects, if they exist. Returns when every proxy has acknowledged that."""
        self._do(self._delete(refs, seconds))

    @contextlib.contextmanager
    def namespace(self, name: str, labels: dict[str, str] | None = None) -> Iterator[str]:
        """A namespace, with injection unless `labels` say otherwise; deleted with everything in it at the end."""
        metadata = {"name": name, "labels": {"istio-injection": "enabled"} if labels is None else labels}
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
        try:
            yield name
        finally:
            self._do(self._delete_namespace(name))

    def get(self, kind: str, namespace: str, name: str) -> Obj:
        """An object. Raises NotFound."""
        return self._do(self._client.get(resource_of_kind(kind), name, namespace))

    def all(self, kind: str, namespace: str, labels: str = "") -> list[Obj]:
        """The objects of a kind in a namespace."""
        return self._do(self._client.list(resource_of_kind(kind), namespace, labels=labels)).items

    def until(
        self, kind: str, namespace: str, holds: Callable[[list[Obj]], bool], what: str, *, seconds: float = SECONDS
    ) -> list[Obj]:
        """Waits until something holds of all objects of a kind in a namespace. Raises MeshError that names `what`."""
        return self._do(until(self._client, resource_of_kind(kind), namespace, holds, what, seconds))

    # --- workloads ---

    def deploy(self, *objects: Obj | Sequence[Obj], seconds: float = SECONDS) -> None:
        """Applies the manifests of workloads. Returns when they run and every proxy knows their endpoints."""
        listed = [obj for each in objects for obj in ([each] if isinstance(each, dict) else each)]
        self.apply(listed, seconds=seconds)
        for namespace in sorted({ref_of(obj).namespace for obj in listed} - {""}):
            self._do(self._endpoints_live(namespace, seconds))

    def pods(self, namespace: str, labels: str = "") -> list[EchoPod]:
        """The pods of a namespace that are ready and stay, by name."""
        found = self.all("Pod", namespace, labels)
        kept = [pod for pod in found if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]
        return [
            EchoPod(pod["metadata"]["name"], namespace, pod["status"]["podIP"], self._ask)
            for pod in sorted(kept, key=lambda pod: str(pod["metadata"]["name"]))
        ]

    def pod(self, namespace: str, labels: str) -> EchoPod:
        """The one pod with these labels. Raises MeshError if there is none or another."""
        found = self.pods(namespace, labels)
        if len(found) != 1:
            raise MeshError(f"{labels} in {namespace} names {found}, not one pod")
        return found[0]

    def outside_port(self, namespace: str, service: str, port: int) -> int:
        """The port of 127.0.0.1 that leads to a port of a LoadBalancer service."""

        def led(found: list[Obj]) -> bool:
            named = [each for each in found if name_of(each) == service]
            return bool(named) and len(outside_ports(named[0])) == len(_numbers(named[0]))

        found = self.until("Service", namespace, led, f"{service} is reachable from outside")
        chosen = next(each for each in found if name_of(each) == service)
        return outside_ports(chosen)[_numbers(chosen).index(port)]

    # --- looking in ---

    def fetch(self, host: str, port: int, target: str = "/", *, seconds: float = SECONDS) -> Reply:
        """A GET of an address in the mesh's network, past every sidecar's client side."""
        return self._ask(host, port, target, None, seconds)

    def run(self, pod: EchoPod, command: Sequence[str]) -> str:
        """Runs a command in a pod beside its application, and returns what it printed. Raises MeshError if it fails."""
        said, errors = bytearray(), bytearray()
        wanted = Command(pod.namespace, pod.name, tuple(command), "echo")
        work = execution.run(self._transport, wanted, stdout=said.extend, stderr=errors.extend)
        if code := self._do(work):
            raise MeshError(f"{command[0]} ended with {code} in {pod!r}: {errors.decode()}")
        return said.decode()

    def proxies(self) -> list[ProxyState]:
        """The connected proxies."""
        return self._do(self._api.proxies())

    def problems(self, ref: Ref | None = None) -> list[MeshProblem]:
        """What is wrong with an object, or with all of them."""
        return [problem for problem in self._do(self._api.problems()) if ref is None or problem.ref == ref]

    def proxy_config(self, proxy: str, kind: str, *, name: str = "", full: bool = False) -> list[ResourceRow]:
        """What a proxy should hold of a kind (listeners, routes, clusters, endpoints, secrets)."""
        return self._do(self._api.configuration(proxy, kind, name=name, full=full)).get(kind, [])

    def kill(self, component: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to a process of the mesh: the one whose command line has `component` in it."""
        found = [child for child in children_of(self._process.pid) if child_running(child, component)]
        if not found:
            raise MeshError(f"no process of the mesh runs {component}")
        for child in found:
            os.kill(child, number)

    # --- the asynchronous inside ---

    def _ask(self, host: str, port: int, target: str, body: bytes | None, seconds: float) -> Reply:
        return self._do(tunnel.request(self._gate, host, port, target, body=body, seconds=seconds))

    def _objects(self, objects: str | Iterable[Obj]) -> list[Obj]:
        if not isinstance(objects, str):
            return [*objects]
        loaded = load(objects, "test.yaml")
        if loaded.problems:
            raise MeshError("\n".join(map(str, loaded.problems)))
        return [document.data for document in loaded.documents]

    async def _apply(self, objects: Sequence[Obj], *, wait: bool, seconds: float) -> list[Ref]:
        deadline = time.monotonic() + seconds
        versions: dict[Ref, str] = {}
        for obj in objects:
            applied = await self._client.apply(resource_of_kind(obj["kind"], obj["apiVersion"]), obj, force=True)
            versions[ref_of(obj)] = applied["metadata"]["resourceVersion"]
        if wait:
            for ref, version in versions.items():
                if ref.kind == "Deployment":
                    await self._rolled_out(ref, deadline - time.monotonic())
                else:
                    await self._live(ref, version, deadline - time.monotonic())
        return list(versions)

    async def _live(self, ref: Ref, version: str, seconds: float) -> None:
        if ref.kind not in self._kinds:
            return
        deadline = time.monotonic() + seconds
        while True:
            try:
                live = await self._api.wait(ref, version, max(deadline - time.monotonic(), 0.1))
                break
            except Failure as error:
                # The control plane starts, or starts again: nothing tells when it listens but that it answers.
                if time.monotonic() > deadline:
                    log = (self.home / "local" / "logs" / "controlplane.log").read_text(errors="replace")
                    raise MeshError(f"{error}; its log ends with\n{log[-_LOG_END:]}") from error
                await asyncio.sleep(_LOOK_AGAIN)
        if not live.live:
            raise MeshError(f"{ref} in version {version} is not live in time: {live}")

    async def _delete(self, refs: Sequence[Ref], seconds: float) -> None:
        for ref in refs:
            with contextlib.suppress(NotFound):
                await self._client.delete(resource_of_kind(ref.kind), ref.name, ref.namespace, propagation="Background")
        for ref in refs:
            await self._live(ref, "-1", seconds)

    async def _delete_namespace(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            await self._client.delete(NAMESPACES, name)
        await until(self._client, PODS, name, lambda pods: not pods, f"the pods of {name} are gone")
        await until(
            self._client, NAMESPACES, "", lambda all_: name not in map(name_of, all_), f"the namespace {name} is gone"
        )

    async def _rolled_out(self, ref: Ref, seconds: float) -> None:
        def holds(found: list[Obj]) -> bool:
            return any(name_of(each) == ref.name and is_rolled_out(each) for each in found)

        try:
            await until(self._client, DEPLOYMENTS, ref.namespace, holds, f"{ref} has rolled out", max(seconds, 0.1))
        except MeshError as error:
            pods = (await self._client.list(PODS, ref.namespace)).items
            told = "\n".join(f"{name_of(pod)}: {pod.get('status')}" for pod in pods)
            raise MeshError(f"{error}\n{told}") from None

    async def _endpoints_live(self, namespace: str, seconds: float) -> None:
        """Waits until the slices of all services name all ready pods, and every proxy knows them."""
        pods = [pod for pod in (await self._client.list(PODS, namespace)).items if is_ready(pod)]
        services = (await self._client.list(SERVICES, namespace)).items
        wanted = {name_of(service): selected(service, pods) for service in services if service["spec"].get("selector")}

        def holds(slices: list[Obj]) -> bool:
            return all(addresses <= ready_addresses(service, slices) for service, addresses in wanted.items())

        slices = await until(self._client, ENDPOINT_SLICES, namespace, holds, f"the endpoints of {namespace}", seconds)
        for each in slices:
            ref = Ref("EndpointSlice", namespace, name_of(each))
            await self._live(ref, each["metadata"]["resourceVersion"], seconds)


def _numbers(service: Obj) -> list[int]:
    """The numbers of a service's ports: TCP and UDP may share one."""
    return sorted({port["port"] for port in service["spec"]["ports"]})


def eventually(ask: Callable[[], T], holds: Callable[[T], bool], *, seconds: float = 10.0) -> T:
    """Asks again and again, at once, until the answer is as it should be. Raises MeshError with the last answer.

    For what no acknowledgement covers: old connections that are still drained, endpoints that are ejected.
    """
    deadline = time.monotonic() + seconds
    while not holds(answer := ask()):
        if time.monotonic() > deadline:
            raise MeshError(f"after {seconds:.0f} s the answer is still {answer}")
    return answer
