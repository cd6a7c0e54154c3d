"""One town per pytest process; each test's policies are taken away after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meltemi.testing.certificates import Issuer
from meltemi.testing.clients import EchoPod
from meltemi.testing.mesh import Mesh
from meltemi.testing.plugin import mesh

from .town import ABROAD, TOWN, Policies, Town, manifests, tls_server

__all__ = ["mesh"]


@pytest.fixture(scope="session")
def town(mesh: Mesh) -> Iterator[Town]:
    """The shared workloads."""
    with mesh.namespace(TOWN), mesh.namespace(ABROAD, {}):
        mesh.deploy(manifests(), seconds=60)
        yield Town(mesh)


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    """Who vouches for servers and clients outside the mesh's own identities."""
    return Issuer("the world's authority")


@pytest.fixture(scope="session")
def tls_servers(town: Town, issuer: Issuer) -> None:
    """Servers that bring certificates of their own: `vault` in the mesh, `safe` and `strongroom` abroad.

    The strongroom wants a certificate of its clients, too.
    """
    town.mesh.deploy(
        tls_server("vault", TOWN, issuer.server("vault.town.svc.cluster.local", "vault.example", "vault")),
        tls_server("safe", ABROAD, issuer.server("safe.abroad.svc.cluster.local", "safe.example")),
        tls_server("strongroom", ABROAD, issuer.server("strongroom.example", "safe.example"), issuer.certificate),
    )


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
