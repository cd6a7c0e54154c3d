"""The meshes that the tests of this folder share: one with the bookshop, one with a small shop of our own.

A mesh is started once for all tests that use it; tests that run side by side in several processes are kept with their
mesh by a group (`--dist loadgroup`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from .rig import BOOKSHOP, SHOP, Mesh

_GROUPS = {"bookshop": "bookshop", "shop": "shop"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one mesh in one process."""
    for item in items:
        if item.path.parent.name == "operation":
            names = getattr(item, "fixturenames", ())
            group = next((group for name, group in _GROUPS.items() if name in names), item.path.stem)
            item.add_marker(pytest.mark.xdist_group(f"operation-{group}"))


@pytest.fixture(scope="session")
def bookshop() -> Iterator[Mesh]:
    """The mesh of the example, as `make demo` brings it up."""
    mesh = Mesh()
    try:
        mesh.start(BOOKSHOP)
        mesh.wait_ready()
        yield mesh
    finally:
        mesh.close()


@pytest.fixture(scope="session")
def shop() -> Iterator[Mesh]:
    """A mesh with two replicas of a server, a client beside them and a gateway in front."""
    mesh = Mesh()
    try:
        shutil.copytree(SHOP, mesh.files, dirs_exist_ok=True)
        mesh.start(mesh.files)
        mesh.wait_ready()
        yield mesh
    finally:
        mesh.close()
