"""Runs what a page shows: the commands of its console blocks, in order, against what the page says they print.

A block is fenced as `console`. A line that begins with `$ ` is a command, `> ` continues it, and what follows is what it
prints: each such line is to be found in the output, in that order; `...` in it stands for anything, blanks are as good as
one blank. The output may have more. Further words behind `console` say how a command is to be run:

    fails         its exit status is not 0
    exactly       it prints these lines and no other
    eventually    again and again until it prints what the page says, until a deadline
    foreground    it goes on while the rest of the page is run, and ends by Ctrl-C at the end of the page

A block fenced as `yaml title=NAME` is a file of that name in the directory in which the commands run; that directory has
everything that the repository's has. Port 8080 stands for whatever port of this machine the gateway was given.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .documents import ROOT

# Seconds for one command, and for a mesh to come up.
COMMAND_SECONDS = 60.0
START_SECONDS = 180.0

_SHOWN_ADDRESS = "http://127.0.0.1:8080"
_REACHABLE = re.compile(r"reachable\s+(http://127\.0\.0\.1:\d+)\s+istio-ingress/gateway")
_FENCE = re.compile(r"^```(.*)$")


class Step(NamedTuple):
    """One command of a page: where it stands, how it is run, and what it prints."""

    line: int
    command: str
    expected: tuple[str, ...]
    manner: frozenset[str]


class Written(NamedTuple):
    """A file that the page has its reader write."""

    name: str
    text: str


class Block(NamedTuple):
    """A fenced block: its first line's number, the words behind the fence, and what is in it."""

    line: int
    info: str
    lines: tuple[str, ...]


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    start, info, inside = 0, "", list[str]()
    for number, line in enumerate(page.splitlines(), 1):
        fence = _FENCE.match(line.strip())
        if fence is None:
            inside.append(line)
        elif start:
            yield Block(start, info, tuple(inside))
            start = 0
        else:
            start, info, inside = number, fence[1], []


def parts(page: str) -> Iterator[Step | Written]:
    """The commands and files of a page, in order."""
    for block in blocks(page):
        words = block.info.split()
        if words[:1] == ["console"]:
            yield from _steps(block, frozenset(words[1:]))
        elif words[:1] == ["yaml"] and len(words) > 1:
            yield Written(words[1].removeprefix("title="), "\n".join(block.lines) + "\n")


def _steps(block: Block, manner: frozenset[str]) -> Iterator[Step]:
    number, command, expected = 0, "", list[str]()
    for line_number, line in enumerate((*block.lines, "$ "), block.line + 1):
        if line.startswith("$ "):
            if command:
                yield Step(number, command, tuple(expected), manner)
            number, command, expected = line_number, line[2:], []
        elif line.startswith("> ") and not expected:
            command += f"\n{line[2:]}"
        elif line.strip():
            expected.append(line)


def missing(expected: tuple[str, ...], output: str) -> str | None:
    """The first line that is expected and not there, if there is one."""
    found = iter([" ".join(line.split()) for line in output.splitlines()])
    for line in expected:
        pieces = " ".join(line.split()).split("...")
        pattern = re.compile(".*".join(map(re.escape, pieces)))
        if not any(pattern.search(each) for each in found):
            return line
    return None


class Running:
    """A command in the foreground: its output so far, and its end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._output: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                with self._changed:
                    self._output.append(line)
                    self._changed.notify_all()

    def wait_for(self, expected: tuple[str, ...], seconds: float) -> str:
        """The output, once it has everything that is expected, or when the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: missing(expected, "".join(self._output)) is None, seconds)
            return "".join(self._output)

    def interrupt(self) -> None:
        """Ctrl-C, and wait for the end."""
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise
        self._reader.join(COMMAND_SECONDS)


class Console:
    """A shell in a directory of its own, with a home of its own. Use it as a context: what it has started ends with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "work"
        self.home = directory / "home"
        self._running: list[Running] = []
        self._address = _SHOWN_ADDRESS
        self.directory.mkdir()
        self.home.mkdir()
        for entry in ROOT.iterdir():
            if entry.name != ".git":
                (self.directory / entry.name).symlink_to(entry)

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for running in self._running:
                running.interrupt()
        finally:
            self._run("meltemi down", COMMAND_SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of commands. The mesh's state lies where it lies by default, in this home."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        state = self.home / ".local" / "state" / "meltemi"
        kept = {name: os.environ[name] for name in ("ENVOY_PATH", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "PATH": path, "HOME": str(self.home), "MELTEMI_HOME": str(state), "NO_COLOR": "1"}

    def write(self, file: Written) -> None:
        """Put a file into the directory."""
        (self.directory / file.name).write_text(file.text)

    def run(self, step: Step) -> str | None:
        """Run a command as the page says; what differs from the page, if anything does."""
        command = step.command.replace(_SHOWN_ADDRESS, self._address)
        if "foreground" in step.manner:
            running = Running(self._start(command))
            self._running.append(running)
            output, status = running.wait_for(step.expected, START_SECONDS), 0
        else:
            output, status = self._run(command, START_SECONDS if "meltemi up" in command else COMMAND_SECONDS)
        if "eventually" in step.manner:
            deadline = time.monotonic() + COMMAND_SECONDS
            while self._difference(step, output, status) and time.monotonic() < deadline:
                output, status = self._run(command, COMMAND_SECONDS)
        return self._difference(step, output, status)

    def _difference(self, step: Step, output: str, status: int) -> str | None:
        if found := _REACHABLE.search(output):
            self._address = found[1]
        expected = tuple(line.replace(_SHOWN_ADDRESS, self._address) for line in step.expected)
        line = missing(expected, output)
        if line is not None:
            return f"exit status {status}, and the output has no line {line!r}:\n{output}"
        if "exactly" in step.manner and len(output.splitlines()) != len(expected):
            return f"the output has other lines as well:\n{output}"
        if ("fails" in step.manner) != (status != 0):
            return f"the exit status is {status}:\n{output}"
        return None

    def _start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def _run(self, command: str, seconds: float) -> tuple[str, int]:
        """The output of a command and its exit status; one that takes too long is ended."""
        with self._start(command) as process:
            try:
                return process.communicate(timeout=seconds)[0], process.returncode
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                return f"{process.communicate()[0]}\n(ended after {seconds:g} s)", 124
