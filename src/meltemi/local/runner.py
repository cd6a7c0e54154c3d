"""Runs the pods that the API wants run: the kubelet's part, on one machine.

Pods come as changes (from a watch); for each there is one `PodRun` in a task of its own, keyed by uid, since a pod may
be made again under its name while the old one still ends. An object with a deletion timestamp is ended within its grace
period and then reported as removed; an object that has vanished is ended at once. Invariant: a fault in one pod's task
is that pod's failure, and never another's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime

from meltemi.api.core import Pod
from meltemi.api.core.pods import PodStatus
from meltemi.kube.errors import BadRequest, NotFound, Status
from meltemi.kube.reflector import Change, What
from meltemi.kube.resources import Key
from meltemi.local.apiserver.podaccess import ExecOptions, ExecStreams, LogOptions
from meltemi.local.commands import run_streamed
from meltemi.local.containers import ContainerSupervisor
from meltemi.local.network import POD_NETWORK, AddressPool, MeshNetwork
from meltemi.local.pod import PodRun
from meltemi.local.podinfo import PodObjects
from meltemi.local.processes import Processes, StartError
from meltemi.local.sidecar import SidecarLauncher
from meltemi.local.syscalls import MountFlag, mount, unmount
from meltemi.local.workshop import PodReports, RunnerSettings, Workshop

_log = logging.getLogger(__name__)
_RESERVED_ADDRESSES = 256
_FORCED_GRACE = 1.0
_CONTAINER_ANNOTATION = "kubectl.kubernetes.io/default-container"


class RunnerFailedError(Exception):
    """The process that starts programs is gone, and every pod with it."""


class PodRunner:
    """The pods of this machine. Also what the API server asks for logs and for commands (`PodAccess`)."""

    def __init__(
        self,
        settings: RunnerSettings,
        processes: Processes,
        network: MeshNetwork,
        objects: PodObjects,
        reports: PodReports,
        launcher: SidecarLauncher | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        addresses = AddressPool(POD_NETWORK, reserved=_RESERVED_ADDRESSES)
        self._shop = Workshop(settings, processes, network, addresses, objects, reports, launcher, now)
        self._runs: dict[str, PodRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        settings.runtime.mkdir(parents=True, exist_ok=True)
        mount("tmpfs", str(settings.runtime), "tmpfs", MountFlag.NOSUID | MountFlag.NODEV, "mode=700")
        self._is_mounted = True

    def __repr__(self) -> str:
        return f"<PodRunner: {len(self._runs)} pods>"

    async def run(self, changes: AsyncIterator[Change[Pod]]) -> None:
        """Follows the changes until they end, or for ever. Cancelled, it leaves the pods as they are: see `stop`.

        Raises RunnerFailedError if the pods were lost all together.
        """
        following = asyncio.ensure_future(self._follow(changes))
        try:
            await asyncio.wait((following, self._shop.processes.lost), return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                raise RunnerFailedError("the process that starts programs has ended, and all pods with it")
            following.result()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def stop(self, grace: float) -> None:
        """Ends the processes of all pods, at most `grace` seconds each, and waits until nothing is left of them.

        The API is told nothing of it: what it wants to run, runs again when the mesh does.
        """
        for run in self._runs.values():
            run.leave(min(grace, float(run.pod.spec.termination_grace_period_seconds)))
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._is_mounted:
            self._is_mounted = False
            unmount(str(self._shop.settings.runtime))

    def object_changed(self, namespace: str) -> None:
        """A ConfigMap or Secret of the namespace was made, changed or removed: pods that show it write it again."""
        for run in self._runs.values():
            if run.pod.metadata.namespace == namespace:
                run.reconsider()

    def pods(self) -> tuple[PodRun, ...]:
        """The pods that run, end, or have ended and are not deleted yet."""
        return tuple(self._runs.values())

    # --- PodAccess ---

    async def logs(self, namespace: str, pod: str, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """See `PodAccess.logs`."""
        container = self._container(namespace, pod, options.container)
        log = container.previous_log if options.previous else container.log
        if log is None:
            if options.previous:
                name = container.container.name
                raise _bad_request(f'previous terminated container "{name}" in pod "{pod}" not found')
            return
        async with aclosing(log.read(options)) as pieces:
            async for piece in pieces:
                yield piece

    async def exec(self, namespace: str, pod: str, options: ExecOptions, streams: ExecStreams) -> int:
        """See `PodAccess.exec`."""
        run = self._find(namespace, pod)
        container = self._container(namespace, pod, options.container)
        if container.process is None or run.namespaces is None:
            raise _bad_request(f"container {container.container.name} of pod {pod} is not running")
        program = container.command(options.command, terminal=options.tty)
        try:
            return await run_streamed(
                self._shop.processes, run.namespaces, program, container.process, options, streams
            )
        except StartError as error:
            raise _bad_request(str(error)) from error

    def _find(self, namespace: str, name: str) -> PodRun:
        found = [run for run in self._runs.values() if _key(run.pod) == Key(namespace, name)]
        if not found:
            raise NotFound(
                Status(code=404, reason="NotFound", message=f'pods "{name}" not found', kind="pods", name=name)
            )
        return found[-1]

    def _container(self, namespace: str, pod: str, name: str) -> ContainerSupervisor:
        run = self._find(namespace, pod)
        wanted = name or run.pod.annotations.get(_CONTAINER_ANNOTATION, "")
        if not wanted and run.pod.spec.containers:
            wanted = run.pod.spec.containers[0].name
        supervisor = run.supervisors.get(wanted)
        if supervisor is None:
            if any(container.name == wanted for container in run.pod.spec.containers):
                raise _bad_request(f'container "{wanted}" in pod "{pod}" is waiting to start: ContainerCreating')
            raise _bad_request(f"container {wanted} is not valid for pod {pod}")
        return supervisor

    # --- the pods ---

    async def _follow(self, changes: AsyncIterator[Change[Pod]]) -> None:
        async for change in changes:
            if change.value is not None:
                self._take(change.value)
            elif change.what is What.DELETED:
                for run in self._runs.values():
                    if _key(run.pod) == change.key:
                        run.stop(_FORCED_GRACE)

    def _take(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        run = self._runs.get(uid)
        for other in self._runs.values():
            if other is not run and _key(other.pod) == _key(pod):
                other.stop(_FORCED_GRACE)
        ending = bool(pod.metadata.deletion_timestamp)
        if run is None:
            if ending:
                self._spawn(self._report_removed(pod))
            elif pod.status.phase not in ("Succeeded", "Failed"):
                self._runs[uid] = PodRun(pod, self._shop)
                self._spawn(self._see_through(uid, self._runs[uid]))
            return
        run.update(pod)
        if ending:
            grace = pod.metadata.deletion_grace_period_seconds
            run.stop(float(pod.spec.termination_grace_period_seconds if grace is None else grace))

    async def _see_through(self, uid: str, run: PodRun) -> None:
        try:
            await run.run()
        except Exception as error:
            _log.exception("the pod %s/%s cannot be run", run.pod.metadata.namespace, run.pod.metadata.name)
            why = f"the runner of pods failed: {error!r}"
            self._shop.reports.event(run.pod, "Warning", "RunnerFault", why)
            await self._shop.reports.status(run.pod, PodStatus(phase="Failed", reason="RunnerFault", message=why))
        finally:
            self._runs.pop(uid, None)

    async def _report_removed(self, pod: Pod) -> None:
        await PodRun(pod, self._shop).report_removed()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _key(pod: Pod) -> Key:
    return Key(pod.metadata.namespace, pod.metadata.name)


def _bad_request(message: str) -> BadRequest:
    return BadRequest(Status(code=400, reason="BadRequest", message=message))
