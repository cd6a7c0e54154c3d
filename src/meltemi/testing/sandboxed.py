"""Runs a test's scenario inside a sandbox of its own, as root or as an ordinary user, and brings its failure out.

A scenario is a coroutine function that gets the sandbox's `Door`. It runs in a forked process within new namespaces, so
that it leaves nothing behind; an exception in it is raised here, with its traceback as text.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from meltemi.local.door import Door
from meltemi.local.sandbox import enter_sandbox
from meltemi.local.syscalls import MountFlag, Namespace, die_with_parent, mount, own_again, unshare

Scenario = Callable[[Door], Awaitable[None]]

_NOBODY = 65534


class ScenarioFailed(AssertionError):
    """The scenario raised; the text is its traceback."""


def run_sandboxed(scenario: Scenario, *, ordinary_user: bool = False, seconds: float = 60) -> None:
    """Runs a scenario inside a sandbox, in an empty directory. Raises ScenarioFailed with its traceback, in time.

    With `ordinary_user`, root becomes `nobody` first; others are ordinary users already.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        # What the parent has made stays as it is: libraries with threads of their own (gRPC) cannot be taken apart here.
        gc.freeze()
        try:
            die_with_parent()
            os.close(reader)
            if ordinary_user and os.getuid() == 0:
                become_ordinary_user()
            with tempfile.TemporaryDirectory(prefix="meltemi-test-") as directory:
                os.chdir(directory)
                status = enter_sandbox(lambda door: _run(scenario, door, writer, seconds)).run()
                os.chdir("/")
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as report:
        text = report.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if text or status:
        raise ScenarioFailed(text or f"the sandbox ended with {os.waitstatus_to_exitcode(status)}")


def _run(scenario: Scenario, door: Door, report: int, seconds: float) -> int:
    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await scenario(door)

    try:
        asyncio.run(bounded())
    except BaseException:
        os.write(report, traceback.format_exc().encode())
        return 1
    return 0


def become_ordinary_user() -> None:
    """Makes this process one of `nobody`, who still reaches the interpreter and the packages that root is running with.

    Their directories may lie below one that only root may enter (`/root`): in a mount namespace of this process, that
    one is replaced by an open one in which they appear at their old places.
    """
    unshare(Namespace.MOUNT)
    mount("none", "/", flags=MountFlag.PRIVATE | MountFlag.RECURSIVE)
    here = Path(__file__).parents[3]
    needed = {Path(path).resolve() for path in (sys.base_prefix, sys.prefix, str(here), *sys.path)}
    closed: dict[Path, list[Path]] = {}
    for path in sorted(needed):
        barrier = next((one for one in (*reversed(path.parents), path) if not one.stat().st_mode & 0o001), None)
        if barrier is not None and path.exists():
            closed.setdefault(barrier, []).append(path)
    for barrier, paths in closed.items():
        kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in paths]
        mount("tmpfs", str(barrier), "tmpfs", data="mode=755")
        for path, fd in kept:
            with contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                mount(f"/proc/self/fd/{fd}", str(path), flags=MountFlag.BIND | MountFlag.RECURSIVE)
            os.close(fd)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    die_with_parent()  # Becoming someone else has cleared it.
    own_again()
