from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from meltemi.base.durations import Timeout
from meltemi.base.labels import LabelSet
from meltemi.envoy.pools import HTTP_OPTIONS
from meltemi.model.clients import ANYONE, Audience, Clients, ProxyKind
from meltemi.model.mesh import Mesh
from meltemi.model.services import Protocol, Resolution, Service, ServiceAccounts, ServiceEndpoints
from meltemi.model.traffic import (
    Balancer,
    Balancing,
    ClientTls,
    ConnectionPool,
    ConsistentHash,
    Destination,
    DestinationVariant,
    HashRing,
    HashSource,
    Http2Upgrade,
    KeepAlive,
    OutlierDetection,
    Pings,
    Subset,
    TlsMode,
    TrafficPolicy,
    Utilization,
    Warmup,
)
from meltemi.protos import unpack
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext
from meltemi.testing.models import Scene, endpoint, service

REVIEWS = service("reviews", http=80)
DEFAULTS = TrafficPolicy()
MESH = Mesh()
NAME = "outbound|80||reviews.default.svc.cluster.local"
ACCOUNT = "spiffe://cluster.local/ns/default/sa/reviews"


def scene(policy: TrafficPolicy = DEFAULTS, target: Service = REVIEWS, mesh: Mesh = MESH) -> Scene:
    port = target.ports[0].number
    return Scene(
        services=[target],
        accounts=[ServiceAccounts(target.namespace, target.host, (ACCOUNT,))],
        destinations=[Destination(*target.key, (DestinationVariant(ANYONE, ((port, policy),)),))],
        mesh=mesh,
    )


def cluster(policy: TrafficPolicy = DEFAULTS, target: Service = REVIEWS, mesh: Mesh = MESH) -> Cluster:
    name = f"outbound|{target.ports[0].number}||{target.host}"
    return scene(policy, target, mesh).clusters()[name]


def http_options(message: Cluster) -> Any:
    return unpack(message.typed_extension_protocol_options[HTTP_OPTIONS])


def context(message: Cluster) -> Any:
    return unpack(message.transport_socket.typed_config)


def balancer(message: Cluster) -> Any:
    return unpack(message.load_balancing_policy.policies[0].typed_extension_config.typed_config)


def test_endpoints_come_over_the_stream_under_the_clusters_own_name() -> None:
    message = cluster()
    assert message.type == Cluster.EDS
    assert message.eds_cluster_config.service_name == NAME
    assert message.eds_cluster_config.eds_config.HasField("ads")
    assert message.alt_stat_name == NAME + ";"


def test_a_cluster_does_not_depend_on_endpoints() -> None:
    without = scene().clusters()[NAME]
    here = ServiceEndpoints("default", REVIEWS.host, ((80, (endpoint("10.0.0.1", 8080),)),))
    with_endpoints = Scene(services=[REVIEWS], accounts=scene().accounts, endpoints=[here]).clusters()[NAME]
    assert with_endpoints == without


def test_the_transport_is_mtls_by_default_and_plaintext_only_for_endpoints_that_say_so() -> None:
    message = cluster()
    assert message.transport_socket.name == "envoy.transport_sockets.tls"
    (match,) = message.transport_socket_matches
    assert match.name == "tlsMode-disabled"
    assert match.match.fields["tlsMode"].string_value == "disabled"
    assert match.transport_socket.name == "envoy.transport_sockets.raw_buffer"


def test_the_server_must_show_one_of_the_services_identities() -> None:
    common = context(cluster()).common_tls_context
    matchers = common.combined_validation_context.default_validation_context.match_typed_subject_alt_names
    assert [each.matcher.exact for each in matchers] == [ACCOUNT]
    assert common.tls_certificate_sds_secret_configs[0].name == "default"
    assert common.combined_validation_context.validation_context_sds_secret_config.name == "ROOTCA"


def test_while_no_identity_is_known_the_server_must_at_least_be_of_the_services_namespace() -> None:
    message = Scene(services=[REVIEWS]).clusters()[NAME]
    check = context(message).common_tls_context.combined_validation_context.default_validation_context
    assert [each.matcher.prefix for each in check.match_typed_subject_alt_names] == [
        "spiffe://cluster.local/ns/default/"
    ]


def test_connections_ask_for_istios_server_name() -> None:
    assert context(cluster()).sni == "outbound_.80_._.reviews.default.svc.cluster.local"


@pytest.mark.parametrize(
    ("protocol", "policy", "offered"),
    [
        (Protocol.HTTP, TrafficPolicy(), ["istio-h2", "istio", "h2", "http/1.1"]),
        (
            Protocol.HTTP,
            TrafficPolicy(pool=ConnectionPool(http2_upgrade=Http2Upgrade.DO_NOT_UPGRADE)),
            ["istio-http/1.1", "istio", "http/1.1"],
        ),
        (Protocol.GRPC, TrafficPolicy(), ["istio-h2", "istio", "h2"]),
        (Protocol.TCP, TrafficPolicy(), ["istio"]),
        (Protocol.AUTO, TrafficPolicy(), ["istio"]),
    ],
)
def test_what_is_offered_by_alpn_follows_the_protocol(
    protocol: Protocol, policy: TrafficPolicy, offered: list[str]
) -> None:
    target = service("reviews", **{protocol.name.lower(): 80})
    assert list(context(cluster(policy, target)).common_tls_context.alpn_protocols) == offered


@pytest.mark.parametrize(
    ("protocol", "pool", "kind"),
    [
        ("http", ConnectionPool(), "auto_config"),
        ("http", ConnectionPool(http2_upgrade=Http2Upgrade.DO_NOT_UPGRADE), "explicit_http_config"),
        ("http", ConnectionPool(http2_upgrade=Http2Upgrade.UPGRADE), "explicit_http_config"),
        ("http", ConnectionPool(use_client_protocol=True), "use_downstream_protocol_config"),
        ("grpc", ConnectionPool(), "explicit_http_config"),
        ("auto", ConnectionPool(), "use_downstream_protocol_config"),
    ],
)
def test_the_version_of_http_follows_the_protocol_and_the_pool(protocol: str, pool: ConnectionPool, kind: str) -> None:
    options = http_options(cluster(TrafficPolicy(pool=pool), service("reviews", **{protocol: 80})))
    assert options.WhichOneof("upstream_protocol_options") == kind


def test_a_tcp_port_has_no_http_options() -> None:
    assert not cluster(target=service("db", tcp=5432)).typed_extension_protocol_options


def test_endpoints_of_the_mesh_are_told_who_the_client_is_and_others_are_not() -> None:
    mutation = unpack(http_options(cluster()).http_filters[0].typed_config).mutations.request_mutations[1]  # type: ignore[attr-defined]
    assert mutation.append.header.key == "x-envoy-peer-metadata"
    outside = service("api", http=80, host="api.example.org", external=True, resolution=Resolution.DNS)
    assert not http_options(cluster(target=outside)).http_filters
    assert not http_options(cluster(TrafficPolicy(tls=ClientTls(mode=TlsMode.DISABLE)))).http_filters


def test_nothing_outside_the_mesh_is_offered_mtls() -> None:
    outside = service("api", http=80, host="api.example.org", external=True, resolution=Resolution.DNS)
    message = cluster(target=outside)
    assert not message.HasField("transport_socket")
    assert not message.transport_socket_matches
    assert http_options(message).explicit_http_config.HasField("http_protocol_options")


def test_disable_means_plaintext_for_all() -> None:
    message = cluster(TrafficPolicy(tls=ClientTls(mode=TlsMode.DISABLE)))
    assert not message.HasField("transport_socket")
    assert not message.transport_socket_matches


def test_istio_mutual_means_mtls_for_all() -> None:
    message = cluster(TrafficPolicy(tls=ClientTls(mode=TlsMode.ISTIO_MUTUAL, sni="other")))
    assert context(message).sni == "other"
    assert not message.transport_socket_matches


def test_simple_tls_takes_the_server_name_from_the_request_and_checks_it() -> None:
    outside = service("api", http=80, host="api.example.org", external=True, resolution=Resolution.DNS)
    message = cluster(TrafficPolicy(tls=ClientTls(mode=TlsMode.SIMPLE)), outside)
    upstream = http_options(message).upstream_http_protocol_options
    assert upstream.auto_sni
    assert upstream.auto_san_validation
    assert context(message).common_tls_context.validation_context.trusted_ca.filename == Mesh().system_roots


def test_mutual_tls_shows_the_certificate_of_the_rule() -> None:
    tls = ClientTls(
        mode=TlsMode.MUTUAL,
        client_certificate="/certs/cert.pem",
        private_key_file="/certs/key.pem",
        ca_certificates="/certs/ca.pem",
        subject_alt_names=("api.example.org",),
    )
    common = context(cluster(TrafficPolicy(tls=tls))).common_tls_context
    assert common.tls_certificates[0].private_key.filename == "/certs/key.pem"
    assert common.validation_context.trusted_ca.filename == "/certs/ca.pem"
    assert common.validation_context.match_typed_subject_alt_names[0].matcher.exact == "api.example.org"


@pytest.mark.parametrize("credential", ["", "kubernetes://ours"])
def test_certificates_that_are_revoked_are_refused_wherever_the_authorities_come_from(credential: str) -> None:
    ca = "" if credential else "/certs/ca.pem"
    tls = ClientTls(mode=TlsMode.SIMPLE, ca_certificates=ca, ca_crl="/certs/crl.pem", credential_name=credential)
    common = context(cluster(TrafficPolicy(tls=tls))).common_tls_context
    combined = common.combined_validation_context.default_validation_context
    check = combined if credential else common.validation_context
    assert check.crl.filename == "/certs/crl.pem"
    assert check.trusted_ca.filename == ca


def test_a_server_need_not_be_who_it_should_be_where_nothing_is_verified() -> None:
    tls = ClientTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True)
    message = cluster(TrafficPolicy(tls=tls))
    check = context(message).common_tls_context.validation_context
    assert check.trust_chain_verification == CertificateValidationContext.ACCEPT_UNTRUSTED
    assert not check.HasField("trusted_ca")
    assert not http_options(message).upstream_http_protocol_options.auto_san_validation


def test_limits_are_none_unless_asked_for() -> None:
    (thresholds,) = cluster().circuit_breakers.thresholds
    assert thresholds.max_connections.value == 4294967295
    assert thresholds.track_remaining
    pool = ConnectionPool(max_connections=1, max_pending_requests=2, max_requests=3, max_retries=4)
    (limited,) = cluster(TrafficPolicy(pool=pool)).circuit_breakers.thresholds
    assert (limited.max_connections.value, limited.max_pending_requests.value) == (1, 2)
    assert (limited.max_requests.value, limited.max_retries.value) == (3, 4)


def test_the_pool_sets_timeouts_and_keep_alive() -> None:
    pool = ConnectionPool(
        connect_timeout=timedelta(seconds=3),
        keepalive=KeepAlive(probes=5, time=timedelta(seconds=60)),
        http_idle_timeout=Timeout.of(timedelta(seconds=7)),
        max_requests_per_connection=9,
    )
    message = cluster(TrafficPolicy(pool=pool))
    assert message.connect_timeout.seconds == 3
    assert message.upstream_connection_options.tcp_keepalive.keepalive_probes.value == 5
    common = http_options(message).common_http_protocol_options
    assert common.idle_timeout.seconds == 7
    assert common.max_requests_per_connection.value == 9
    assert cluster().connect_timeout.seconds == 10


def test_pings_are_for_connections_of_http2_whoever_decides_on_it() -> None:
    pool = ConnectionPool(pings=Pings(timedelta(seconds=30), timedelta(seconds=5)))
    negotiated = http_options(cluster(TrafficPolicy(pool=pool))).auto_config
    declared = http_options(cluster(TrafficPolicy(pool=pool), service("calls", grpc=80))).explicit_http_config
    kept = http_options(
        cluster(TrafficPolicy(pool=msgspec.structs.replace(pool, use_client_protocol=True)))
    ).use_downstream_protocol_config
    for options in (negotiated, declared, kept):
        pings = options.http2_protocol_options.connection_keepalive
        assert (pings.interval.seconds, pings.timeout.seconds) == (30, 5)
    assert not http_options(cluster()).auto_config.http2_protocol_options.HasField("connection_keepalive")


@pytest.mark.parametrize(
    ("balancing", "kind"),
    [
        (Balancing(), "LeastRequest"),
        (Balancing(Balancer.ROUND_ROBIN), "RoundRobin"),
        (Balancing(Balancer.RANDOM), "Random"),
        (Balancing(utilization=Utilization()), "ClientSideWeightedRoundRobin"),
        (Balancing(hash=ConsistentHash(HashSource.SOURCE_IP)), "RingHash"),
        (Balancing(hash=ConsistentHash(HashSource.SOURCE_IP, ring=HashRing.MAGLEV)), "Maglev"),
    ],
)
def test_every_balancer_has_its_policy(balancing: Balancing, kind: str) -> None:
    assert balancer(cluster(TrafficPolicy(balancing=balancing))).DESCRIPTOR.name == kind


def test_passthrough_goes_to_the_address_the_client_chose() -> None:
    message = cluster(TrafficPolicy(balancing=Balancing(Balancer.PASSTHROUGH)))
    assert message.type == Cluster.ORIGINAL_DST
    assert message.lb_policy == Cluster.CLUSTER_PROVIDED
    assert not message.HasField("transport_socket")


def test_what_is_hashed_stands_in_the_cluster() -> None:
    cookie = ConsistentHash(HashSource.COOKIE, "session", path="/", ttl=timedelta(hours=1))
    (policy,) = http_options(cluster(TrafficPolicy(balancing=Balancing(hash=cookie)))).hash_policy
    assert policy.cookie.name == "session"
    assert policy.cookie.ttl.seconds == 3600


def test_new_endpoints_warm_up_if_asked_for() -> None:
    warm = Balancing(Balancer.ROUND_ROBIN, warmup=Warmup(timedelta(seconds=30), 20, 2))
    slow_start = balancer(cluster(TrafficPolicy(balancing=warm))).slow_start_config
    assert slow_start.slow_start_window.seconds == 30
    assert slow_start.min_weight_percent.value == 20


def test_outliers_are_ejected_by_answers_and_never_by_success_rate() -> None:
    outlier = OutlierDetection(consecutive_5xx_errors=0, consecutive_gateway_errors=3, min_health_percent=40)
    message = cluster(TrafficPolicy(outlier=outlier))
    assert message.outlier_detection.enforcing_success_rate.value == 0
    assert message.outlier_detection.enforcing_consecutive_5xx.value == 0
    assert message.outlier_detection.consecutive_gateway_failure.value == 3
    assert message.common_lb_config.healthy_panic_threshold.value == 40
    assert not http_options(message).HasField("outlier_detection")


def test_statuses_may_be_named_that_count_as_errors() -> None:
    outlier = OutlierDetection(consecutive_5xx_errors=3, error_statuses=(429, 503))
    matcher = http_options(cluster(TrafficPolicy(outlier=outlier))).outlier_detection.error_matcher
    (status,) = matcher.http_response_headers_match.headers
    assert (status.name, status.string_match.safe_regex.regex) == (":status", "429|503")


def test_unready_endpoints_are_not_used_even_if_all_are() -> None:
    message = cluster()
    assert message.common_lb_config.HasField("healthy_panic_threshold")
    assert message.common_lb_config.healthy_panic_threshold.value == 0


def test_a_service_found_by_dns_has_its_names_in_the_cluster() -> None:
    outside = service("api", http=80, host="api.example.org", external=True, resolution=Resolution.DNS)
    at = endpoint("api.example.org", 80, meshed=False)
    here = ServiceEndpoints("default", outside.host, ((80, (at,)),))
    message = Scene(services=[outside], endpoints=[here]).clusters()["outbound|80||api.example.org"]
    assert message.cluster_type.name == "envoy.clusters.dns"
    (locality,) = message.load_assignment.endpoints
    assert locality.lb_endpoints[0].endpoint.address.socket_address.address == "api.example.org"


def test_of_a_service_found_by_the_first_answer_one_name_is_asked_for() -> None:
    outside = service("api", http=80, host="api.example.org", external=True, resolution=Resolution.DNS_ROUND_ROBIN)
    at = (endpoint("a.example.org", 80), endpoint("b.example.org", 80))
    here = ServiceEndpoints("default", outside.host, ((80, at),))
    message = Scene(services=[outside], endpoints=[here]).clusters()["outbound|80||api.example.org"]
    assert sum(len(group.lb_endpoints) for group in message.load_assignment.endpoints) == 1


def test_an_entry_without_resolution_goes_where_the_client_was_going() -> None:
    outside = service("any", tcp=443, host="*.example.org", external=True, resolution=Resolution.ORIGINAL)
    assert cluster(target=outside).type == Cluster.ORIGINAL_DST


def test_each_subset_has_a_cluster_with_a_server_name_of_its_own() -> None:
    policy = TrafficPolicy(pool=ConnectionPool(max_connections=1))
    subset = Subset("v1", LabelSet.of({"version": "v1"}), ((80, policy),))
    variant = DestinationVariant(ANYONE, ((80, TrafficPolicy()),), (subset,))
    known = Scene(services=[REVIEWS], destinations=[Destination(*REVIEWS.key, (variant,))]).clusters()
    message = known["outbound|80|v1|reviews.default.svc.cluster.local"]
    assert context(message).sni == "outbound_.80_.v1_.reviews.default.svc.cluster.local"
    assert message.circuit_breakers.thresholds[0].max_connections.value == 1
    assert known[NAME].circuit_breakers.thresholds[0].max_connections.value == 4294967295


def test_clients_that_know_no_such_subset_get_no_cluster_for_it() -> None:
    subset = Subset("v1", LabelSet(), ((80, TrafficPolicy()),))
    mine = DestinationVariant(Clients(namespaces=frozenset({"shop"})), ((80, TrafficPolicy()),))
    theirs = DestinationVariant(ANYONE, ((80, TrafficPolicy()),), (subset,))
    known = Scene(services=[REVIEWS], destinations=[Destination(*REVIEWS.key, (mine, theirs))])
    name = "outbound|80|v1|reviews.default.svc.cluster.local"
    assert name in known.clusters()
    assert name not in known.clusters(Audience("shop", ProxyKind.SIDECAR, "shop"))


def test_metrics_find_the_service_in_the_clusters_metadata() -> None:
    fields = cluster().metadata.filter_metadata["mesh"].fields
    assert fields["service_host"].string_value == REVIEWS.host
    assert fields["service_name"].string_value == "reviews"
    assert fields["service_namespace"].string_value == "default"


def test_the_proxy_protocol_goes_before_the_transport() -> None:
    message = cluster(TrafficPolicy(proxy_protocol="V2"))
    assert message.transport_socket.name == "envoy.transport_sockets.upstream_proxy_protocol"
    assert message.transport_socket_matches[0].transport_socket.name == message.transport_socket.name


def test_clients_may_choose_an_endpoint_of_a_headless_service() -> None:
    message = cluster(target=service("zk", http=80, headless=True))
    assert message.type == Cluster.EDS
    assert balancer(message).DESCRIPTOR.name == "OverrideHost"


def test_an_entry_whose_hosts_are_found_on_demand_is_reported() -> None:
    wild = service("any", http=80, host="*.example.org", external=True, resolution=Resolution.DYNAMIC_DNS)
    found = Scene(services=[wild])
    assert not [name for name in found.clusters() if name.startswith("outbound|")]
    assert [problem.code for problem in found.problems()] == ["Unsupported"]
