"""From facts to revisions."""

from __future__ import annotations

from meltemi.controlplane.revisions import Revisions
from meltemi.pipeline import build
from meltemi.xds.hub import Hub


async def test_a_mesh_in_which_there_is_nothing_yet_has_its_defaults() -> None:
    revisions = Revisions(build(), Hub())
    revisions.flush()
    assert revisions.pipeline.mesh.only().trust_domain == "cluster.local"
