"""From `meltemi up examples/bookshop` to the first request through mutual TLS, stage by stage; and what the agent takes.

    python -m benchmarks.up [--quick]

A mesh of a name of its own is started, watched, measured and ended, a few times. The stages are wall time from the start
of the command: the API answers, the gateway's port is open, the first 200 through the gateway (which crosses the gateway's
Envoy and a sidecar with mutual TLS), everything is ready. There is nothing to compare a start with but another one: the
noise is the slowest over the fastest. Agent memory is that of the one process that serves all of the mesh's proxies.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, resident
from benchmarks.report import Row, finish, median, print_table

SHOP = ROOT / "examples" / "bookshop"
SECONDS = 60.0
STAGES = ("the API answers", "the gateway is reachable", "the first 200 through it", "everything is ready")
_REACHABLE = re.compile(r"reachable\s+(http://\S+)")


class Start:
    """One start of the mesh."""

    def __init__(self, directory: Path) -> None:
        self.times: dict[str, float] = {}
        self.began = time.monotonic()
        self.url = ""
        self.told = threading.Event()
        self.ready = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "meltemi.cli", "up", str(SHOP), "--name", "bench", "--no-follow"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "MELTEMI_HOME": str(directory)},
        )
        self.said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            word = line.split()[:1]
            if word == ["api"]:
                self._passed(STAGES[0])
            elif (found := _REACHABLE.search(line)) and not self.url:
                self.url = found[1]
                self._passed(STAGES[1])
                self.told.set()
            elif word == ["ready"]:
                self._passed(STAGES[3])
                self.ready.set()
        self.told.set()
        self.ready.set()

    def _passed(self, stage: str) -> None:
        self.times.setdefault(stage, time.monotonic() - self.began)

    def request(self) -> None:
        """Ask the gateway until it answers 200."""
        self.told.wait(SECONDS)
        while not self._answers():
            if time.monotonic() > self.began + SECONDS or self.process.poll() is not None:
                raise RuntimeError(f"the bookshop does not answer:\n{''.join(self.said)}")
            time.sleep(0.01)
        self._passed(STAGES[2])

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5) as response:
                return int(response.status) == 200
        except (urllib.error.URLError, OSError, ValueError):
            return False

    def agent(self) -> tuple[float, int]:
        """Memory of the agent in MB, and how many proxies it serves."""
        agents, proxies = [], 0
        for process in _below(self.process.pid):
            command = _command(process)
            agents += [process] if "meltemi.agent" in command else []
            proxies += Path(command.split("\0")[0]).name == "envoy"
        return (max((resident(process) for process in agents), default=0.0), proxies)

    def end(self) -> None:
        """Stop the mesh as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _below(process: int) -> list[int]:
    """All descendants of a process."""
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_below(child)]
    return found


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def measure() -> dict[str, Any]:
    """Start the mesh once."""
    with tempfile.TemporaryDirectory(prefix="meltemi-bench-") as directory:
        start = Start(Path(directory))
        try:
            start.request()
            start.ready.wait(SECONDS)
            memory, proxies = start.agent()
        finally:
            start.end()
    return {"times": start.times, "agent": memory, "proxies": proxies}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="start once only")
    parser.add_argument("--json", action="store_true", help="print rows for `python -m benchmarks`")
    found = [measure() for _ in range(1 if parser.parse_args().quick else 3)]
    first = [each["times"][STAGES[2]] for each in found]
    if "--json" not in sys.argv:
        rows = [
            [stage, *(f"{each['times'][stage]:.2f} s" if stage in each["times"] else "-" for each in found)]
            for stage in STAGES
        ]
        print_table(("since the command began", *(f"start {number + 1}" for number in range(len(found)))), rows)
    finish(
        [
            Row(
                what="`meltemi up examples/bookshop` to the first request through mTLS",
                budget="< 5 s after set-up",
                measured=f"{median(first):.1f} s (of {len(first)}, {min(first):.1f} to {max(first):.1f} s)",
                within=median(first) < 5,
                noise=max(first) / min(first) if len(first) > 1 else None,
            ),
            Row(
                what=f"agent memory, one agent for {found[0]['proxies']} proxies",
                budget="< 45 MB",
                measured=f"{max(each['agent'] for each in found):.0f} MB",
                within=max(each["agent"] for each in found) < 45,
            ),
        ],
        "Budgets of one machine",
    )


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"({time.monotonic() - began:.0f} s)", file=sys.stderr)
