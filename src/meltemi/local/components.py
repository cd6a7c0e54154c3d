"""The mesh's own processes beside the machine: the control plane and the agent. They are started again when they end.

A component that ends soon after its start is given more and more time before the next one. What it prints goes to a
file of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from meltemi.local.backoff import Backoff
from meltemi.local.syscalls import die_with_parent

_log = logging.getLogger(__name__)


class Component:
    """One process that is to be there all the time. `arguments` follow `python -m`."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, backoff: Backoff | None = None) -> None:
        self.name = name
        self.process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self._arguments = tuple(arguments)
        self._log = log
        self._backoff = backoff or Backoff(first=0.1, longest=5.0, forgiven_after=10.0)

    def __repr__(self) -> str:
        pid = self.process.pid if self.process and self.process.returncode is None else None
        return f"<Component {self.name}: {f'running as {pid}' if pid else 'not running'}, started {self.starts} times>"

    async def run(self, on_start: Callable[[], None] = lambda: None) -> None:
        """Keep it running until cancelled; then end it."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            with self._log.open("ab") as output:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    *self._arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                    preexec_fn=die_with_parent,
                )
            self.starts += 1
            on_start()
            try:
                status = await self.process.wait()
            finally:
                await self._end()
            failures = self._backoff.failures(failures, loop.time() - began)
            pause = self._backoff.wait(failures)
            _log.warning("the %s ended with status %s; it is started again in %.1f s", self.name, status, pause)
            await asyncio.sleep(pause)

    async def _end(self) -> None:
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(3):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
