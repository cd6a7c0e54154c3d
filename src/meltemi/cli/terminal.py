"""The user's terminal, lent to a command that runs in a pod: its size, and every key as it is pressed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import termios
import tty
from collections.abc import Iterator
from typing import NamedTuple


class Size(NamedTuple):
    """Columns and lines."""

    columns: int
    rows: int


def is_terminal() -> bool:
    """Whether a person types."""
    try:
        return os.isatty(sys.stdin.fileno())
    except (OSError, ValueError):
        return False


def size() -> Size:
    """The size of the terminal."""
    found = shutil.get_terminal_size()
    return Size(found.columns, found.lines)


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Hands keys on unread, control characters included; the terminal is put back whatever happens."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
