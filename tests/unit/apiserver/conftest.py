"""An API server without sockets, in a directory of its own, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meltemi.kube.client import Client
from meltemi.local.apiserver.server import ApiServer


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(tmp_path: Path, clock: Clock) -> Iterator[ApiServer]:
    made = ApiServer(tmp_path / "state", now=clock)
    yield made
    made.verbs.store.close()


@pytest.fixture
def client(server: ApiServer) -> Client:
    return server.client("test")
