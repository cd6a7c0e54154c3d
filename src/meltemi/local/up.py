"""`meltemi up` and `meltemi down`: a mesh on this machine comes and goes.

`up` in the foreground is the outside of the sandbox: it holds the terminal and ends with the mesh. Detached, it is the
same in a process of its own, and the command returns when everything runs. Called for a mesh that runs already, `up`
applies the files to it and leaves the rest as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import uvloop

from meltemi.agent.command import envoy_binary
from meltemi.kube import config
from meltemi.kube.client import Client
from meltemi.kube.errors import ApiError
from meltemi.kube.transport import HttpTransport
from meltemi.local.door import Door
from meltemi.local.home import DEFAULT_NAME, Home, Running
from meltemi.local.machine import Machine, Plan
from meltemi.local.news import Terminal
from meltemi.local.sandbox import SandboxRefusedError, enter_sandbox
from meltemi.sources.files import Files

_END_SECONDS = 20.0

# Of the 107 bytes that the path of a unix socket may have, what is left beside the names of sockets.
_LONGEST_RUNTIME = 80


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked `up` for. `port` 0 lets the API take a free one."""

    files: Sequence[str] = ()
    name: str = DEFAULT_NAME
    detach: bool = False
    follow: bool = True
    port: int = 0
    verbose: bool = False


class UpError(Exception):
    """The mesh could not be started; the text says why, and in a second line what helps."""


def up(options: UpOptions) -> int:
    """Start a mesh; the exit status. Raises UpError."""
    home = Home.named(options.name)
    for file in options.files:
        if file != "-" and not Path(file).exists():
            raise UpError(f"there is no file or directory {file}")
    try:
        envoy_binary()
        home.create()
    except (FileNotFoundError, OSError) as error:
        raise UpError(str(error)) from error
    running = home.running()
    if running is not None:
        return _apply_to(home, running, options)
    return _detached(home, options) if options.detach else _foreground(home, options, Terminal(options.name))


def down(name: str = DEFAULT_NAME, *, timeout: float = _END_SECONDS) -> bool:
    """End a mesh and wait until it is gone, `timeout` seconds at most. False: it did not run. Raises UpError."""
    home = Home.named(name)
    running = home.running()
    if running is None:
        return False
    process = os.pidfd_open(running.pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not _has_ended(process, timeout):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            _has_ended(process, timeout)
    finally:
        os.close(process)
    deadline = time.monotonic() + timeout  # What is inside dies with its parent, and holds the lock until then.
    while home.running() is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    if home.running() is not None:
        raise UpError(f"the mesh {name!r} (process {running.pid}) does not end")
    return True


def _has_ended(process: int, timeout: float) -> bool:
    import select

    return bool(select.select([process], [], [], timeout)[0])


def _foreground(home: Home, options: UpOptions, terminal: Terminal) -> int:
    started = time.monotonic()
    lock = home.take(Running(pid=os.getpid(), started=time.time()))
    if lock is None:
        raise UpError(f"the mesh {options.name!r} has just been started by somebody else")
    runtime = _runtime(home)
    plan = Plan(
        home=home,
        runtime=runtime,
        files=tuple(file if file == "-" else str(Path(file).absolute()) for file in options.files),
        follow=options.follow,
        api_port=options.port,
        started=started,
    )
    try:
        sandbox = enter_sandbox(_machine(plan, terminal, verbose=options.verbose))
        return sandbox.run()
    except SandboxRefusedError as error:
        raise UpError(str(error)) from error
    finally:
        home.kubeconfig.unlink(missing_ok=True)
        if runtime != home.run:
            with contextlib.suppress(OSError):
                runtime.rmdir()
        os.close(lock)


def _runtime(home: Home) -> Path:
    """Where a mesh has its files in memory: a directory that no other mesh has, with a path that unix sockets can have.

    It is mounted over inside the sandbox, and whoever removes the directory outside takes the mount away with it.
    """
    if len(os.fsencode(home.run)) <= _LONGEST_RUNTIME:
        return home.run
    return Path(tempfile.mkdtemp(prefix="meltemi-"))


def _machine(plan: Plan, terminal: Terminal, *, verbose: bool) -> Callable[[Door], int]:
    """What runs inside the sandbox."""

    def machine(door: Door) -> int:
        logging.basicConfig(
            filename=plan.home.logs / "machine.log",
            level=logging.DEBUG if verbose else logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        logging.getLogger("aiohttp").setLevel(logging.WARNING)
        try:
            uvloop.run(Machine(plan, door, terminal.tell).run())
        except asyncio.CancelledError:
            sys.stderr.write(f"error: the mesh stopped; {plan.home.logs / 'machine.log'} tells why\n")
            return 1
        except OSError as error:
            sys.stderr.write(f"error: {error}\n")
            logging.getLogger(__name__).exception("the machine cannot run")
            return 1
        return 0

    return machine


def _detached(home: Home, options: UpOptions) -> int:
    """Start the mesh in a session of its own; return when all pods are ready, or when it has failed."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        status = 1
        try:
            os.close(reader)
            os.setsid()
            with (home.logs / "up.log").open("ab") as log:
                for stream in (1, 2):
                    os.dup2(log.fileno(), stream)
            terminal = _Messenger(options.name, writer)
            status = _foreground(home, options, terminal)
        except UpError as error:
            os.write(writer, f"error: {error}\n".encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as news:
        for line in news:
            text = line.decode(errors="replace")
            if text.startswith("error: "):
                raise UpError(text.removeprefix("error: ").strip())
            sys.stdout.write(text)
            sys.stdout.flush()
            if text.startswith("  ready"):
                return 0
    raise UpError(f"the mesh ended before it was ready\n  hint: see {home.logs / 'up.log'} and machine.log beside it")


class _Messenger(Terminal):
    """Writes the news to a pipe, as long as somebody reads it, and to the log after that."""

    def __init__(self, name: str, pipe: int) -> None:
        super().__init__(name, os.fdopen(pipe, "w", buffering=1))
        self._end = "meltemi down" if name == DEFAULT_NAME else f"meltemi down --name {name}"

    def _on_ready(self, seconds: float) -> None:
        self._say("ready", f"after {seconds:.1f} s; `meltemi status` tells more, `{self._end}` ends it")

    def tell(self, word: str, value: object) -> None:
        """One piece of news."""
        try:
            super().tell(word, value)
        except (BrokenPipeError, ValueError):
            self._out = sys.stdout
            super().tell(word, value)


def _apply_to(home: Home, running: Running, options: UpOptions) -> int:
    """The mesh runs already: give it the files."""
    sys.stdout.write(f"  running     the mesh {options.name!r} runs already (process {running.pid})\n")
    if not options.files:
        return 0

    async def apply() -> int:
        client = Client(HttpTransport(config.load(home.kubeconfig)))
        try:
            report = await Files(client, [str(Path(file).absolute()) for file in options.files]).apply()
        finally:
            await client.aclose()
        Terminal(options.name).tell("applied", report)
        return 1 if report.has_errors else 0

    try:
        return asyncio.run(apply())
    except (config.ConfigError, ApiError) as error:
        raise UpError(f"the running mesh cannot be reached: {error}") from error
