"""What containers print: read from their pipes, kept in files of bounded size, and read back or followed.

A file has a line per line printed, in the format of Kubernetes' container runtimes (`<time> <stream> F <text>`), so that
times can be shown and asked for. When a file is full it becomes `.1`, `.1` becomes `.2`, and the oldest goes. A follower
is woken by the writer, never by a clock.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meltemi.local.apiserver.podaccess import LogOptions

Clock = Callable[[], datetime]

_LONGEST_LINE = 1 << 16
_PIECE = 1 << 16


class ContainerLog:
    """The log of one run of a container."""

    def __init__(self, path: Path, now: Clock, *, full_at: int = 10 << 20, kept: int = 2) -> None:
        self._path = path
        self._now = now
        self._full_at = full_at
        self._kept = kept
        self._partial: dict[str, bytes] = {}
        self._grown = asyncio.Event()
        self._rotations = 0
        self._is_open = True
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()

    def __repr__(self) -> str:
        return f"<ContainerLog {self._path.name}: {self._size} bytes, {'open' if self._is_open else 'closed'}>"

    def write(self, stream: str, data: bytes) -> None:
        """Takes output of a stream ("stdout", "stderr") in pieces of any size."""
        *lines, rest = (self._partial.pop(stream, b"") + data).split(b"\n")
        while len(rest) > _LONGEST_LINE:
            lines.append(rest[:_LONGEST_LINE])
            rest = rest[_LONGEST_LINE:]
        if rest:
            self._partial[stream] = rest
        self._append(stream, lines)

    def end_of(self, stream: str) -> None:
        """A stream has ended: what it left without a line end becomes a line."""
        rest = self._partial.pop(stream, b"")
        if rest:
            self._append(stream, [rest])

    def close(self) -> None:
        """No more output will come; followers end."""
        for stream in list(self._partial):
            self.end_of(stream)
        self._is_open = False
        self._file.close()
        self._wake()

    def remove(self) -> None:
        """Closes the log and deletes its files."""
        if self._is_open:
            self.close()
        for number in range(self._kept + 1):
            self._numbered(number).unlink(missing_ok=True)

    async def read(self, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """The lines that the options select; with `follow`, as they come, until the log is closed."""
        since = _since(options, self._now())
        lines = [line for line in self._lines() if not since or line[: len(since)] >= since]
        if options.tail_lines is not None:
            lines = lines[len(lines) - min(options.tail_lines, len(lines)) :]
        left = options.limit_bytes
        offset, rotations = self._size, self._rotations
        for piece in _pieces(lines, timestamps=options.timestamps):
            shown = piece if left is None else piece[:left]
            yield shown
            left = None if left is None else left - len(shown)
            if left == 0:
                return
        while options.follow:
            grown = self._grown
            fresh = self._written_after(offset, rotations)
            offset, rotations = self._size, self._rotations
            for piece in _pieces(fresh, timestamps=options.timestamps):
                yield piece
            if not fresh:
                if not self._is_open:
                    return
                await grown.wait()

    def _append(self, stream: str, lines: list[bytes]) -> None:
        if not lines or not self._is_open:
            return
        head = f"{self._now().isoformat(timespec='microseconds').replace('+00:00', 'Z')} {stream} F ".encode()
        data = b"".join(head + line + b"\n" for line in lines)
        if self._size and self._size + len(data) > self._full_at:
            self._rotate()
        self._file.write(data)
        self._size += len(data)
        self._wake()

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._kept, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.rename(self._numbered(number))
        self._file = self._path.open("ab", buffering=0)
        self._size = 0
        self._rotations += 1

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _lines(self) -> Iterator[bytes]:
        for number in range(self._kept, -1, -1):
            path = self._numbered(number)
            if path.exists():
                yield from path.read_bytes().splitlines(keepends=True)

    def _written_after(self, offset: int, rotations: int) -> list[bytes]:
        behind = self._rotations - rotations
        if behind > self._kept:  # More was written than is kept while the reader looked away.
            return list(self._lines())
        data = b""
        for number in range(behind, -1, -1):
            path = self._numbered(number)
            if path.exists():
                with path.open("rb") as file:
                    file.seek(offset if number == behind else 0)
                    data += file.read()
        return data.splitlines(keepends=True)


def _since(options: LogOptions, now: datetime) -> bytes:
    if options.since_seconds is not None:
        moment = (now - timedelta(seconds=options.since_seconds)).astimezone(UTC)
    elif options.since_time:
        moment = datetime.fromisoformat(options.since_time).astimezone(UTC)
    else:
        return b""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "").encode()


def _pieces(lines: list[bytes], *, timestamps: bool) -> Iterator[bytes]:
    piece = b""
    for line in lines:
        time, _, _, text = line.split(b" ", 3)
        piece += time + b" " + text if timestamps else text
        if len(piece) >= _PIECE:
            yield piece
            piece = b""
    if piece:
        yield piece


class _PipeReader(asyncio.Protocol):
    def __init__(self, stream: str, log: ContainerLog, ended: asyncio.Future[None]) -> None:
        self._stream = stream
        self._log = log
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        self._log.write(self._stream, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._log.end_of(self._stream)
        if not self._ended.done():
            self._ended.set_result(None)


async def copy_pipe(fd: int, stream: str, log: ContainerLog) -> asyncio.Future[None]:
    """Starts copying a pipe into a log; the future is done at the pipe's end. The descriptor is closed then."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    await loop.connect_read_pipe(lambda: _PipeReader(stream, log, ended), os.fdopen(fd, "rb", buffering=0))
    return ended
