"""One pod, from its network to its last process: sidecar first, then the init containers in turn, then the others.

`PodRun.run` is the whole life of the pod. Whatever ends it (its containers have done their work, `stop`, the loss of its
namespaces) goes the same way out: containers, then native sidecars in reverse, then the proxy, then the process that
holds the namespaces, with which the kernel ends whatever is left. If the namespaces are lost without having been asked
to, the pod starts again in new ones under the same address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import IPv4Address

import msgspec

from meltemi.api.core import Container, Pod
from meltemi.api.core.pods import ContainerStatus, PodStatus
from meltemi.kube.errors import ApiError
from meltemi.local.capture import capture_rules, capture_settings
from meltemi.local.containers import ContainerSupervisor, Surrounds, stamp
from meltemi.local.environment import command_line, environment
from meltemi.local.pod_status import PodFacts, pod_status
from meltemi.local.pod_volumes import PodVolumes
from meltemi.local.podinfo import Surroundings
from meltemi.local.processes import PodProcess, Program, StartError
from meltemi.local.rundir import PodDirectories, host_name
from meltemi.local.sidecar import SidecarProcess
from meltemi.local.volumes import container_mounts
from meltemi.local.workshop import Workshop

_log = logging.getLogger(__name__)
_TELL_AGAIN = 1.0
_SIDECAR_GRACE = 5.0


DIRECTORY = "meltemi.dev/directory"
"""The annotation that names the directory of the file a pod was written in: containers without a working directory run there."""


class PodRun:
    """One pod."""

    def __init__(self, pod: Pod, shop: Workshop) -> None:
        self.pod = pod
        self.directories = PodDirectories(pod, shop.settings.runtime, shop.settings.logs)
        self.namespaces: PodProcess | None = None
        self.supervisors: dict[str, ContainerSupervisor] = {}
        self._shop = shop
        self._volumes: PodVolumes | None = None
        self._sidecar_name = ""
        self._address: IPv4Address | None = None
        self._started_at = ""
        self._facts = PodFacts()
        self._grace = float(pod.spec.termination_grace_period_seconds)
        self._told = PodStatus(conditions=pod.status.conditions)
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._is_leaving = False

    def __repr__(self) -> str:
        return f"<PodRun {self.pod.metadata.namespace}/{self.pod.metadata.name} {self._address}: {self._told.phase}>"

    # --- what others do with it ---

    def update(self, pod: Pod) -> None:
        """The pod's object has changed: its labels, annotations or conditions."""
        self.pod = pod
        if self._volumes:
            self._volumes.pod = pod
            self._volumes.reconsider()
        self._changed.set()

    def stop(self, grace: float) -> None:
        """Ends the pod for good; its containers get `grace` seconds."""
        self._grace = grace
        self._stopping.set()
        self._changed.set()

    def leave(self, grace: float) -> None:
        """Ends the pod's processes and tells nobody: for the API it goes on, and runs again when the mesh does."""
        self._is_leaving = True
        self.stop(grace)

    def reconsider(self) -> None:
        """An object that the pod reads has changed: volumes are written again, what waits for it is tried at once."""
        if self._volumes:
            self._volumes.reconsider()
        for supervisor in self.supervisors.values():
            supervisor.retry_now()

    async def run(self) -> None:
        """Runs the pod until it has ended for good and was told to stop; returns when nothing of it is left."""
        telling = asyncio.ensure_future(self._tell_changes())
        try:
            self.directories.create()
            self._address = self._shop.addresses.take()
            self._started_at = stamp(self._shop.now())
            failures = 0
            while not self._stopping.is_set() and not self._facts.finished:
                try:
                    await self._live()
                except (StartError, OSError, ApiError) as error:
                    if self._shop.processes.lost.done():
                        return
                    failures += 1
                    self._event("Warning", "FailedCreatePodSandBox", str(error))
                    self._set_facts(reason="FailedCreatePodSandBox", message=str(error))
                    await self._stopped_within(self._shop.settings.backoff.wait(failures))
            await self._stopping.wait()
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            if self._address:
                self._shop.addresses.release(self._address)
            self.directories.remove()
        if self.pod.metadata.deletion_timestamp and not self._is_leaving:
            await self.report_removed()

    async def report_removed(self) -> None:
        """Tells that nothing of the pod is left, until that was heard."""
        await self._until_told(lambda: self._shop.reports.removed(self.pod))

    # --- one life in one set of namespaces ---

    async def _live(self) -> None:
        assert self._address is not None
        shop, address = self._shop, self._address
        etc = self.directories.write_etc(self.pod, address, shop.settings.dns)
        namespaces = await shop.processes.open_pod(host_name(self.pod), etc, str(self.directories.stage))
        self.namespaces = namespaces
        link = ""
        try:
            link = shop.network.join(namespaces.netns, address)
            sidecar = None
            if shop.launcher:
                sidecar = await shop.launcher.prepare(self.pod, address, namespaces.netns, self.directories.sidecar)
            if sidecar and sidecar.captures:
                self._capture(namespaces.netns, sidecar.resolvers)
            self._set_facts(reason="", message="")
            await self._live_in(namespaces, sidecar)
        finally:
            await self._take_down(namespaces, link)

    async def _take_down(self, namespaces: PodProcess, link: str) -> None:
        """Ends what `_live` made. It raises nothing, so that it hides neither a failure nor a cancellation.

        The link goes with the namespace, by itself and some milliseconds later. Only where the pod is to start again
        under the same address is that waited for (removing a link stops everything here for some 40 ms).
        """
        self.namespaces = None
        namespaces.holder.signal(signal.SIGKILL)
        await namespaces.holder.wait_ended()
        try:
            if link and not self._stopping.is_set():
                self._shop.network.leave(link)
            if self._shop.launcher:
                await self._shop.launcher.release(self.pod)
        except (OSError, ApiError) as error:
            _log.warning("the pod %s/%s left something: %s", self.pod.metadata.namespace, self.pod.metadata.name, error)
        finally:
            os.close(namespaces.netns)

    async def _live_in(self, namespaces: PodProcess, sidecar: SidecarProcess | None) -> None:
        around = Surroundings(str(self._address), str(self._shop.network.gateway), self._shop.settings.node_name)
        self._volumes = PodVolumes(self.pod, self.directories.volumes, self._shop.objects, around, self._shop.now)
        self._supervise(namespaces, sidecar, around, self._volumes)
        freshening = asyncio.ensure_future(self._volumes.keep_fresh())
        life = asyncio.ensure_future(self._containers())
        lost = asyncio.ensure_future(namespaces.holder.wait_ended())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((life, lost, stop), return_when=asyncio.FIRST_COMPLETED)
            if stop.done() and not life.done():
                await self._end_containers(life)
            if life.done():
                life.result()
                self._set_facts(finished=True)
            elif not self._stopping.is_set():
                self._event("Warning", "SandboxChanged", "The pod's namespaces were lost; it is started again.")
                self._set_facts(initialized=False)
        finally:
            for task in (freshening, life, lost, stop):
                task.cancel()
            await asyncio.gather(freshening, life, lost, stop, return_exceptions=True)

    async def _containers(self) -> None:
        """Starts them in order, and waits until those that are the pod's purpose have ended for good."""
        spec = self.pod.spec
        sidecars: list[tuple[ContainerSupervisor, asyncio.Task[None]]] = []
        try:
            early = [self._sidecar_name] if self._sidecar_name else []
            early += [container.name for container in spec.init_containers if container.name not in early]
            for name in early:
                supervisor = self.supervisors[name]
                running = asyncio.ensure_future(supervisor.run())
                if supervisor.restart == "Always":
                    sidecars.append((supervisor, running))
                    await self._unless_stopped(supervisor.started.wait())
                else:
                    try:
                        await running
                    finally:
                        running.cancel()
                    if supervisor.outcome and supervisor.outcome.exit_code and not self._stopping.is_set():
                        self._set_facts(init_failed=True)
                        return
                if self._stopping.is_set():
                    return
            self._set_facts(initialized=True)
            names = [container.name for container in spec.containers if container.name != self._sidecar_name]
            if names:
                async with asyncio.TaskGroup() as group:
                    for name in names:
                        group.create_task(self.supervisors[name].run())
            else:  # A gateway: its proxy is the purpose.
                await self._stopping.wait()
        finally:
            for supervisor, running in reversed(sidecars):
                await supervisor.stop(min(self._grace, _SIDECAR_GRACE))
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    async def _end_containers(self, life: asyncio.Future[None]) -> None:
        self._set_facts(stopping=True)
        if self._grace:
            await asyncio.sleep(min(self._shop.settings.drain_seconds, self._grace))
        last = {self._sidecar_name} | {
            one.name for one in self.pod.spec.init_containers if one.restart_policy == "Always"
        }
        ending = [one.stop(self._grace) for name, one in self.supervisors.items() if name not in last]
        await asyncio.gather(*ending)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SIDECAR_GRACE + 1):
                await asyncio.wait((life,))

    # --- its parts ---

    def _capture(self, netns: int, resolvers: Iterable[IPv4Address]) -> None:
        settings, problems = capture_settings(self.pod.annotations, self.pod.ref)
        for problem in problems:
            self._event("Warning", problem.code, str(problem))
        if settings is not None:
            self._shop.network.capture(netns, capture_rules(settings, resolvers))

    def _supervise(
        self, namespaces: PodProcess, sidecar: SidecarProcess | None, around: Surroundings, volumes: PodVolumes
    ) -> None:
        surrounds = Surrounds(
            processes=self._shop.processes,
            pod=namespaces,
            address=around.pod_ip,
            logs=self.directories.logs,
            now=self._shop.now,
            backoff=self._shop.settings.backoff,
            grace=self._grace,
            on_change=self._changed.set,
            tell=self._event,
        )
        spec = self.pod.spec
        init_policy = "Never" if spec.restart_policy == "Never" else "OnFailure"
        wanted = [(one, "Always" if one.restart_policy == "Always" else init_policy) for one in spec.init_containers]
        wanted += [(one, spec.restart_policy) for one in spec.containers]
        self.supervisors = {}
        self._sidecar_name = sidecar.name if sidecar else ""
        for container, restart in wanted:
            if container.name != self._sidecar_name:
                program = self._program_for(container, around, volumes)
                self.supervisors[container.name] = ContainerSupervisor(
                    container, surrounds, restart=restart, program=program
                )
        if sidecar:
            declared = next((one for one, _ in wanted if one.name == sidecar.name), Container(name=sidecar.name))
            bare = msgspec.structs.replace(
                declared, liveness_probe=None, readiness_probe=None, startup_probe=None, lifecycle=None
            )
            self.supervisors[sidecar.name] = ContainerSupervisor(
                bare,
                surrounds,
                restart="Always",
                program=lambda: _given(
                    Program(argv=sidecar.argv, env=sidecar.env, keep=sidecar.keep, stage=str(self.directories.stage))
                ),
                ready_check=sidecar.ready_check,
            )

    def _program_for(
        self, container: Container, around: Surroundings, volumes: PodVolumes
    ) -> Callable[[], Awaitable[Program]]:
        settings = self._shop.settings

        async def program() -> Program:
            await volumes.write()
            objects = await volumes.objects_for(container)
            variables = environment(self.pod, container, around, objects, settings.base_environment)
            return Program(
                argv=command_line(container, variables),
                env=variables,
                directory=container.working_dir or self.pod.annotations.get(DIRECTORY, ""),
                mounts=container_mounts(self.pod, container, self.directories.volumes),
                hidden=(str(settings.runtime), *settings.hidden),
                stage=str(self.directories.stage),
            )

        return program

    # --- what is told ---

    def _event(self, kind: str, reason: str, message: str) -> None:
        self._shop.reports.event(self.pod, kind, reason, message)

    def _set_facts(self, **facts: bool | str) -> None:
        self._facts = msgspec.structs.replace(self._facts, **facts)
        self._changed.set()

    def status(self) -> PodStatus:
        """The pod's status as it is now."""
        spec = self.pod.spec
        inits = {container.name for container in spec.init_containers}
        statuses = {name: supervisor.status() for name, supervisor in self.supervisors.items()}
        facts = msgspec.structs.replace(
            self._facts,
            address=str(self._address or ""),
            host_address=str(self._shop.network.gateway),
            start_time=self._started_at,
            containers=tuple(status for name, status in statuses.items() if name not in inits),
            init_containers=tuple(_in_spec_order(statuses, [container.name for container in spec.init_containers])),
        )
        return pod_status(self.pod, self._told, facts, stamp(self._shop.now()))

    async def _tell_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._is_leaving:
                return
            status = self.status()
            if status != self._told:
                self._told = status
                await self._until_told(lambda: self._shop.reports.status(self.pod, self._told))

    async def _until_told(self, tell: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await tell()
            except ApiError as error:
                _log.warning("pod %s/%s: %s", self.pod.metadata.namespace, self.pod.metadata.name, error)
                await asyncio.sleep(_TELL_AGAIN)
            else:
                return

    async def _unless_stopped(self, condition: Awaitable[object]) -> None:
        waits = (asyncio.ensure_future(condition), asyncio.ensure_future(self._stopping.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _stopped_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


async def _given(program: Program) -> Program:
    return program


def _in_spec_order(statuses: Mapping[str, ContainerStatus], names: list[str]) -> list[ContainerStatus]:
    return [statuses[name] for name in names if name in statuses]
