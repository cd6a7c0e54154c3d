"""Limits on the connections that a sidecar opens to its own workload.

A Sidecar says them for one port or for all. Where it does not, the service's DestinationRule holds on this side as well,
so that a server takes as much as its clients may send. It is the rule that clients in the workload's own namespace see;
those for clients with certain labels do not count here, for a server is none of them. Last come the mesh's defaults.
"""

from __future__ import annotations

import msgspec

from meltemi.api.networking import Sidecar
from meltemi.api.networking.destination_rule import ConnectionPoolSettings
from meltemi.base.refs import Ref
from meltemi.flow import View
from meltemi.model.mesh import Mesh
from meltemi.model.services import Service
from meltemi.model.traffic import ConnectionPool, Destination, DestinationVariant
from meltemi.resolve.traffic_policies import Sections, filled_in

Destinations = View[tuple[str, str], Destination]


class Limits(msgspec.Struct, frozen=True):
    """What the limits of one workload's ports come from."""

    sidecar: Sidecar | None
    namespace: str
    destinations: Destinations
    mesh: Mesh

    def of(self, number: int, service: Service | None, service_port: int) -> tuple[ConnectionPool, tuple[Ref, ...]]:
        """The limits of a port of the workload, and the DestinationRules that they rest on."""
        if (own := self._own(number)) is not None:
            return filled_in(Sections(connection_pool=own), self.mesh, external=False).pool, ()
        variant = self._seen(service) if service else None
        policy = variant.policy(service_port) if variant and variant.refs else None
        if variant is None or policy is None:
            return self.mesh.default_pool or ConnectionPool(), ()
        return policy.pool, variant.refs

    def _own(self, number: int) -> ConnectionPoolSettings | None:
        """What the workload's Sidecar says."""
        if self.sidecar is None:
            return None
        spec = self.sidecar.spec
        of_port = next((each.connection_pool for each in spec.ingress if each.port.number == number), None)
        return of_port or spec.inbound_connection_pool

    def _seen(self, service: Service) -> DestinationVariant | None:
        """How clients in the workload's namespace treat a service, whatever their labels."""
        destination = self.destinations.get(service.key)
        for variant in destination.variants if destination else ():
            clients = variant.clients
            if not clients.labels and (clients.namespaces is None or self.namespace in clients.namespaces):
                return variant
        return None
