"""Processes that measure or are measured, and how they are told what to do: a JSON object a line, answered by a line.

Every process is a child that ends with its parent: when its input closes, it goes.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


async def serve_commands(target: object) -> None:
    """Call the coroutine methods of `target` that commands on standard input name, until it closes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        try:
            answer = await getattr(target, command.pop("do"))(**command)
        except Exception as error:  # the parent shall hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
            if os.environ.get("BENCH_DEBUG"):
                raise
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class Worker:
    """A child process that obeys commands."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def begin(self, do: str, **arguments: Any) -> None:
        """Give a command, and do not wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The answer to the oldest command not yet answered. Raises RuntimeError if it failed."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"a process of the benchmark has ended ({self._process.wait(5)}): {self._process.args!r}"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self._process.args!r}: {answer['error']}")
        return answer

    def do(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.begin(do, **arguments)
        return self.answer()

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def worker(module: str, *arguments: str) -> Iterator[Worker]:
    """A child process, ended with the context."""
    child = Worker(module, *arguments)
    try:
        yield child
    finally:
        child.end()


def resident(pid: int | str = "self") -> float:
    """Memory of a process in MB: what it has in RAM, shared pages included."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
