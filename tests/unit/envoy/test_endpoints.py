from __future__ import annotations

from meltemi.base.labels import LabelSet
from meltemi.model.clients import ANYONE, Locality
from meltemi.model.services import Health, Resolution, ServiceEndpoints, WorkloadName
from meltemi.model.traffic import Destination, DestinationVariant, Subset, TrafficPolicy
from meltemi.protos.envoy.config.core.v3.health_check_pb2 import HealthStatus
from meltemi.protos.envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from meltemi.testing.models import Scene, endpoint, service

REVIEWS = service("reviews", http=80)
NAME = "outbound|80||reviews.default.svc.cluster.local"


def assignment(*endpoints: object) -> ClusterLoadAssignment:
    known = ServiceEndpoints("default", REVIEWS.host, ((80, endpoints),))  # type: ignore[arg-type]
    return Scene(services=[REVIEWS], endpoints=[known]).assignments()[NAME]


def test_endpoints_of_one_locality_stand_together_with_their_weight() -> None:
    here, there = Locality("eu", "a"), Locality("eu", "b")
    message = assignment(
        endpoint("10.0.0.1", 80, locality=here, weight=2),
        endpoint("10.0.0.2", 80, locality=there),
        endpoint("10.0.0.3", 80, locality=here, weight=3),
    )
    assert [group.locality.zone for group in message.endpoints] == ["a", "b"]
    assert [group.load_balancing_weight.value for group in message.endpoints] == [5, 1]


def test_each_endpoint_says_whether_mtls_can_be_spoken_to_it() -> None:
    message = assignment(endpoint("10.0.0.1", 80), endpoint("10.0.0.2", 80, meshed=False))
    modes = [
        each.metadata.filter_metadata["envoy.transport_socket_match"].fields["tlsMode"].string_value
        for each in message.endpoints[0].lb_endpoints
    ]
    assert modes == ["istio", "disabled"]


def test_each_endpoint_says_who_it_is_and_nothing_is_left_empty() -> None:
    names = WorkloadName(workload="reviews-v1", namespace="default", app="reviews")
    (group,) = assignment(endpoint("10.0.0.1", 80, names=names)).endpoints
    fields = group.lb_endpoints[0].metadata.filter_metadata["mesh"].fields
    assert fields["workload"].string_value == "reviews-v1"
    assert fields["version"].string_value == "unknown"
    assert fields["canonical_revision"].string_value == "latest"


def test_health_is_passed_on() -> None:
    message = assignment(
        endpoint("10.0.0.1", 80),
        endpoint("10.0.0.2", 80, health=Health.DRAINING),
        endpoint("10.0.0.3", 80, health=Health.UNHEALTHY),
    )
    assert [each.health_status for each in message.endpoints[0].lb_endpoints] == [
        HealthStatus.HEALTHY,
        HealthStatus.DRAINING,
        HealthStatus.UNHEALTHY,
    ]


def test_a_service_without_endpoints_has_an_empty_assignment() -> None:
    message = Scene(services=[REVIEWS]).assignments()[NAME]
    assert message.cluster_name == NAME
    assert not message.endpoints


def test_a_subset_holds_the_endpoints_with_its_labels() -> None:
    subset = Subset("v2", LabelSet.of({"version": "v2"}), ((80, TrafficPolicy()),))
    variant = DestinationVariant(ANYONE, ((80, TrafficPolicy()),), (subset,))
    both = (
        endpoint("10.0.0.1", 80, labels={"version": "v1"}),
        endpoint("10.0.0.2", 80, labels={"version": "v2"}),
    )
    scene = Scene(
        services=[REVIEWS],
        endpoints=[ServiceEndpoints("default", REVIEWS.host, ((80, both),))],
        destinations=[Destination(*REVIEWS.key, (variant,))],
    )
    message = scene.assignments()["outbound|80|v2|reviews.default.svc.cluster.local"]
    addresses = [each.endpoint.address.socket_address.address for each in message.endpoints[0].lb_endpoints]
    assert addresses == ["10.0.0.2"]


def test_services_found_by_dns_have_no_assignments() -> None:
    outside = service("api", http=80, host="api.example.org", external=True, resolution=Resolution.DNS)
    assert not Scene(services=[outside]).assignments()


def test_a_unix_socket_is_a_pipe() -> None:
    (group,) = assignment(endpoint("unix:///run/app.sock", 80)).endpoints
    assert group.lb_endpoints[0].endpoint.address.pipe.path == "/run/app.sock"
