"""All benchmarks, and one table: the budgets of the design with what was measured beside each.

    python -m benchmarks [--quick]          (`make bench`)

Each runs in a process of its own, one after the other, because they share the machine's cores. They inform: the exit
status is 0 whatever they find, and a benchmark that cannot run here is named with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import msgspec

from benchmarks.processes import ROOT
from benchmarks.report import Row, print_rows

WITH_BUDGETS = ("control_plane", "data_plane", "up")
_SECONDS = 400
_MARK = "ROWS "


def main() -> int:
    """Run them all; always 0."""
    began = time.monotonic()
    options = [option for option in sys.argv[1:] if option == "--quick"]
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}{' (others are at work: expect noise)' if load > 0.5 else ''}\n")
    subprocess.run([sys.executable, "-m", "benchmarks.flow", *options], cwd=ROOT, check=False)
    rows: list[Row] = []
    for name in WITH_BUDGETS:
        print(f"{name} ...", flush=True)
        rows += run(name, options)
    print("\nBudgets of the design\n")
    print_rows(rows)
    print(f"(all in {time.monotonic() - began:.0f} s)")
    return 0


def run(name: str, options: list[str]) -> list[Row]:
    """The rows of one benchmark; one row that says so if it could not run."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *options]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return [Row(what=name, budget="", measured=f"did not end within {_SECONDS} s")]
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            return msgspec.convert(json.loads(line.removeprefix(_MARK)), list[Row])
    return [Row(what=name, budget="", measured="could not be measured: see above")]


if __name__ == "__main__":
    sys.exit(main())
