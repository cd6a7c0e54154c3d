"""The processes of a mesh, as the machine outside sees them: found by descent, so that nobody else's are touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def children_of(pid: int) -> Iterator[int]:
    """A process's descendants, parents first."""
    for task in _entries(Path(f"/proc/{pid}/task")):
        for child in _words(Path(f"/proc/{pid}/task/{task}/children")):
            yield int(child)
            yield from children_of(int(child))


def child_running(pid: int, words: str) -> bool:
    """Whether a process's command line has these words in it."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return False
    return words in command


def _entries(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except OSError:
        return []


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
