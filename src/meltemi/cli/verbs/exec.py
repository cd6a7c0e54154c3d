"""`meltemi exec`: a command beside a workload's process, with its files, its network and its identity."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import click

from meltemi.cli.completing import complete_workloads
from meltemi.cli.failures import USAGE, Failure
from meltemi.cli.lazy import Verb, no_interspersed
from meltemi.cli.session import Api, api_options, run
from meltemi.cli.surroundings import Choice

if TYPE_CHECKING:
    from meltemi.kube.execution import Command

EXAMPLES = (
    "meltemi exec deploy/storefront-v1 -- python3 -c 'print(1)'",
    "meltemi exec -it reviews-v1-7d4b9c-x2v5k -- sh",
    "echo hello | meltemi exec -i deploy/till-v1 -- cat",
)
_PIECE = 1 << 16


@click.command(
    "exec",
    cls=Verb,
    examples=EXAMPLES,
    exit_status="that of the command; 1 if it could not be run, 2 if the command line was not understood",
    context_settings=no_interspersed(),
    help="Run a command beside a workload's process: in its directory, with its network and its environment.",
)
@api_options()
@click.option("-c", "--container", default="", metavar="NAME", help="The container, if not the workload's own.")
@click.option("-i", "--stdin", is_flag=True, help="Hand standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.argument("workload", shell_complete=complete_workloads)
@click.argument("command", metavar="-- COMMAND [ARGUMENT]...", nargs=-1, type=click.UNPROCESSED)
def exec(choice: Choice, workload: str, command: tuple[str, ...], container: str, stdin: bool, tty: bool) -> int:  # noqa: A001
    """See EXAMPLES."""
    from meltemi.cli import terminal

    words = command[1:] if command[:1] == ("--",) else command
    if not words:
        raise Failure("no command was given", "write it after --: meltemi exec POD -- COMMAND", USAGE)
    if tty and not terminal.is_terminal():
        click.echo("standard input is not a terminal: -t is passed over", err=True)
        tty = False

    async def body(api: Api) -> int:
        from meltemi.cli import workloads
        from meltemi.kube.execution import Command

        pod = (await workloads.pods_of(api, workload))[0]
        name = workloads.container_of(pod, container)
        metadata = pod["metadata"]
        what = Command(metadata["namespace"], metadata["name"], tuple(words), name, tty)
        return await _run(api, what, with_stdin=stdin or tty)

    return run(choice, body)


async def _run(api: Api, what: Command, *, with_stdin: bool) -> int:
    from meltemi.cli import terminal
    from meltemi.kube import execution
    from meltemi.kube.transport import HttpTransport

    transport = api.client.transport
    if not isinstance(transport, HttpTransport):
        raise Failure("commands can be run over HTTP only")
    console = Console()
    with terminal.raw() if what.tty else contextlib.nullcontext():
        return await execution.run(
            transport,
            what,
            stdout=console.stdout,
            stderr=console.stderr,
            stdin=console.stdin() if with_stdin else None,
            resizes=console.resizes() if what.tty else None,
        )


class Console:
    """The standard streams of this process, as the near end of a command."""

    async def stdin(self) -> AsyncIterator[bytes]:
        """What is typed, until its end. Read in a thread: it may be a file, which cannot be waited for."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        _read_in_background(sys.stdin.fileno(), lambda data: loop.call_soon_threadsafe(pieces.put_nowait, data))
        while piece := await pieces.get():
            yield piece

    def stdout(self, data: bytes) -> None:
        """Shows output."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def stderr(self, data: bytes) -> None:
        """Shows errors."""
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()

    async def resizes(self) -> AsyncIterator[tuple[int, int]]:
        """The size of the terminal, now and at each change."""
        from meltemi.cli import terminal

        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, changed.set)
        try:
            while True:
                yield terminal.size()
                await changed.wait()
                changed.clear()
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)


def _read_in_background(descriptor: int, take: Callable[[bytes], object]) -> None:
    """Reads until the end, in a thread that does not keep the process alive; an empty piece is the end."""
    import threading

    def read() -> None:
        with contextlib.suppress(OSError, RuntimeError):  # closed, or nobody listens any more
            while piece := os.read(descriptor, _PIECE):
                take(piece)
            take(b"")

    threading.Thread(target=read, name="stdin", daemon=True).start()
