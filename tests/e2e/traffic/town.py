"""The workloads that the traffic tests share, and what a test says to them.

    town (meshed)       caller and rival, two clients with identities of their own; books v1 (two pods) and v2 (one)
    abroad (not meshed) stranger, a client and server without a sidecar

Every echo application is client and server; tests only use them so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from meltemi.base.refs import Ref
from meltemi.testing import workloads
from meltemi.testing.certificates import Pair
from meltemi.testing.clients import EchoPod
from meltemi.testing.mesh import Mesh
from meltemi.testing.workloads import EchoPort, Manifest

TOWN, ABROAD = "town", "abroad"

_GROUPS = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "Gateway": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "Sidecar": "networking.istio.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "PeerAuthentication": "security.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
}

BOOKS_PORTS = (
    *workloads.PORTS,
    # No name says what these speak: the first bytes do.
    EchoPort(name="web", number=8500),
    EchoPort(name="line", number=8501, serves="tcp"),
    # appProtocol says it, whatever the name says.
    EchoPort(name="tcp-http", number=8600, app_protocol="http"),
    EchoPort(name="odd", number=8601, app_protocol="kubernetes.io/h2c"),
    EchoPort(name="http-tcp", number=8602, app_protocol="tcp"),
)

ABROAD_PORTS = (*workloads.PORTS, EchoPort(name="http-front", number=80, target=8080))


class Town:
    """The shared workloads of one mesh."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.caller = mesh.pod(TOWN, "app=caller")
        self.rival = mesh.pod(TOWN, "app=rival")
        self.stranger = mesh.pod(ABROAD, "app=stranger")
        self.v1 = mesh.pods(TOWN, "app=books,version=v1")
        self.v2 = mesh.pod(TOWN, "app=books,version=v2")

    @property
    def books(self) -> list[EchoPod]:
        """All pods behind the service `books`."""
        return [*self.v1, self.v2]


def manifests() -> list[Manifest]:
    """What the town is made of, apart from its namespaces."""
    client_ports = workloads.PORTS[:1]
    meshed: list[Manifest] = []
    for name in ("caller", "rival"):
        meshed += [workloads.account(name, TOWN), workloads.deployment(name, TOWN, client_ports)]
    books = [
        workloads.account("books", TOWN),
        workloads.service("books", TOWN, BOOKS_PORTS),
        workloads.deployment("books", TOWN, BOOKS_PORTS, replicas=2),
        workloads.deployment("books", TOWN, BOOKS_PORTS, version="v2"),
    ]
    abroad = [
        workloads.account("stranger", ABROAD),
        workloads.service("stranger", ABROAD, ABROAD_PORTS),
        workloads.deployment("stranger", ABROAD, ABROAD_PORTS),
    ]
    return [*meshed, *books, *abroad]


class Policies:
    """What one test writes; taken away after it."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self._refs: list[Ref] = []

    def write(
        self,
        kind: str,
        name: str,
        spec: str,
        *,
        namespace: str = TOWN,
        annotations: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> Ref:
        """An object of the mesh, from the YAML of its spec; live when this returns."""
        metadata = {"name": name, "namespace": namespace, "annotations": dict(annotations or {})}
        obj = {"apiVersion": _GROUPS[kind], "kind": kind, "metadata": metadata, "spec": yaml.safe_load(spec) or {}}
        return self.apply([obj], wait=wait)[0]

    def apply(self, objects: str | list[dict[str, Any]], *, wait: bool = True) -> list[Ref]:
        """Any objects."""
        refs = self.mesh.apply(objects, wait=wait)
        self._refs += [ref for ref in refs if ref not in self._refs]
        return refs

    def deploy(self, *objects: Manifest) -> None:
        """Workloads of this test only."""
        self.mesh.deploy(*objects)
        self._refs += [
            Ref(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])
            for obj in objects
            if obj["kind"] != "Namespace"
        ]

    def take_away(self) -> None:
        """Everything of this test is gone when this returns."""
        self.mesh.delete([*reversed(self._refs)])
        self._refs.clear()


def secret(name: str, namespace: str, pair: Pair, authority: str = "") -> Manifest:
    """A TLS Secret; with an `authority` (PEM), clients must show a certificate of it."""
    data = {"tls.crt": pair.certificate, "tls.key": pair.key, **({"ca.crt": authority} if authority else {})}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "stringData": data}


TLS_PORTS = (EchoPort(name="tls", number=8443, serves="tls"), EchoPort(name="https-web", number=9443, serves="tls"))


def tls_server(name: str, namespace: str, pair: Pair, authority: str = "") -> list[Manifest]:
    """A server with a certificate of its own; with an `authority`, it wants to see its clients' too."""
    return [
        secret(name, namespace, pair, authority),
        workloads.account(name, namespace),
        workloads.service(name, namespace, TLS_PORTS),
        workloads.deployment(name, namespace, TLS_PORTS, certificates=name),
    ]
