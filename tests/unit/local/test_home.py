"""One mesh of a name at a time, and anybody may look whether it runs."""

from __future__ import annotations

import os
from pathlib import Path

from meltemi.local.home import Home, Running


def test_whoever_holds_the_lock_is_the_mesh(tmp_path: Path) -> None:
    home = Home(tmp_path / "local")
    assert home.running() is None
    home.create()
    me = Running(pid=os.getpid(), started=1.5)
    lock = home.take(me)
    assert lock is not None
    assert home.running() == me
    assert home.take(Running(pid=1, started=2.0)) is None
    assert home.running() == me
    os.close(lock)
    assert home.running() is None


def test_the_lock_lives_as_long_as_any_process_that_inherited_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "local")
    home.create()
    lock = home.take(Running(pid=os.getpid(), started=1.5))
    assert lock is not None
    inherited = os.dup(lock)
    os.close(lock)
    assert home.running() is not None
    os.close(inherited)
    assert home.running() is None


def test_looking_never_takes_the_lock(tmp_path: Path) -> None:
    home = Home(tmp_path / "local")
    home.create()
    first = home.take(Running(pid=1, started=1.0))
    assert first is not None
    os.close(first)
    for _ in range(3):
        assert home.running() is None
    again = home.take(Running(pid=2, started=2.0))
    assert again is not None
    assert home.running() == Running(pid=2, started=2.0)
    os.close(again)


def test_a_home_is_for_its_user_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "local")
    home.create()
    for directory in (home.directory, home.controlplane, home.logs, home.run):
        assert directory.stat().st_mode & 0o777 == 0o700
