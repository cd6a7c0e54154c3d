"""Load assignments: the endpoints of every port of a service, and of every subset of it.

Each endpoint says for itself whether mTLS can be spoken to it and who it is, so that clusters need not change when pods
come and go. A load assignment exists even when it is empty: a cluster waits for it before it takes part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.envoy import metadata, names
from meltemi.envoy.resource import ENDPOINTS, Offer, Seen, Variant, finish, offer
from meltemi.envoy.values import address, uint32
from meltemi.flow import View
from meltemi.model.clients import Locality
from meltemi.model.routes import Source
from meltemi.model.services import Endpoint, Health, Resolution, Service, ServiceEndpoints
from meltemi.model.traffic import Destination, DestinationVariant, Subset
from meltemi.protos.envoy.config.core.v3.base_pb2 import Locality as LocalityMessage
from meltemi.protos.envoy.config.core.v3.health_check_pb2 import HealthStatus
from meltemi.protos.envoy.config.endpoint.v3.endpoint_components_pb2 import (
    Endpoint as EndpointMessage,
)
from meltemi.protos.envoy.config.endpoint.v3.endpoint_components_pb2 import (
    LbEndpoint,
    LocalityLbEndpoints,
)
from meltemi.protos.envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

Key = tuple[str, str]  # resource name, namespace of the service

_STATUS = {
    Health.HEALTHY: HealthStatus.HEALTHY,
    Health.DRAINING: HealthStatus.DRAINING,
    Health.UNHEALTHY: HealthStatus.UNHEALTHY,
}


def load_assignments(
    service: Service,
    *,
    endpoints: View[tuple[str, str], ServiceEndpoints],
    destinations: View[tuple[str, str], Destination],
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of ClusterLoadAssignment by port and subset, for services whose endpoints the control plane knows."""
    if service.resolution is not Resolution.ENDPOINTS:
        return
    known = endpoints.get(service.key) or ServiceEndpoints(service.namespace, service.host)
    destination = destinations.get(service.key)
    variants = destination.variants if destination else ()
    seen = [Seen(service.namespace, service.host, service.visibility)]
    source = [Source(service.ref)]
    for port in service.ports:
        of_port = known.of(port.number)
        name = names.outbound_cluster(port.number, service.host)
        whole = finish(name, assignment(name, of_port, addressed=service.headless), source)
        yield (name, service.namespace), offer(whole, seen=seen)
        for subset in subset_names(variants):
            name = names.outbound_cluster(port.number, service.host, subset)
            choices = [
                Variant(
                    variant.clients,
                    None
                    if (found := find_subset(variant.subsets, subset)) is None
                    else finish(
                        name,
                        assignment(name, labelled(of_port, found.labels), addressed=service.headless),
                        [*source, *map(Source, variant.refs)],
                    ),
                )
                for variant in variants
            ]
            yield (name, service.namespace), Offer(ENDPOINTS, name, tuple(choices), tuple(seen))


def find_subset(subsets: Iterable[Subset], name: str) -> Subset | None:
    """The subset of that name, if it is among them."""
    return next((subset for subset in subsets if subset.name == name), None)


def subset_names(variants: Iterable[DestinationVariant]) -> list[str]:
    """The names of all subsets that any client knows, sorted."""
    return sorted({subset.name for variant in variants for subset in variant.subsets})


def labelled(endpoints: Iterable[Endpoint], labels: LabelSet) -> tuple[Endpoint, ...]:
    """The endpoints that carry all of the labels."""
    return tuple(endpoint for endpoint in endpoints if endpoint.labels.contains(labels))


def assignment(name: str, endpoints: Iterable[Endpoint], *, addressed: bool = False) -> ClusterLoadAssignment:
    """A load assignment, the endpoints of one locality together. `addressed`: they can be picked by their addresses."""
    localities: dict[Locality, list[Endpoint]] = {}
    for endpoint in endpoints:
        localities.setdefault(endpoint.locality, []).append(endpoint)
    return ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[
            LocalityLbEndpoints(
                locality=_locality(locality),
                lb_endpoints=[_endpoint(endpoint, addressed) for endpoint in members],
                load_balancing_weight=uint32(sum(max(endpoint.weight, 1) for endpoint in members)),
            )
            for locality, members in sorted(localities.items())
        ],
    )


def _locality(locality: Locality) -> LocalityMessage | None:
    if locality == Locality():
        return None
    return LocalityMessage(region=locality.region, zone=locality.zone, sub_zone=locality.subzone)


def _endpoint(endpoint: Endpoint, addressed: bool) -> LbEndpoint:
    return LbEndpoint(
        endpoint=EndpointMessage(address=address(endpoint.address, endpoint.port), hostname=endpoint.hostname),
        metadata=metadata.of_endpoint(endpoint, addressed=addressed),
        load_balancing_weight=uint32(max(endpoint.weight, 1)),
        health_status=_STATUS[endpoint.health],
    )
