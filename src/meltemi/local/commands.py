"""Runs a command beside a container: for probes and hooks, whose output is gathered, and for `exec`, which is streamed.

The command sees the container's files and network, and has no more rights than the container. Invariant: when the
caller is cancelled, the command and its process group are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable

from meltemi.local.apiserver.podaccess import ExecOptions, ExecStreams
from meltemi.local.processes import PodProcess, Process, Processes, Program

_OUTPUT_LIMIT = 10_240
_PIECE = 1 << 16

Sink = Callable[[bytes], Awaitable[None]]


async def run_gathered(
    processes: Processes, pod: PodProcess, program: Program, beside: Process | None
) -> tuple[int, str]:
    """Runs a command to its end; its exit code and the beginning of what it printed. Raises StartError."""
    gathered = bytearray()

    async def take(data: bytes) -> None:
        if len(gathered) < _OUTPUT_LIMIT:
            gathered.extend(data)

    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        command = await processes.start_program(pod, program, (nothing, writer, writer), beside=beside)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(nothing)
        os.close(writer)
    async with _ended_with_caller(command):
        copying = asyncio.ensure_future(_copy_out(reader, take))
        code = await command.wait_ended()
        await asyncio.wait((copying,), timeout=1)
        copying.cancel()
    return code, bytes(gathered[:_OUTPUT_LIMIT]).decode(errors="replace")


async def run_streamed(
    processes: Processes,
    pod: PodProcess,
    program: Program,
    beside: Process,
    options: ExecOptions,
    streams: ExecStreams,
) -> int:
    """Runs a command with the client's streams, through a terminal if it wants one; the exit code."""
    if options.tty:
        return await _with_terminal(processes, pod, program, beside, options, streams)
    theirs_in, ours_in = os.pipe2(os.O_CLOEXEC)
    ours_out, theirs_out = os.pipe2(os.O_CLOEXEC)
    ours_err, theirs_err = os.pipe2(os.O_CLOEXEC)
    try:
        command = await processes.start_program(pod, program, (theirs_in, theirs_out, theirs_err), beside=beside)
    except BaseException:
        for fd in (ours_in, ours_out, ours_err):
            os.close(fd)
        raise
    finally:
        for fd in (theirs_in, theirs_out, theirs_err):
            os.close(fd)
    async with _ended_with_caller(command):
        feeding = asyncio.ensure_future(_copy_in(ours_in, streams, wanted=options.stdin))
        shown = asyncio.gather(_copy_out(ours_out, streams.stdout), _copy_out(ours_err, streams.stderr))
        try:
            code = await command.wait_ended()
            await asyncio.wait((shown,), timeout=2)
            return code
        finally:
            feeding.cancel()
            shown.cancel()


async def _with_terminal(
    processes: Processes,
    pod: PodProcess,
    program: Program,
    beside: Process,
    options: ExecOptions,
    streams: ExecStreams,
) -> int:
    ours, theirs = os.openpty()
    try:
        command = await processes.start_program(pod, program, (theirs, theirs, theirs), beside=beside)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)

    async def follow_window() -> None:
        async for size in streams.resizes():
            fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))

    async with _ended_with_caller(command):
        extra = os.dup(ours)
        feeding = asyncio.ensure_future(_copy_in(extra, streams, wanted=options.stdin, is_terminal=True))
        resizing = asyncio.ensure_future(follow_window())
        shown = asyncio.ensure_future(_copy_out(os.dup(ours), streams.stdout))
        try:
            code = await command.wait_ended()
            await asyncio.wait((shown,), timeout=2)
            return code
        finally:
            for task in (feeding, resizing, shown):
                task.cancel()
            await asyncio.gather(feeding, resizing, shown, return_exceptions=True)
            os.close(ours)


@contextlib.asynccontextmanager
async def _ended_with_caller(command: Process) -> AsyncIterator[None]:
    try:
        yield
    finally:
        command.signal(signal.SIGKILL, group=True)


async def _copy_out(fd: int, sink: Sink) -> None:
    """Copies what can be read to `sink` until the end; the descriptor is closed then."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", buffering=0)
    )
    try:
        with contextlib.suppress(OSError):  # A terminal whose other side is gone gives EIO.
            while data := await reader.read(_PIECE):
                await sink(data)
    finally:
        transport.close()


async def _copy_in(fd: int, streams: ExecStreams, *, wanted: bool, is_terminal: bool = False) -> None:
    """Copies the client's input to a descriptor and closes that at the end; a terminal gets an end-of-file character."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    try:
        if not wanted:
            return
        async for data in streams.stdin():
            while data:
                try:
                    data = data[os.write(fd, data) :]
                except BlockingIOError:
                    writable = asyncio.Event()
                    loop.add_writer(fd, writable.set)
                    try:
                        await writable.wait()
                    finally:
                        loop.remove_writer(fd)
        if is_terminal:
            os.write(fd, b"\x04")
    except BrokenPipeError:
        return
    finally:
        os.close(fd)
