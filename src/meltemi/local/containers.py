"""Keeps one container running: starts it, probes it, restarts it with back-off, ends it, and says how it is.

A supervisor lives as long as its pod. `run` goes round once per start of the program; all that the API shows is in a
few attributes, from which `status()` makes a ContainerStatus, and `on_change` is called whenever one has changed.
Invariant: at most one process of a container exists at a time, and none after `run` has returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from pathlib import Path

import msgspec

from meltemi.api.core import Container
from meltemi.api.core.pods import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    LifecycleHandler,
    Probe,
)
from meltemi.local.backoff import Backoff
from meltemi.local.commands import run_gathered
from meltemi.local.logs import Clock, ContainerLog, copy_pipe
from meltemi.local.podinfo import MissingError
from meltemi.local.probes import Outcome, Tally, Target, ask
from meltemi.local.probing import outcomes
from meltemi.local.processes import PodProcess, Process, Processes, Program, StartError

Notify = Callable[[], None]
Tell = Callable[[str, str, str], None]
"""Called with an event's type ("Normal" or "Warning"), reason and message."""

ReadyCheck = Callable[[], Awaitable[bool]]

_START_FAILED = 128
# How often a sidecar is asked whether it is ready, in seconds: at first, as long as it starts, and when it is.
_FIRST_LOOK, _LONGEST_LOOK, _STEADY_LOOK = 0.02, 0.15, 2.0


class Surrounds(msgspec.Struct, frozen=True):
    """What the supervisors of one pod share. `grace` is the time from SIGTERM to SIGKILL, in seconds."""

    processes: Processes
    pod: PodProcess
    address: str
    logs: Path
    now: Clock
    backoff: Backoff
    grace: float
    on_change: Notify
    tell: Tell


class ContainerSupervisor:
    """One container of a pod. `restart` is its policy: "Always", "OnFailure" or "Never".

    `program` is asked anew before each start and may raise MissingError. A sidecar has a `ready_check` of its own
    instead of probes.
    """

    def __init__(
        self,
        container: Container,
        surrounds: Surrounds,
        *,
        restart: str,
        program: Callable[[], Awaitable[Program]],
        ready_check: ReadyCheck | None = None,
    ) -> None:
        self.container = container
        self.restart = restart
        self.process: Process | None = None
        self.log: ContainerLog | None = None
        self.previous_log: ContainerLog | None = None
        self.started = asyncio.Event()
        self._around = surrounds
        self._program = program
        self._ready_check = ready_check
        self._stopping = asyncio.Event()
        self._nudged = asyncio.Event()
        self._is_missing_something = False
        self._last_program = Program(argv=(), env={})
        self._state = _waiting("ContainerCreating")
        self._last_state: ContainerState | None = None
        self._restarts = 0
        self._ready = False
        self._killed_because = ""

    def __repr__(self) -> str:
        return f"<ContainerSupervisor {self.container.name}: {self._restarts} restarts, ready: {self._ready}>"

    @property
    def outcome(self) -> ContainerStateTerminated | None:
        """How it ended for good, or None while it runs or is to run again."""
        return self._state.terminated

    def status(self) -> ContainerStatus:
        """How it is, as the API shows it."""
        return ContainerStatus(
            name=self.container.name,
            ready=self._ready,
            started=self.started.is_set(),
            restart_count=self._restarts,
            image=self.container.image,
            state=self._state,
            last_state=self._last_state,
        )

    async def run(self) -> None:
        """Keeps the container running until it has ended for good, or `stop` was called."""
        failures = 0
        while True:
            began = self._around.now()
            again = await self._run_once()
            if not again or self._stopping.is_set():
                return
            failures = self._around.backoff.failures(failures, (self._around.now() - began).total_seconds())
            wait = self._around.backoff.wait(failures)
            self._announce_restart(wait)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._nudged.wait()
            self._nudged.clear()
            if self._stopping.is_set():
                return
            self._restarts += not self._is_missing_something

    async def stop(self, grace: float | None = None) -> None:
        """Ends it for good: the pre-stop hook, SIGTERM, and SIGKILL after the grace period."""
        self._stopping.set()
        self._nudged.set()
        await self._terminate(self._around.grace if grace is None else grace)

    def retry_now(self) -> None:
        """What the container could not be started without may be there now."""
        if self._is_missing_something:
            self._nudged.set()

    async def run_command(self, argv: tuple[str, ...]) -> tuple[int, str]:
        """Runs a command beside the container; its exit code and output. A failed start is an outcome like any other."""
        if self.process is None:
            return _START_FAILED, "the container is not running"
        try:
            return await run_gathered(self._around.processes, self._around.pod, self.command(argv), self.process)
        except StartError as error:
            return _START_FAILED, str(error)

    def command(self, argv: tuple[str, ...], *, terminal: bool = False) -> Program:
        """A command with the container's environment and working directory, to be started beside it."""
        return Program(argv=argv, env=self._last_program.env, directory=self._last_program.directory, terminal=terminal)

    # --- one run of the program ---

    async def _run_once(self) -> bool:
        """Starts the program and sees it through; whether it is to be started again."""
        try:
            program = await self._program()
            self._is_missing_something = False
        except MissingError as error:
            self._is_missing_something = True
            self._set_state(_waiting("CreateContainerConfigError", str(error)))
            self._around.tell("Warning", "Failed", f"Error: {error}")
            return True
        if self._stopping.is_set():
            return False
        self._last_program = program
        log = self._open_log()
        try:
            process, copies = await self._start(program, log)
        except StartError as error:
            log.close()
            return self._start_failed(error)
        try:
            self._ended(await self._accompany(process))
        finally:
            await asyncio.wait(copies, timeout=1)
            log.close()
        failed = self._state.terminated is not None and self._state.terminated.exit_code != 0
        return self.restart == "Always" or (self.restart == "OnFailure" and failed)

    async def _start(self, program: Program, log: ContainerLog) -> tuple[Process, list[asyncio.Future[None]]]:
        out, their_out = os.pipe2(os.O_CLOEXEC)
        err, their_err = os.pipe2(os.O_CLOEXEC)
        stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        copies = [await copy_pipe(out, "stdout", log), await copy_pipe(err, "stderr", log)]
        try:
            process = await self._around.processes.start_program(
                self._around.pod, program, (stdin, their_out, their_err)
            )
        finally:
            for fd in (stdin, their_out, their_err):
                os.close(fd)
        return process, copies

    async def _accompany(self, process: Process) -> ContainerStateTerminated:
        """From the start of the process to its end; hooks and probes run beside it."""
        began = self._stamp()
        self.process = process
        self._killed_because = ""
        self._set_state(ContainerState(running=ContainerStateRunning(started_at=began)))
        self._around.tell("Normal", "Started", f"Started container {self.container.name}")
        attending = asyncio.ensure_future(self._attend(process))
        try:
            code = await process.wait_ended()
        finally:
            process.signal(signal.SIGKILL, group=True)  # Only if this was cancelled is it still there.
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)
            self.process = None
        return ContainerStateTerminated(
            exit_code=code,
            signal=code - 128 if code > 128 else 0,
            reason="Completed" if code == 0 else "Error",
            message=self._killed_because,
            started_at=began,
            finished_at=self._stamp(),
        )

    def _ended(self, how: ContainerStateTerminated) -> None:
        self.started.clear()
        self._ready = False
        self._set_state(ContainerState(terminated=how))

    def _start_failed(self, error: StartError) -> bool:
        now = self._stamp()
        how = ContainerStateTerminated(
            exit_code=_START_FAILED, reason=error.reason, message=str(error), started_at=now, finished_at=now
        )
        self._around.tell("Warning", "Failed", f"Error: {error}")
        self._set_state(ContainerState(terminated=how))
        return self.restart != "Never"

    def _announce_restart(self, wait: float) -> None:
        ended = self._state.terminated
        if ended is None:
            return
        self._last_state = self._state
        name = self.container.name
        text = f"back-off {wait:g}s restarting container {name}"
        reason = "CrashLoopBackOff"
        if ended.exit_code == _START_FAILED and ended.reason not in ("Error", "Completed"):
            reason, text = ended.reason, f"{ended.message} ({text})"
        self._around.tell("Warning", "BackOff", text[0].upper() + text[1:])
        self._set_state(_waiting(reason, text))

    # --- beside the process: hooks and probes ---

    async def _attend(self, process: Process) -> None:
        lifecycle = self.container.lifecycle
        if lifecycle and lifecycle.post_start and not await self._hook(lifecycle.post_start, "PostStart"):
            await self._kill("its post-start hook failed", process)
            return
        target = Target(self._around.pod.netns, self._around.address, self.container, self.run_command)
        startup = self.container.startup_probe
        if startup and not await self._wait_startup(startup, target, process):
            return
        async with asyncio.TaskGroup() as watches:
            if self._ready_check:
                watches.create_task(self._watch_ready_check(self._ready_check))
            else:
                self._set_ready(self.container.readiness_probe is None)
                self._set_started()
            if self.container.readiness_probe:
                watches.create_task(self._watch_readiness(self.container.readiness_probe, target))
            if self.container.liveness_probe:
                watches.create_task(self._watch_liveness(self.container.liveness_probe, target, process))

    async def _wait_startup(self, probe: Probe, target: Target, process: Process) -> bool:
        tally = Tally(probe, initially=True)
        async with aclosing(outcomes(probe, target, lambda: True)) as asking:
            async for asked in asking:
                if asked.outcome.success:
                    return True
                if asked.counts:
                    self._unhealthy("Startup", asked.outcome)
                    if tally.count(asked.outcome):
                        break
        await self._kill("it failed its startup probe", process)
        return False

    async def _watch_readiness(self, probe: Probe, target: Target) -> None:
        tally = Tally(probe, initially=False)
        async with aclosing(outcomes(probe, target, lambda: not self._ready)) as asking:
            async for asked in asking:
                if asked.counts and not asked.outcome.success:
                    self._unhealthy("Readiness", asked.outcome)
                if asked.counts and tally.count(asked.outcome):
                    self._set_ready(tally.is_good)

    async def _watch_liveness(self, probe: Probe, target: Target, process: Process) -> None:
        tally = Tally(probe, initially=True)
        async with aclosing(outcomes(probe, target, lambda: False)) as asking:
            async for asked in asking:
                if not asked.outcome.success:
                    self._unhealthy("Liveness", asked.outcome)
                if tally.count(asked.outcome) and not tally.is_good:
                    break
        await self._kill("it failed its liveness probe", process)

    async def _watch_ready_check(self, check: ReadyCheck) -> None:
        wait = _FIRST_LOOK
        while True:
            ready = await check()
            self._set_ready(ready)
            if ready:
                self._set_started()
            await asyncio.sleep(_STEADY_LOOK if ready else wait)
            wait = min(wait * 1.5, _LONGEST_LOOK)

    async def _hook(self, handler: LifecycleHandler, name: str) -> bool:
        if handler.sleep:
            await asyncio.sleep(handler.sleep.seconds)
            return True
        target = Target(self._around.pod.netns, self._around.address, self.container, self.run_command)
        probe = Probe(
            exec=handler.exec,
            http_get=handler.http_get,
            tcp_socket=handler.tcp_socket,
            timeout_seconds=int(self._around.grace) or 1,
        )
        outcome = await ask(probe, target)
        if not outcome.success:
            self._around.tell("Warning", f"Failed{name}Hook", f"{name} hook failed: {outcome.message}")
        return outcome.success

    def _unhealthy(self, which: str, outcome: Outcome) -> None:
        self._around.tell("Warning", "Unhealthy", f"{which} probe failed: {outcome.message}")

    # --- ends ---

    async def _kill(self, why: str, process: Process) -> None:
        self._killed_because = f"the container was ended because {why}"
        self._around.tell("Normal", "Killing", f"Container {self.container.name} is ended because {why}")
        await self._terminate(self._around.grace, process)

    async def _terminate(self, grace: float, process: Process | None = None) -> None:
        process = process or self.process
        if process is None:
            return
        try:
            async with asyncio.timeout(grace):
                lifecycle = self.container.lifecycle
                if lifecycle and lifecycle.pre_stop:
                    await self._hook(lifecycle.pre_stop, "PreStop")
                process.signal(signal.SIGTERM)
                await process.wait_ended()
        except TimeoutError:
            process.signal(signal.SIGKILL, group=True)
            await process.wait_ended()

    # --- what is shown ---

    def _open_log(self) -> ContainerLog:
        if self.previous_log:
            self.previous_log.remove()
        self.previous_log = self.log
        path = self._around.logs / self.container.name / f"{self._restarts}.log"
        self.log = ContainerLog(path, self._around.now)
        return self.log

    def _set_state(self, state: ContainerState) -> None:
        self._state = state
        self._around.on_change()

    def _set_ready(self, ready: bool) -> None:
        if ready != self._ready:
            self._ready = ready
            self._around.on_change()

    def _set_started(self) -> None:
        if not self.started.is_set():
            self.started.set()
            self._around.on_change()

    def _stamp(self) -> str:
        return stamp(self._around.now())


def stamp(moment: datetime) -> str:
    """A moment as the API writes it (RFC 3339, seconds)."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _waiting(reason: str, message: str = "") -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))
