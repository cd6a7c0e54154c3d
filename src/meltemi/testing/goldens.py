"""Golden files: what came out once, was read by somebody, and must come out again.

A case is a file that ends in `.in.yaml`; beside it stands its `.out.yaml`. `--rewrite-goldens` writes what comes out
now and deletes outputs that no case produces any more. A difference names the command that accepts it.
"""

from __future__ import annotations

import difflib
from pathlib import Path

INPUT, OUTPUT = ".in.yaml", ".out.yaml"
COMMAND = "python -m pytest tests/goldens --rewrite-goldens"


def cases(folder: Path) -> list[Path]:
    """The inputs in a folder, sorted."""
    return sorted(folder.glob(f"*{INPUT}"))


def name_of(case: Path) -> str:
    """What a case is called."""
    return case.name.removesuffix(INPUT)


def output_of(case: Path) -> Path:
    """Where the golden output of a case stands."""
    return case.with_name(name_of(case) + OUTPUT)


def compare(case: Path, actual: str, *, rewrite: bool) -> None:
    """AssertionError, with the difference and the command that accepts it, if this is not what came out before."""
    path = output_of(case)
    expected = path.read_text() if path.exists() else ""
    if actual == expected:
        return
    if rewrite:
        path.write_text(actual)
        return
    lines = difflib.unified_diff(
        expected.splitlines(), actual.splitlines(), f"{path.name} (golden)", f"{path.name} (now)", lineterm=""
    )
    difference = "\n".join(lines)
    raise AssertionError(f"{path.name} has changed:\n{difference}\n  hint: if it is meant to, {COMMAND}")


def orphans(folder: Path) -> list[Path]:
    """Outputs that no case produces."""
    wanted = {output_of(case) for case in cases(folder)}
    return sorted(path for path in folder.glob(f"*{OUTPUT}") if path not in wanted)
