"""Pytest fixtures: a real mesh for tests. `pytest_plugins = ["meltemi.testing.plugin"]` in a conftest makes them known.

mesh        one mesh per pytest process (so that xdist's workers do not meet), ended with it
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meltemi.testing.mesh import Mesh


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh that runs as long as this pytest process does."""
    with Mesh.started(tmp_path_factory.mktemp("mesh")) as started:
        yield started
