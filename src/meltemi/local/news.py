"""What `meltemi up` tells a person in the terminal, line by line as it happens.

api         the address of the API
applied     a `sources.files.Report`
pods        (ready, all): tells when it changes
ready       seconds since the start; everything that was asked for runs
reachable   a `Reachable`: where a service of the mesh is reached from this machine
trouble     a pod that does not come up, and why
stopping    nothing
"""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

import msgspec

from meltemi.base.problems import Problem
from meltemi.sources.files import Outcome, Report


class Reachable(msgspec.Struct, frozen=True):
    """A port of a LoadBalancer service, and the port of 127.0.0.1 that leads to it."""

    service: str
    port_name: str
    host_port: int
    is_http: bool

    def __str__(self) -> str:
        address = f"127.0.0.1:{self.host_port}"
        return f"http://{address}" if self.is_http else address


class Trouble(msgspec.Struct, frozen=True):
    """A pod that does not come up."""

    pod: str
    why: str


class Terminal:
    """Writes the news of one `up`. `started`: a monotonic time in seconds."""

    def __init__(self, name: str, stream: TextIO = sys.stdout, started: float | None = None) -> None:
        self._name = name
        self._out = stream
        self._started = time.monotonic() if started is None else started
        self._line_open = False
        self._troubles: set[str] = set()
        self._is_tty = stream.isatty() and not os.environ.get("NO_COLOR")

    def tell(self, word: str, value: object) -> None:
        """One piece of news."""
        getattr(self, f"_on_{word}")(value)

    def _on_api(self, address: str) -> None:
        self._say("api", address)

    def _on_applied(self, report: Report) -> None:
        counts: dict[Outcome, int] = {}
        for applied in report.applied:
            counts[applied.outcome] = counts.get(applied.outcome, 0) + 1
        changed = {outcome: count for outcome, count in counts.items() if outcome is not Outcome.UNCHANGED}
        if changed:
            self._say("applied", ", ".join(f"{count} {outcome}" for outcome, count in changed.items()))
        for problem in report.problems:
            self._problem(problem)

    def _problem(self, problem: Problem) -> None:
        self._end_line()
        self._out.write("".join(f"  {line}\n" for line in str(problem).splitlines()))
        self._out.flush()

    def _on_pods(self, counts: tuple[int, int]) -> None:
        ready, all_ = counts
        text = f"{ready} of {all_} ready"
        if self._is_tty:
            self._out.write(f"\r  {'pods':<12}{text}  ")
            self._line_open = True
            self._out.flush()
        elif ready == all_:
            self._say("pods", text)

    def _on_trouble(self, trouble: Trouble) -> None:
        told = f"{trouble.pod}: {trouble.why}"
        if told not in self._troubles:
            self._troubles.add(told)
            self._say("trouble", told)

    def _on_ready(self, seconds: float) -> None:
        self._say("ready", f"after {seconds:.1f} s; `meltemi status` in another terminal tells more, Ctrl-C ends it")

    def _on_reachable(self, entry: Reachable) -> None:
        self._say("reachable", f"{entry}  {entry.service} port {entry.port_name or entry.host_port}")

    def _on_stopping(self, _: object) -> None:
        self._say("stopping", f"the mesh {self._name!r} ends")

    def _say(self, what: str, text: str) -> None:
        self._end_line()
        self._out.write(f"  {what:<12}{text}\n")
        self._out.flush()

    def _end_line(self) -> None:
        if self._line_open:
            self._out.write("\n")
            self._line_open = False
