"""Logs of containers: lines, times, rotation, following."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meltemi.local.apiserver.podaccess import LogOptions
from meltemi.local.logs import ContainerLog

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time


def opened(directory: Path, clock: Clock | None = None, full_at: int = 1 << 20) -> ContainerLog:
    """A log in a directory."""
    return ContainerLog(directory / "app" / "0.log", clock or Clock(), full_at=full_at)


async def text(log: ContainerLog, options: LogOptions | None = None) -> str:
    """What a reader is shown."""
    return b"".join([piece async for piece in log.read(options or LogOptions())]).decode()


async def test_lines_are_put_together_from_pieces_per_stream(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"bad")
    log.write("stdout", b"o\nend")
    log.close()
    assert await text(log) == "one\ntwo\nbad\nend\n"


async def test_times_can_be_shown_and_asked_for(tmp_path: Path) -> None:
    clock = Clock()
    log = opened(tmp_path, clock)
    log.write("stdout", b"early\n")
    clock.time += timedelta(seconds=60)
    log.write("stdout", b"late\n")
    log.close()
    assert await text(log, LogOptions(since_seconds=30)) == "late\n"
    assert await text(log, LogOptions(since_time="2026-01-01T00:00:30Z")) == "late\n"
    assert (await text(log, LogOptions(timestamps=True, tail_lines=1))) == "2026-01-01T00:01:00.000000Z late\n"
    assert await text(log, LogOptions(limit_bytes=8)) == "early\nla"
    assert await text(log, LogOptions(tail_lines=0)) == ""


async def test_a_full_file_makes_room_and_the_oldest_lines_go(tmp_path: Path) -> None:
    log = opened(tmp_path, full_at=400)
    for number in range(40):
        log.write("stdout", f"{number}\n".encode())
    log.close()
    lines = (await text(log)).split()
    assert lines == [str(number) for number in range(40 - len(lines), 40)]
    assert 16 <= len(lines) < 40
    assert len(list((tmp_path / "app").iterdir())) == 3
    log.remove()
    assert not list((tmp_path / "app").iterdir())


async def test_a_follower_sees_lines_as_they_come_across_rotations_until_the_end(tmp_path: Path) -> None:
    log = opened(tmp_path, full_at=200)
    log.write("stdout", b"first\n")
    following = asyncio.ensure_future(text(log, LogOptions(follow=True)))
    expected = "first\n"
    for number in range(30):
        await asyncio.sleep(0)
        log.write("stdout", f"{number}\n".encode())
        expected += f"{number}\n"
    log.close()
    assert await asyncio.wait_for(following, 5) == expected
