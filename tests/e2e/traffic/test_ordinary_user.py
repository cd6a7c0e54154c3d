"""A mesh of an ordinary user carries traffic as root's does."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from meltemi.testing import workloads
from meltemi.testing.mesh import Mesh


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user runs all other tests of this folder so")
def test_an_ordinary_users_mesh_speaks_every_protocol_with_identities() -> None:
    # Not under pytest's own directory, which nobody else may enter.
    with (
        TemporaryDirectory(prefix="meltemi-test-") as home,
        Mesh.started(Path(home), ordinary_user=True) as mesh,
        mesh.namespace("shop"),
    ):
        mesh.deploy(
            [workloads.account(name, "shop") for name in ("caller", "books")],
            workloads.service("books", "shop"),
            workloads.deployment("caller", "shop", workloads.PORTS[:1]),
            workloads.deployment("books", "shop"),
        )
        caller = mesh.pod("shop", "app=caller")
        for url in ("http://books:8080/", "h2://books:8081/", "grpc://books:7070"):
            assert "ns/shop/sa/caller" in caller.get(url).echo.headers["x-forwarded-client-cert"]
        assert caller.get("tcp://books:9000", messages=("hello",)).ok
        assert caller.get("ws://books:8080/", messages=("hello",)).ok
