from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from google.protobuf.message import Message
from msgspec import structs

from meltemi.base.durations import Timeout
from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.base.spiffe import SpiffeId
from meltemi.envoy import gateways
from meltemi.envoy.resource import LISTENER, ROUTES, Offer, Resource
from meltemi.flow import View
from meltemi.model.clients import ANYONE, Clients, ProxyKind
from meltemi.model.gateways import GatewayConfig, GatewayServer, ServerTls, ServerTlsMode
from meltemi.model.mesh import Mesh
from meltemi.model.proxies import Inbound
from meltemi.model.proxies import View as ProxyView
from meltemi.model.routes import (
    Forward,
    HttpMatch,
    Route,
    Source,
    Target,
    TcpMatch,
    TcpRoute,
    VirtualHost,
    WeightedTarget,
)
from meltemi.model.security import Authorization, PeerPolicy, Policy, Rule, Verdict
from meltemi.model.services import Protocol, WorkloadName
from meltemi.model.traffic import ConnectionPool, Destination, DestinationVariant, TrafficPolicy
from meltemi.protos import to_dict, unpack
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from meltemi.testing.validation import refusal

EDGE = ProxyView(
    key="edge",
    kind=ProxyKind.GATEWAY,
    namespace="istio-system",
    labels=LabelSet.of({"istio": "ingressgateway"}),
    identity=SpiffeId("cluster.local", "istio-system", "gateway"),
    names=WorkloadName(),
    audience="edges",
)
GATEWAY = Ref("Gateway", "shop", "front")
ROUTES_OF_PAY = Source(Ref("VirtualService", "shop", "pay"), "spec.http[0]")
PAY = Target("shop", "pay.shop.svc.cluster.local", 80)

SIMPLE = ServerTls(mode=ServerTlsMode.SIMPLE, credentials=("kubernetes://istio-system/shop",))
PASSTHROUGH = ServerTls(mode=ServerTlsMode.PASSTHROUGH)


def to_pay(clients: Clients = ANYONE, name: str = "pay") -> Route:
    return Route(
        name=name, match=HttpMatch(), action=Forward((WeightedTarget(PAY),)), clients=clients, source=ROUTES_OF_PAY
    )


def host(name: str, *routes: Route, require_tls: bool = False) -> VirtualHost:
    return VirtualHost(f"{name}:80", (name,), routes or (to_pay(),), require_tls, (ROUTES_OF_PAY,))


def http_server(*hosts: VirtualHost, **settings: object) -> GatewayServer:
    defaults: dict[str, object] = {"name": "http.80", "port": 80, "protocol": Protocol.HTTP, "refs": (GATEWAY,)}
    return GatewayServer(virtual_hosts=hosts, **(defaults | settings))  # type: ignore[arg-type]


def https_server(tls: ServerTls, *hosts: str, name: str = "https.443.https.front.shop") -> GatewayServer:
    return http_server(*map(host, hosts), name=name, port=443, protocol=Protocol.HTTPS, tls=tls, hosts=hosts)


def tcp_server(*routes: TcpRoute, **settings: object) -> GatewayServer:
    defaults: dict[str, object] = {"name": "tcp.9000", "port": 9000, "protocol": Protocol.TCP, "refs": (GATEWAY,)}
    return GatewayServer(tcp_routes=routes, **(defaults | settings))  # type: ignore[arg-type]


def to_bytes(*names: str, clients: Clients = ANYONE) -> TcpRoute:
    return TcpRoute(match=TcpMatch(sni_hosts=names), targets=(WeightedTarget(PAY),), clients=clients)


def made(
    *servers: GatewayServer,
    rules: Authorization | None = None,
    destination: Destination | None = None,
    mesh: Mesh | None = None,
) -> list[tuple[object, Offer] | Problem]:
    settings: View[tuple[()], Mesh] = View.of({(): mesh or Mesh()})
    views: View[str, ProxyView] = View.of({EDGE.key: EDGE})
    known = {(PAY.namespace, PAY.host): destination or Destination(PAY.namespace, PAY.host)}
    destinations: View[tuple[str, str], Destination] = View.of(known)
    serving = Inbound(EDGE.key, (), PeerPolicy(), rules or Authorization())
    inbound: View[str, Inbound] = View.of({EDGE.key: serving})
    row = GatewayConfig(EDGE.key, tuple(sorted(servers, key=lambda each: (each.bind, each.port))))
    return list(gateways.gateway(row, mesh=settings, views=views, destinations=destinations, inbound=inbound))


def resources(*servers: GatewayServer, **settings: object) -> list[Resource]:
    offers = [item[1] for item in made(*servers, **settings) if isinstance(item, tuple)]  # type: ignore[arg-type]
    assert all(each.view == "edge" for each in offers)
    found = [each.variants[0].resource for each in offers]
    return [each for each in found if each is not None]


def listeners(found: list[Resource]) -> dict[str, Listener]:
    return {each.name: Listener.FromString(each.body) for each in found if each.type_url == LISTENER}


def configurations(found: list[Resource]) -> dict[str, RouteConfiguration]:
    return {each.name: RouteConfiguration.FromString(each.body) for each in found if each.type_url == ROUTES}


def manager(chain: FilterChain) -> HttpConnectionManager:
    return HttpConnectionManager.FromString(chain.filters[-1].typed_config.value)


def tls_context(chain: FilterChain) -> Mapping[str, object]:
    return to_dict(unpack(chain.transport_socket.typed_config))


def config(chain: FilterChain) -> Message:
    return unpack(chain.filters[-1].typed_config)


def test_plaintext_requests_of_a_port_have_one_chain_and_routes_of_their_own() -> None:
    found = resources(http_server(host("pay.example"), host("*.example")))
    [chain] = listeners(found)["0.0.0.0_80"].filter_chains
    assert manager(chain).rds.route_config_name == "http.80"
    routes = configurations(found)["http.80"]
    assert [list(each.domains) for each in routes.virtual_hosts] == [["pay.example"], ["*.example"]]
    assert routes.virtual_hosts[0].routes[0].route.cluster == "outbound|80||pay.shop.svc.cluster.local"
    assert routes.ignore_port_in_host_matching
    assert refusal(found) == ""


def test_a_gateway_listens_for_itself() -> None:
    message = listeners(resources(http_server(host("*"))))["0.0.0.0_80"]
    assert message.bind_to_port.value
    assert list(message.listener_filters) == []


def test_a_server_may_have_an_address_of_its_own() -> None:
    found = listeners(resources(http_server(host("*"), bind="127.0.0.1"), http_server(host("*"), name="http.80.b")))
    assert sorted(found) == ["0.0.0.0_80", "127.0.0.1_80"]


def test_clients_from_outside_are_taken_at_their_connections_word() -> None:
    found = resources(http_server(host("*")))
    [chain] = listeners(found)["0.0.0.0_80"].filter_chains
    made_manager = manager(chain)
    assert made_manager.use_remote_address.value
    assert made_manager.forward_client_cert_details == HttpConnectionManager.SANITIZE_SET
    assert to_dict(made_manager.set_current_client_cert_details) == {
        "subject": True,
        "cert": True,
        "dns": True,
        "uri": True,
    }
    assert made_manager.http_filters[0].name == "envoy.filters.http.header_mutation"


def test_plaintext_can_be_sent_to_https() -> None:
    one = configurations(resources(http_server(host("a.example", require_tls=True), host("b.example"))))["http.80"]
    assert [each.require_tls for each in one.virtual_hosts] == [2, 0]
    all_of_them = configurations(resources(http_server(host("a.example"), https_redirect=True)))["http.80"]
    assert all_of_them.virtual_hosts[0].require_tls == 2


def test_https_servers_of_a_port_are_told_apart_by_name() -> None:
    found = resources(
        https_server(SIMPLE, "a.example", "*.a.example"),
        https_server(SIMPLE, "b.example", name="https.443.other.front.shop"),
    )
    message = listeners(found)["0.0.0.0_443"]
    assert [list(each.filter_chain_match.server_names) for each in message.filter_chains] == [
        ["a.example", "*.a.example"],
        ["b.example"],
    ]
    assert [each.name for each in message.listener_filters] == ["envoy.filters.listener.tls_inspector"]
    assert sorted(configurations(found)) == ["https.443.https.front.shop", "https.443.other.front.shop"]
    assert message.filter_chains[0].transport_socket_connect_timeout.seconds == 15
    assert refusal(found) == ""


def test_a_server_for_every_name_takes_clients_that_ask_for_none() -> None:
    [chain] = listeners(resources(https_server(SIMPLE, "*")))["0.0.0.0_443"].filter_chains
    assert list(chain.filter_chain_match.server_names) == []


def test_simple_tls_shows_certificates_from_the_vault_and_asks_for_none() -> None:
    [chain] = listeners(resources(https_server(SIMPLE, "a.example")))["0.0.0.0_443"].filter_chains
    context = tls_context(chain)
    common = context["common_tls_context"]
    assert context["require_client_certificate"] is False
    assert common["alpn_protocols"] == ["h2", "http/1.1"]  # type: ignore[index]
    assert common["tls_certificate_sds_secret_configs"] == [  # type: ignore[index]
        {"name": "kubernetes://istio-system/shop", "sds_config": {"ads": {}, "resource_api_version": "V3"}}
    ]


@pytest.mark.parametrize(("mode", "required"), [(ServerTlsMode.MUTUAL, True), (ServerTlsMode.OPTIONAL_MUTUAL, False)])
def test_mutual_tls_checks_clients_against_the_named_authorities(mode: ServerTlsMode, required: bool) -> None:
    tls = ServerTls(
        mode=mode,
        credentials=("kubernetes://istio-system/shop",),
        ca_credential="kubernetes://istio-system/shop-cacert",
        subject_alt_names=("client.example", "spiffe://outside/client"),
    )
    found = resources(https_server(tls, "a.example"))
    [chain] = listeners(found)["0.0.0.0_443"].filter_chains
    context = tls_context(chain)
    assert context["require_client_certificate"] is required
    validation = context["common_tls_context"]["combined_validation_context"]  # type: ignore[index]
    assert validation["validation_context_sds_secret_config"]["name"] == "kubernetes://istio-system/shop-cacert"
    accepted = validation["default_validation_context"]["match_typed_subject_alt_names"]
    assert {"san_type": "DNS", "matcher": {"exact": "client.example"}} in accepted
    assert {"san_type": "URI", "matcher": {"exact": "spiffe://outside/client"}} in accepted
    assert refusal(found) == ""


def test_mesh_mutual_tls_uses_the_gateways_own_identity() -> None:
    [chain] = listeners(resources(https_server(ServerTls(mode=ServerTlsMode.ISTIO_MUTUAL), "a.example")))[
        "0.0.0.0_443"
    ].filter_chains
    context = tls_context(chain)
    assert context["require_client_certificate"] is True
    assert context["common_tls_context"]["tls_certificate_sds_secret_configs"][0]["name"] == "default"  # type: ignore[index]


def test_certificates_in_files_come_from_the_agent() -> None:
    tls = ServerTls(
        mode=ServerTlsMode.MUTUAL, certificate_file="/c/tls.crt", private_key_file="/c/tls.key", ca_file="/c/ca.crt"
    )
    found = resources(https_server(tls, "a.example"))
    common = tls_context(listeners(found)["0.0.0.0_443"].filter_chains[0])["common_tls_context"]
    assert common["tls_certificate_sds_secret_configs"][0]["name"] == "file-cert:/c/tls.crt~/c/tls.key"  # type: ignore[index]
    validation = common["combined_validation_context"]["validation_context_sds_secret_config"]  # type: ignore[index]
    assert validation["name"] == "file-root:/c/ca.crt"
    assert refusal(found) == ""


def test_several_certificates_in_files_are_all_shown() -> None:
    tls = ServerTls(
        mode=ServerTlsMode.SIMPLE,
        certificate_file="/c/rsa.crt",
        private_key_file="/c/rsa.key",
        more_files=(("/c/ec.crt", "/c/ec.key"),),
    )
    found = resources(https_server(tls, "a.example"))
    common = tls_context(listeners(found)["0.0.0.0_443"].filter_chains[0])["common_tls_context"]
    shown = [secret["name"] for secret in common["tls_certificate_sds_secret_configs"]]  # type: ignore[index]
    assert shown == ["file-cert:/c/rsa.crt~/c/rsa.key", "file-cert:/c/ec.crt~/c/ec.key"]
    assert refusal(found) == ""


def test_client_certificates_can_be_listed_and_revoked(tmp_path: Path) -> None:
    revoked = tmp_path / "revoked.pem"
    revoked.write_bytes(revocations())
    tls = ServerTls(
        mode=ServerTlsMode.MUTUAL,
        credentials=("kubernetes://istio-system/shop",),
        ca_credential="kubernetes://istio-system/shop-cacert",
        revoked_file=str(revoked),
        key_digests=("NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A=",),
        certificate_digests=("ab" * 32,),
    )
    found = resources(https_server(tls, "a.example"))
    common = tls_context(listeners(found)["0.0.0.0_443"].filter_chains[0])["common_tls_context"]
    assert common["combined_validation_context"]["default_validation_context"] == {  # type: ignore[index]
        "crl": {"filename": str(revoked)},
        "verify_certificate_spki": ["NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A="],
        "verify_certificate_hash": ["ab" * 32],
    }
    assert refusal(found) == ""


def revocations() -> bytes:
    """A list of revoked certificates that is empty (PEM)."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
    builder = x509.CertificateRevocationListBuilder(name, now, now + timedelta(days=1))
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)


def test_versions_and_ciphers_are_the_servers() -> None:
    tls = ServerTls(
        mode=ServerTlsMode.SIMPLE,
        credentials=("kubernetes://istio-system/shop",),
        min_version="TLSV1_3",
        cipher_suites=("ECDHE-RSA-AES128-GCM-SHA256",),
    )
    [chain] = listeners(resources(https_server(tls, "a.example")))["0.0.0.0_443"].filter_chains
    parameters = tls_context(chain)["common_tls_context"]["tls_params"]  # type: ignore[index]
    assert parameters["tls_minimum_protocol_version"] == "TLSv1_3"
    assert parameters["cipher_suites"] == ["ECDHE-RSA-AES128-GCM-SHA256"]


def test_over_quic_there_are_the_servers_that_announce_it_and_no_others() -> None:
    found = resources(
        structs.replace(https_server(SIMPLE, "a.example"), http3_port=8443),
        https_server(SIMPLE, "b.example", name="https.443.other.front.shop"),
    )
    assert sorted(listeners(found)) == ["0.0.0.0_443", "udp_0.0.0.0_443"]
    over_tcp, over_quic = (listeners(found)[name].filter_chains for name in ("0.0.0.0_443", "udp_0.0.0.0_443"))
    assert [list(chain.filter_chain_match.server_names) for chain in over_quic] == [["a.example"]]
    assert manager(over_quic[0]).codec_type == HttpConnectionManager.HTTP3
    assert manager(over_quic[0]).http_filters == manager(over_tcp[0]).http_filters
    assert manager(over_quic[0]).rds == manager(over_tcp[0]).rds
    told = {name: each.virtual_hosts[0].response_headers_to_add for name, each in configurations(found).items()}
    assert [each.header.value for each in told["https.443.https.front.shop"]] == ['h3=":8443"; ma=86400']
    assert not told["https.443.other.front.shop"]
    assert refusal(found) == ""


def test_tls_passed_through_is_routed_by_name_unopened() -> None:
    server = tcp_server(
        to_bytes("a.example"),
        to_bytes("*.b.example"),
        name="tls.443",
        port=443,
        protocol=Protocol.TLS,
        tls=PASSTHROUGH,
        hosts=("a.example", "*.b.example"),
    )
    found = resources(server)
    message = listeners(found)["0.0.0.0_443"]
    assert [list(each.filter_chain_match.server_names) for each in message.filter_chains] == [
        ["a.example"],
        ["*.b.example"],
    ]
    assert not any(each.HasField("transport_socket") for each in message.filter_chains)
    assert [each.name for each in message.listener_filters] == ["envoy.filters.listener.tls_inspector"]
    assert refusal(found) == ""


def test_mutual_tls_crosses_a_port_that_other_servers_share() -> None:
    crossed = tcp_server(
        name="tls.443.crossing.front.shop",
        port=443,
        protocol=Protocol.TLS,
        hosts=("*.local",),
        tls=ServerTls(mode=ServerTlsMode.AUTO_PASSTHROUGH),
    )
    found = resources(crossed, https_server(SIMPLE, "a.example"))
    crossing, opened = listeners(found)["0.0.0.0_443"].filter_chains
    assert list(crossing.filter_chain_match.server_names) == ["*.local"]
    assert not crossing.HasField("transport_socket")
    assert opened.HasField("transport_socket")
    assert refusal(found) == ""


def test_tls_of_connections_can_be_opened() -> None:
    server = tcp_server(to_bytes(), name="tls.443", port=443, protocol=Protocol.TLS, tls=SIMPLE, hosts=("a.example",))
    found = resources(server)
    [chain] = listeners(found)["0.0.0.0_443"].filter_chains
    assert list(chain.filter_chain_match.server_names) == ["a.example"]
    assert "alpn_protocols" not in tls_context(chain)["common_tls_context"]  # type: ignore[operator]
    assert refusal(found) == ""


def test_connections_are_passed_on_under_the_policy_of_their_destination() -> None:
    policy = TrafficPolicy(pool=ConnectionPool(tcp_idle_timeout=Timeout.off()))
    destination = Destination(PAY.namespace, PAY.host, (DestinationVariant(ANYONE, ((80, policy),)),))
    found = resources(tcp_server(to_bytes()), destination=destination)
    message = listeners(found)["0.0.0.0_9000"]
    proxy = to_dict(config(message.filter_chains[0]))
    assert proxy["cluster"] == "outbound|80||pay.shop.svc.cluster.local"
    assert proxy["idle_timeout"] == "0s"
    assert list(message.listener_filters) == []
    assert refusal(found) == ""


def test_routes_for_other_clients_are_left_out() -> None:
    others = Clients(labels=LabelSet.of({"app": "other"}))
    found = resources(http_server(host("*", to_pay(others, "other"), to_pay())), tcp_server(to_bytes(clients=others)))
    assert [each.name for each in configurations(found)["http.80"].virtual_hosts[0].routes] == ["pay"]
    assert sorted(listeners(found)) == ["0.0.0.0_80"]


def test_a_server_name_that_envoy_cannot_match_is_a_problem_and_keeps_no_other_from_being_matched() -> None:
    server = tcp_server(
        to_bytes("*a.example"),
        to_bytes("b*.example", "b.example"),
        name="tls.443",
        port=443,
        protocol=Protocol.TLS,
        tls=PASSTHROUGH,
    )
    [chain] = listeners(resources(server))["0.0.0.0_443"].filter_chains
    assert list(chain.filter_chain_match.server_names) == ["b.example"]
    assert refusal(resources(server)) == ""
    web = https_server(SIMPLE, "*c.example")
    assert listeners(resources(web)) == {}
    problems = [item for item in made(web) if isinstance(item, Problem)]
    assert [(each.ref, each.code) for each in problems] == [(GATEWAY, "Unsupported")]


def test_of_two_chains_for_the_same_connections_the_first_holds() -> None:
    found = resources(
        https_server(SIMPLE, "a.example"), https_server(SIMPLE, "a.example", name="https.443.later.front.shop")
    )
    [chain] = listeners(found)["0.0.0.0_443"].filter_chains
    assert chain.name == "https.443.https.front.shop"
    assert refusal(found) == ""


def test_authorization_holds_at_the_edge_too() -> None:
    policy = Policy(ref=Ref("AuthorizationPolicy", "istio-system", "none"), verdict=Verdict.DENY, rules=(Rule("all"),))
    found = resources(http_server(host("*")), tcp_server(to_bytes()), rules=Authorization((policy,)))
    requests = listeners(found)["0.0.0.0_80"].filter_chains[0]
    assert "envoy.filters.http.rbac" in [each.name for each in manager(requests).http_filters]
    assert list(configurations(found)["http.80"].typed_per_filter_config) == ["envoy.filters.http.rbac"]
    connections = listeners(found)["0.0.0.0_9000"].filter_chains[0]
    assert connections.filters[0].name == "envoy.filters.network.rbac"
    assert refusal(found) == ""


def test_rejections_are_told_to_the_authors_of_what_was_rejected() -> None:
    found = {each.type_url: each for each in resources(http_server(host("*")))}
    assert found[ROUTES].sources == (Source(GATEWAY), ROUTES_OF_PAY)
    assert found[LISTENER].sources == (Source(GATEWAY),)
