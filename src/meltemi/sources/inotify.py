"""Tells when files change: by the kernel's inotify, or by looking now and then where there is none.

Directories are watched, not files, because editors replace files rather than write into them.
Source: inotify(7).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_MASK = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_QUIET_SECONDS = 0.05
_POLL_SECONDS = 1.0


async def changes(directories: Iterable[Path]) -> AsyncGenerator[None, None]:
    """Something in one of the directories has changed, and then nothing for a moment. Without end."""
    watched = sorted(set(directories))
    handle = _start(watched)
    if handle is None:
        async for _ in _polled(watched):
            yield
        return
    event = asyncio.Event()
    loop = asyncio.get_running_loop()

    def drain() -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(handle, 65536):
                event.set()

    loop.add_reader(handle, drain)
    try:
        while True:
            await event.wait()
            while event.is_set():
                event.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), _QUIET_SECONDS)
            yield
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _start(directories: Iterable[Path]) -> int | None:
    """An inotify descriptor that watches the directories; None where the kernel gives none."""
    library = ctypes.CDLL(None, use_errno=True)
    handle: int = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if handle < 0:
        return None
    for directory in directories:
        if library.inotify_add_watch(handle, os.fsencode(directory), _MASK) < 0:
            os.close(handle)
            return None
    return handle


async def _polled(directories: Iterable[Path]) -> AsyncGenerator[None, None]:
    known = _state(directories)
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        seen = _state(directories)
        if seen != known:
            known = seen
            yield


def _state(directories: Iterable[Path]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for directory in directories:
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    found[entry.path] = (status.st_mtime_ns, status.st_size)
    return found
