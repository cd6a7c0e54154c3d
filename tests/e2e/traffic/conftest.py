"""One town per pytest process; each test's policies are taken away after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meltemi.testing.clients import EchoPod
from meltemi.testing.mesh import Mesh
from meltemi.testing.plugin import mesh

from .town import ABROAD, TOWN, Policies, Town, manifests

__all__ = ["mesh"]


@pytest.fixture(scope="session")
def town(mesh: Mesh) -> Iterator[Town]:
    """The shared workloads."""
    with mesh.namespace(TOWN), mesh.namespace(ABROAD, {}):
        mesh.deploy(manifests(), seconds=60)
        yield Town(mesh)


@pytest.fixture
def caller(town: Town) -> EchoPod:
    """A client in the mesh."""
    return town.caller


@pytest.fixture
def policies(town: Town) -> Iterator[Policies]:
    """What a test writes."""
    written = Policies(town.mesh)
    yield written
    written.take_away()
