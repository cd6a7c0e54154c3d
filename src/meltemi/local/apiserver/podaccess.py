"""What the API server asks of whoever runs the pods: their logs, and a command inside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec


class LogOptions(msgspec.Struct, frozen=True):
    """Which log: of a container (empty: the pod's only one), and how much (`PodLogOptions` of core/v1)."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since_time: str = ""
    limit_bytes: int | None = None
    timestamps: bool = False


class ExecOptions(msgspec.Struct, frozen=True):
    """Which command to run, in which container (empty: the pod's only one), with which streams."""

    command: tuple[str, ...]
    container: str = ""
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


class WindowSize(msgspec.Struct, frozen=True):
    """The size of the client's terminal, in characters."""

    columns: int
    rows: int


class ExecStreams(Protocol):
    """The client's end of a command: what it types, what it sees, the size of its window."""

    def stdin(self) -> AsyncIterator[bytes]:
        """What comes in, until the client closes its end."""

    def resizes(self) -> AsyncIterator[WindowSize]:
        """Each new size of the client's terminal."""

    async def stdout(self, data: bytes) -> None:
        """Shows output."""

    async def stderr(self, data: bytes) -> None:
        """Shows errors."""


class PodAccess(Protocol):
    """Implemented by the pod runner. All may raise `meltemi.kube.errors.ApiError` (NotFound, BadRequest)."""

    def logs(self, namespace: str, pod: str, options: LogOptions) -> AsyncIterator[bytes]:
        """The log in pieces; with `follow` until the container ends or the iterator is closed."""

    async def exec(self, namespace: str, pod: str, options: ExecOptions, streams: ExecStreams) -> int:
        """Runs a command to its end; its exit code. Cancelled when the client goes away: the command must end then."""
