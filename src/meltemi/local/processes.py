"""Starts, signals and awaits the processes of pods, from asyncio, through the spawner.

`Processes` is the machine process's end of the channel. Each request has a future; each running process has one for its
end. Invariant: whatever was started here ends when the spawner ends, so that losing the channel means that all of them
are gone, and every future says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

import msgspec

from meltemi.local import spawn_wire as wire
from meltemi.local.mounts import Mount
from meltemi.local.syscalls import Capability


class StartError(Exception):
    """A program or a pod could not be started. `reason` is CamelCase, fit for a container status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A program to start: what, with which environment, where, over which files, with which capabilities."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    directory: str = ""
    mounts: tuple[Mount, ...] = ()
    hidden: tuple[str, ...] = ()
    stage: str = ""
    keep: tuple[Capability, ...] = ()
    terminal: bool = False


class Process:
    """A process that was started, until it ends."""

    def __init__(self, owner: Processes, pid: int, end: asyncio.Future[int]) -> None:
        self._owner = owner
        self.pid = pid
        self.end = end

    def __repr__(self) -> str:
        return f"<Process {self.pid}: {f'ended with {self.end.result()}' if self.end.done() else 'running'}>"

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.end.done()

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Sends a signal to it, or to its whole process group; nothing happens once it has ended."""
        if not self.end.done():
            self._owner.send(wire.Signal(self.pid, number, group))

    async def wait_ended(self) -> int:
        """Waits for its end; the exit code, or 128 and the number of the signal that ended it."""
        return await asyncio.shield(self.end)


class PodProcess(msgspec.Struct, frozen=True):
    """The process that holds a pod's namespaces, and a descriptor of the network one, which is the owner's to close."""

    holder: Process
    netns: int


class Processes:
    """The spawner and all that it started."""

    def __init__(self, channel: socket.socket, spawner: subprocess.Popen[bytes]) -> None:
        self._channel = channel
        self._spawner = spawner
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[tuple[Process, list[int]]]] = {}
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel.fileno(), self._on_report)
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def __repr__(self) -> str:
        running = sum(not end.done() for end in self._ends.values())
        return f"<Processes: {running} running, {len(self._answers)} starting>"

    @classmethod
    def start(cls) -> Processes:
        """Starts the spawner. Call it in a running event loop."""
        here, there = wire.channel_pair()
        command = [sys.executable, "-m", "meltemi.local.spawner", str(there.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        spawner = subprocess.Popen(command, pass_fds=(there.fileno(),), stdin=subprocess.DEVNULL, env=environment)
        there.close()
        here.setblocking(False)
        return cls(here, spawner)

    async def open_pod(self, hostname: str, mounts: Sequence[Mount], stage: str) -> PodProcess:
        """Makes a pod's namespaces. Raises StartError."""
        number = next(self._numbers)
        holder, fds = await self._ask(number, wire.OpenPod(number, hostname, tuple(mounts), stage))
        return PodProcess(holder, fds[0])

    async def start_program(
        self, pod: PodProcess, program: Program, stdio: tuple[int, int, int], *, beside: Process | None = None
    ) -> Process:
        """Starts a program in a pod, with those descriptors as stdin, stdout and stderr. Raises StartError.

        With `beside`, it sees the files of that process instead of the program's mounts.
        """
        number = next(self._numbers)
        order = wire.Start(
            request=number,
            pod=pod.holder.pid,
            argv=program.argv,
            env=dict(program.env),
            directory=program.directory,
            mounts=program.mounts,
            hidden=program.hidden,
            stage=program.stage,
            beside=beside.pid if beside else 0,
            keep=tuple(int(capability) for capability in program.keep),
            terminal=program.terminal,
        )
        process, _ = await self._ask(number, order, stdio)
        return process

    async def aclose(self) -> None:
        """Ends the spawner, and with it every process that was started here."""
        self._lose()
        self._channel.close()
        self._spawner.kill()
        await asyncio.to_thread(self._spawner.wait)

    def send(self, message: wire.Request, fds: Sequence[int] = ()) -> None:
        """Hands a message to the spawner."""
        self._channel.setblocking(True)
        try:
            wire.send(self._channel, message, fds)
        finally:
            self._channel.setblocking(False)

    async def _ask(self, number: int, message: wire.Request, fds: Sequence[int] = ()) -> tuple[Process, list[int]]:
        if self.lost.done():
            raise StartError("SpawnerLost", "the process that starts programs has ended")
        answer: asyncio.Future[tuple[Process, list[int]]] = self._loop.create_future()
        self._answers[number] = answer
        try:
            self.send(message, fds)
            return await answer
        except OSError as error:
            raise StartError("StartError", f"the program could not be started: {error}") from error
        finally:
            self._answers.pop(number, None)

    def _on_report(self) -> None:
        for _ in range(64):
            try:
                data, fds = wire.receive(self._channel)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._lose()
                return
            self._settle(wire.decode_report(data), fds)

    def _settle(self, report: wire.Report, fds: list[int]) -> None:
        if isinstance(report, wire.Ended):
            end = self._ends.pop(report.pid, None)
            if end is not None:
                end.set_result(report.exit_code)
            return
        answer = self._answers.get(report.request)
        is_wanted = answer is not None and not answer.done()
        if isinstance(report, wire.Refused):
            if answer is not None and is_wanted:
                answer.set_exception(StartError(report.reason, report.message))
            return
        # The process is made here and not by whoever asked: its end may be the next message, before he wakes up.
        process = Process(self, report.pid, self._loop.create_future())
        self._ends[report.pid] = process.end
        if answer is not None and is_wanted:
            answer.set_result((process, fds))
            return
        # Whoever asked was cancelled meanwhile: what was started for him must not stay.
        for fd in fds:
            os.close(fd)
        process.signal(signal.SIGKILL, group=True)

    def _lose(self) -> None:
        if self.lost.done():
            return
        self._loop.remove_reader(self._channel.fileno())
        self.lost.set_result(None)
        for end in self._ends.values():
            if not end.done():
                end.set_result(128 + signal.SIGKILL)
        for answer in self._answers.values():
            if not answer.done():
                with contextlib.suppress(asyncio.InvalidStateError):
                    answer.set_exception(StartError("SpawnerLost", "the process that starts programs has ended"))
