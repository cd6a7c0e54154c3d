"""A local API server, without sockets, with all kinds of the mesh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meltemi.kube.client import Client
from meltemi.local.apiserver.server import ApiServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    made = ApiServer(tmp_path / "state")
    yield made
    made.verbs.store.close()


@pytest.fixture
def client(server: ApiServer) -> Client:
    return server.client()
