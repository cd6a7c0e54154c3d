from __future__ import annotations

from collections.abc import Iterable

import pytest

from meltemi.base.durations import Timeout
from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.base.spiffe import SpiffeId
from meltemi.envoy import inbound
from meltemi.envoy.resource import CLUSTER, LISTENER, ROUTES, Offer, Resource
from meltemi.flow import View
from meltemi.model.clients import ProxyKind
from meltemi.model.mesh import Mesh, TlsLimits
from meltemi.model.proxies import Inbound, InboundPort
from meltemi.model.proxies import View as ProxyView
from meltemi.model.routes import HttpMatch, MatchKind, Respond, Route, TextMatch
from meltemi.model.security import (
    Attribute,
    Authorization,
    Condition,
    MutualTls,
    PeerPolicy,
    Policy,
    Rule,
    ValueMatch,
    Verdict,
)
from meltemi.model.services import Protocol, WorkloadName
from meltemi.protos import to_dict, unpack
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from meltemi.testing.validation import refusal

STRICT, PERMISSIVE, DISABLE = MutualTls.STRICT, MutualTls.PERMISSIVE, MutualTls.DISABLE
MODES = (STRICT, PERMISSIVE, DISABLE)

SIDECAR = ProxyView(
    key="pay",
    kind=ProxyKind.SIDECAR,
    namespace="shop",
    labels=LabelSet(),
    identity=SpiffeId("cluster.local", "shop", "pay"),
    names=WorkloadName(),
    audience="shop",
)


def port(number: int, protocol: Protocol, mode: MutualTls = PERMISSIVE, endpoint: str = "") -> InboundPort:
    return InboundPort(
        number,
        protocol,
        mode,
        "pay.shop.svc.cluster.local",
        80,
        endpoint,
        service_name="pay",
        service_namespace="shop",
    )


def serving(
    *ports: InboundPort,
    mode: MutualTls = PERMISSIVE,
    peer_ports: dict[int, MutualTls] | None = None,
    **settings: object,
) -> Inbound:
    peer = PeerPolicy(mode, tuple((peer_ports or {}).items()))
    return Inbound("pay", tuple(ports), peer, **settings)  # type: ignore[arg-type]


def made(row: Inbound, mesh: Mesh | None = None, view: ProxyView = SIDECAR) -> list[tuple[object, Offer] | Problem]:
    views: View[str, ProxyView] = View.of({view.key: view})
    settings: View[tuple[()], Mesh] = View.of({(): mesh or Mesh()})
    return list(inbound.inbound(row, mesh=settings, views=views))


def resources(row: Inbound, mesh: Mesh | None = None) -> list[Resource]:
    offers = [item[1] for item in made(row, mesh) if isinstance(item, tuple)]
    assert all(each.view == "pay" for each in offers)
    return [each.variants[0].resource for each in offers if each.variants[0].resource is not None]


def listener(row: Inbound, mesh: Mesh | None = None) -> Listener:
    [found] = [each for each in resources(row, mesh) if each.type_url == LISTENER]
    return Listener.FromString(found.body)


def routes(row: Inbound) -> dict[str, RouteConfiguration]:
    found = [each for each in resources(row) if each.type_url == ROUTES]
    return {each.name: RouteConfiguration.FromString(each.body) for each in found}


def clusters(row: Inbound) -> dict[str, Cluster]:
    return {each.name: Cluster.FromString(each.body) for each in resources(row) if each.type_url == CLUSTER}


def chains(message: Listener, number: int) -> list[FilterChain]:
    return [each for each in message.filter_chains if each.filter_chain_match.destination_port.value == number]


def manager(chain: FilterChain) -> HttpConnectionManager:
    return HttpConnectionManager.FromString(chain.filters[-1].typed_config.value)


def kind(chain: FilterChain) -> str:
    return "http" if chain.filters[-1].name.endswith("http_connection_manager") else "tcp"


def table(found: Iterable[FilterChain]) -> list[tuple[list[str], str, str, bool]]:
    return [
        (
            list(each.filter_chain_match.application_protocols),
            each.filter_chain_match.transport_protocol,
            kind(each),
            each.HasField("transport_socket"),
        )
        for each in found
    ]


HTTP_ALPN = ["istio-http/1.0", "istio-http/1.1", "istio-h2"]
ALL_ALPN = ["istio", *HTTP_ALPN]


@pytest.mark.parametrize(
    ("mode", "protocol", "expected"),
    [
        (
            PERMISSIVE,
            Protocol.AUTO,
            [
                (HTTP_ALPN, "tls", "http", True),
                (["http/1.1", "h2c"], "raw_buffer", "http", False),
                (["istio"], "tls", "tcp", True),
                ([], "raw_buffer", "tcp", False),
                ([], "tls", "tcp", False),
            ],
        ),
        (PERMISSIVE, Protocol.HTTP, [(ALL_ALPN, "tls", "http", True), ([], "raw_buffer", "http", False)]),
        (
            PERMISSIVE,
            Protocol.TCP,
            [(ALL_ALPN, "tls", "tcp", True), ([], "tls", "tcp", False), ([], "raw_buffer", "tcp", False)],
        ),
        (STRICT, Protocol.AUTO, [(HTTP_ALPN, "tls", "http", True), ([], "tls", "tcp", True)]),
        (STRICT, Protocol.GRPC, [([], "tls", "http", True)]),
        (STRICT, Protocol.MYSQL, [([], "tls", "tcp", True)]),
        (
            DISABLE,
            Protocol.AUTO,
            [(["http/1.1", "h2c"], "raw_buffer", "http", False), ([], "raw_buffer", "tcp", False)],
        ),
        (DISABLE, Protocol.HTTP2, [([], "raw_buffer", "http", False)]),
        (DISABLE, Protocol.TLS, [([], "raw_buffer", "tcp", False)]),
    ],
)
def test_mode_and_protocol_decide_the_chains_of_a_port(mode: MutualTls, protocol: Protocol, expected: object) -> None:
    message = listener(serving(port(8080, protocol, mode)))
    assert table(chains(message, 8080)) == expected
    assert {each.name for each in chains(message, 8080)} == {"0.0.0.0_8080"}


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("others", MODES)
def test_envoy_takes_every_mode_and_protocol(others: MutualTls, mode: MutualTls, protocol: Protocol) -> None:
    assert refusal(resources(serving(port(8080, protocol, mode), port(9090, Protocol.HTTP, others), mode=others))) == ""


def test_the_listener_is_istios_virtual_inbound() -> None:
    message = listener(serving())
    assert message.name == "virtualInbound"
    assert message.address.socket_address.port_value == 15006
    assert message.traffic_direction == 1
    assert [each.name for each in message.listener_filters] == [
        "envoy.filters.listener.original_dst",
        "envoy.filters.listener.tls_inspector",
        "envoy.filters.listener.http_inspector",
    ]
    assert [each.name for each in message.filter_chains] == [
        "virtualInbound-blackhole",
        "virtualInbound-catchall-http",
        "virtualInbound-catchall-http",
        "virtualInbound",
        "virtualInbound",
        "virtualInbound",
    ]
    assert message.filter_chains[0].filter_chain_match.destination_port.value == 15006


def test_a_port_with_a_mode_of_its_own_and_no_service_has_passthrough_chains_of_its_own() -> None:
    message = listener(serving(port(8080, Protocol.HTTP), peer_ports={8080: STRICT, 7000: STRICT}))
    assert table(chains(message, 7000)) == [(HTTP_ALPN, "tls", "http", True), ([], "tls", "tcp", True)]
    assert manager(chains(message, 7000)[0]).stat_prefix == "InboundPassthroughCluster;"
    assert len(chains(message, 8080)) == 2


def test_mutual_tls_asks_for_a_certificate_of_the_mesh() -> None:
    mesh = Mesh(trust_domain="td", trust_domain_aliases=("old",), mutual_tls=TlsLimits("TLSV1_3"))
    message = listener(serving(port(8080, Protocol.HTTP, STRICT)), mesh)
    context = to_dict(unpack(chains(message, 8080)[0].transport_socket.typed_config))
    common = context["common_tls_context"]
    assert context["require_client_certificate"] is True
    assert common["alpn_protocols"] == ["h2", "http/1.1"]
    assert common["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_3"
    assert common["tls_params"]["tls_maximum_protocol_version"] == "TLSv1_3"
    assert common["tls_certificate_sds_secret_configs"][0]["name"] == "default"
    validation = common["combined_validation_context"]
    assert validation["validation_context_sds_secret_config"]["name"] == "ROOTCA"
    assert validation["default_validation_context"]["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"prefix": "spiffe://td/"}},
        {"san_type": "URI", "matcher": {"prefix": "spiffe://old/"}},
    ]


def disabled(message: Listener, name: str) -> object:
    [found] = [each for each in message.listener_filters if each.name == f"envoy.filters.listener.{name}"]
    return to_dict(found.filter_disabled)


def test_inspectors_look_only_at_ports_that_need_them() -> None:
    message = listener(
        serving(port(8080, Protocol.HTTP), port(3306, Protocol.TCP, DISABLE), port(9000, Protocol.AUTO, DISABLE))
    )
    assert disabled(message, "tls_inspector") == {
        "or_match": {
            "rules": [
                {"destination_port_range": {"start": 3306, "end": 3307}},
                {"destination_port_range": {"start": 9000, "end": 9001}},
            ]
        }
    }
    assert disabled(message, "http_inspector") == {
        "or_match": {
            "rules": [
                {"destination_port_range": {"start": 3306, "end": 3307}},
                {"destination_port_range": {"start": 8080, "end": 8081}},
            ]
        }
    }


def test_where_other_ports_need_no_inspector_it_is_off_but_for_those_that_do() -> None:
    message = listener(serving(port(9000, Protocol.AUTO), mode=STRICT))
    assert disabled(message, "tls_inspector") == {}
    assert disabled(message, "http_inspector") == {
        "not_match": {"destination_port_range": {"start": 9000, "end": 9001}}
    }


def test_no_inspector_stands_where_no_chain_asks() -> None:
    assert [each.name for each in listener(serving(mode=STRICT)).listener_filters] == [
        "envoy.filters.listener.original_dst",
        "envoy.filters.listener.tls_inspector",
    ]


def test_a_server_that_speaks_first_is_heard_after_a_second_where_plaintext_is_taken_too() -> None:
    permissive = listener(serving(port(3306, Protocol.TCP)))
    assert permissive.continue_on_listener_filters_timeout
    assert permissive.listener_filters_timeout.ToTimedelta().total_seconds() == 1


def test_the_mesh_may_say_how_long_inspectors_wait() -> None:
    mesh = Mesh(protocol_detection_timeout=Timeout.of(inbound.SERVER_SPEAKS_FIRST / 10))
    assert listener(serving(), mesh).listener_filters_timeout.ToTimedelta().total_seconds() == 0.1


def test_where_nobody_waits_for_the_server_envoys_own_limit_holds() -> None:
    assert not listener(serving(port(3306, Protocol.TCP, STRICT), mode=STRICT)).HasField("listener_filters_timeout")


def test_what_a_peer_says_of_itself_is_believed_on_mutual_tls_only() -> None:
    secured, plain = map(manager, chains(listener(serving(port(8080, Protocol.HTTP))), 8080))
    assert secured.http_filters[0].name == "envoy.filters.http.header_to_metadata"
    assert plain.http_filters[0].name == "envoy.filters.http.header_mutation"
    assert to_dict(unpack(plain.http_filters[0].typed_config)) == {
        "mutations": {"request_mutations": [{"remove": "x-envoy-peer-metadata"}]}
    }


def test_nobody_is_connected_to_before_the_client_has_proven_who_it_is() -> None:
    secured, foreign, plain = chains(listener(serving(port(3306, Protocol.TCP))), 3306)
    modes = [to_dict(unpack(each.filters[-1].typed_config)).get("upstream_connect_mode") for each in (secured, plain)]
    assert modes == ["ON_DOWNSTREAM_TLS_HANDSHAKE", None]
    assert "upstream_connect_mode" not in to_dict(unpack(foreign.filters[-1].typed_config))


def test_requests_go_to_the_cluster_of_the_port_under_istios_names() -> None:
    row = serving(port(8080, Protocol.HTTP))
    secured, plain = map(manager, chains(listener(row), 8080))
    assert secured.rds.route_config_name == plain.rds.route_config_name == "inbound|8080||"
    assert to_dict(routes(row)["inbound|8080||"]) == {
        "name": "inbound|8080||",
        "validate_clusters": False,
        "virtual_hosts": [
            {
                "name": "inbound|http|80",
                "domains": ["*"],
                "routes": [
                    {
                        "name": "default",
                        "match": {"prefix": "/"},
                        "decorator": {"operation": "pay.shop.svc.cluster.local:80/*"},
                        "route": {
                            "cluster": "inbound|8080||",
                            "timeout": "0s",
                            "retry_policy": {"retry_on": "reset-before-request", "num_retries": 2},
                        },
                    }
                ],
            }
        ],
    }
    assert secured.stat_prefix == "inbound_0.0.0.0_8080;"
    assert secured.forward_client_cert_details == HttpConnectionManager.APPEND_FORWARD


def test_grpc_is_not_retried() -> None:
    found = routes(serving(port(8080, Protocol.GRPC)))["inbound|8080||"]
    assert not found.virtual_hosts[0].routes[0].route.HasField("retry_policy")


def test_extra_routes_come_before_the_last() -> None:
    extra = Route(
        name="teapot", match=HttpMatch(path=TextMatch(MatchKind.EXACT, "/tea")), action=Respond(418, b"short and stout")
    )
    found = routes(serving(port(8080, Protocol.HTTP), routes=(extra,)))
    first, last = found["inbound|8080||"].virtual_hosts[0].routes
    assert first.direct_response.status == 418
    assert last.route.cluster == "inbound|8080||"


def test_authorization_stands_before_everything_that_acts_on_requests_and_connections() -> None:
    policy = Policy(ref=Ref("AuthorizationPolicy", "shop", "none"), verdict=Verdict.ALLOW, rules=(Rule("nobody"),))
    row = serving(port(8080, Protocol.HTTP), port(3306, Protocol.TCP), authorization=Authorization((policy,)))
    message = listener(row)
    for chain in chains(message, 8080):
        names = [each.name for each in manager(chain).http_filters]
        assert names.index("envoy.filters.http.rbac.allow") < names.index("envoy.filters.http.fault")
    for configuration in routes(row).values():
        assert list(configuration.typed_per_filter_config) == ["envoy.filters.http.rbac.allow"]
    for chain in [*chains(message, 3306), *(each for each in chains(message, 0) if kind(each) == "tcp")]:
        assert [each.name for each in chain.filters] == [
            "envoy.filters.network.rbac",
            "envoy.filters.network.tcp_proxy",
        ]
    assert refusal(resources(row)) == ""


def test_a_change_of_policy_about_requests_changes_the_routes_alone() -> None:
    def versions(*rules: Rule) -> dict[str, set[str]]:
        policy = Policy(ref=Ref("AuthorizationPolicy", "shop", "some"), verdict=Verdict.ALLOW, rules=rules)
        found = resources(serving(port(8080, Protocol.HTTP), authorization=Authorization((policy,))))
        return {url: {each.version for each in found if each.type_url == url} for url in (LISTENER, ROUTES)}

    get = Rule("get", (), ((Condition(Attribute.METHOD, (ValueMatch("GET"),)),),))
    put = Rule("put", (), ((Condition(Attribute.METHOD, (ValueMatch("PUT"),)),),))
    assert versions(get)[LISTENER] == versions(put)[LISTENER]
    assert versions(get)[ROUTES] != versions(put)[ROUTES]


def test_rejections_are_told_to_the_authors_of_the_policies() -> None:
    row = Inbound(
        "pay",
        (),
        PeerPolicy(refs=(Ref("PeerAuthentication", "shop", "default"),)),
        Authorization((Policy(ref=Ref("AuthorizationPolicy", "shop", "none"), verdict=Verdict.ALLOW),)),
    )
    found = {each.type_url: [str(source.ref) for source in each.sources] for each in resources(row)}
    assert found[ROUTES] == ["AuthorizationPolicy shop/none"]
    assert found[LISTENER] == ["PeerAuthentication shop/default", "AuthorizationPolicy shop/none"]


def test_policies_that_are_not_supported_yet_are_problems() -> None:
    policy = Policy(ref=Ref("AuthorizationPolicy", "shop", "ask"), verdict=Verdict.CUSTOM)
    problems = [item for item in made(serving(authorization=Authorization((policy,)))) if isinstance(item, Problem)]
    assert [each.code for each in problems] == ["Unsupported"]


def test_connections_go_on_to_the_address_that_they_were_for() -> None:
    found = to_dict(clusters(serving(port(8080, Protocol.TCP)))["inbound|8080||"])
    assert found["type"] == "ORIGINAL_DST"
    assert found["lb_policy"] == "CLUSTER_PROVIDED"
    assert found["alt_stat_name"] == "inbound|8080||;"
    assert found["upstream_bind_config"]["source_address"] == {"address": "127.0.0.6", "port_value": 0}
    [mark] = found["upstream_bind_config"]["socket_options"]
    assert (mark["level"], mark["name"], mark["int_value"]) == ("1", "36", "1337")
    assert found["metadata"]["filter_metadata"]["mesh"] == {
        "service_host": "pay.shop.svc.cluster.local",
        "service_name": "pay",
        "service_namespace": "shop",
    }
    assert "typed_extension_protocol_options" not in found


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (Protocol.HTTP, {"explicit_http_config": {"http_protocol_options": {}}}),
        (Protocol.GRPC, {"explicit_http_config": {"http2_protocol_options": {"allow_connect": True}}}),
        (
            Protocol.AUTO,
            {
                "use_downstream_protocol_config": {
                    "http_protocol_options": {},
                    "http2_protocol_options": {"allow_connect": True},
                }
            },
        ),
    ],
)
def test_the_application_gets_the_protocol_of_its_port(protocol: Protocol, expected: dict[str, object]) -> None:
    message = clusters(serving(port(8080, protocol)))["inbound|8080||"]
    [options] = message.typed_extension_protocol_options.values()
    assert to_dict(unpack(options)) == expected


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("127.0.0.1:9000", {"socket_address": {"address": "127.0.0.1", "port_value": 9000}}),
        ("[::1]:9000", {"socket_address": {"address": "::1", "port_value": 9000}}),
        ("unix:///run/app.sock", {"pipe": {"path": "/run/app.sock"}}),
    ],
)
def test_a_sidecar_resource_may_send_a_port_elsewhere(endpoint: str, expected: object) -> None:
    row = serving(port(8080, Protocol.HTTP, endpoint=endpoint))
    message = clusters(row)["inbound|8080||"]
    assert message.type == Cluster.STATIC
    assert not message.HasField("upstream_bind_config")
    assert to_dict(message.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address) == expected
    assert refusal(resources(row)) == ""


def test_another_port_of_the_pods_address_is_reached_like_any_other() -> None:
    row = serving(port(8080, Protocol.HTTP, endpoint="0.0.0.0:9000"))
    message = clusters(row)["inbound|8080||"]
    assert message.type == Cluster.ORIGINAL_DST
    assert message.original_dst_lb_config.upstream_port_override.value == 9000
    assert message.upstream_bind_config.source_address.address == "127.0.0.6"
    assert refusal(resources(row)) == ""


def test_the_listeners_own_port_and_a_port_named_twice_make_no_second_chain() -> None:
    row = serving(port(15006, Protocol.HTTP), port(8080, Protocol.HTTP), port(8080, Protocol.TCP))
    assert len(chains(listener(row), 8080)) == 2
    assert len(chains(listener(row), 15006)) == 1
    assert refusal(resources(row)) == ""


def test_a_gateway_has_no_server_side_of_this_kind() -> None:
    gateway = ProxyView(
        key="pay",
        kind=ProxyKind.GATEWAY,
        namespace="shop",
        labels=LabelSet(),
        identity=SIDECAR.identity,
        names=WorkloadName(),
        audience="edge",
    )
    assert made(serving(), view=gateway) == []
