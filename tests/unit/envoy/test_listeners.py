from __future__ import annotations

from typing import Any

from meltemi.base.refs import Ref
from meltemi.envoy import chains, http
from meltemi.model.clients import ANYONE, REFUSED, Audience, ProxyKind, Visibility
from meltemi.model.mesh import Mesh
from meltemi.model.routes import HostTcpRoutes, Source, Target, TcpMatch, TcpRoute, TcpRouteVariant, WeightedTarget
from meltemi.model.services import Resolution, ServiceEndpoints
from meltemi.protos import unpack
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain
from meltemi.testing.models import GATEWAY, SIDECAR, Scene, endpoint, service

DB = service("db", tcp=5432)
ELSEWHERE = Audience("shop", ProxyKind.SIDECAR, "shop")


def proxy(chain: FilterChain) -> Any:
    return unpack(chain.filters[-1].typed_config)


def entry(name: str, host: str, **settings: Any) -> Any:
    return service(name, host=host, external=True, resolution=Resolution.DNS, **settings)


def test_http_services_share_a_listener_by_port() -> None:
    found = Scene(services=[service("a", http=80), service("b", http=80)]).listeners()
    listener = found["0.0.0.0_80"]
    (chain,) = listener.filter_chains
    assert proxy(chain).rds.route_config_name == "80"
    assert not listener.bind_to_port.value
    assert [each.name for each in listener.listener_filters] == [chains.HTTP_INSPECTOR]


def test_what_is_not_http_on_a_shared_port_passes() -> None:
    default = Scene(services=[service("a", http=80)]).listeners()["0.0.0.0_80"].default_filter_chain
    assert default.name == "PassthroughFilterChain"
    assert proxy(default).cluster == "PassthroughCluster"
    strict = Scene(services=[service("a", http=80)], mesh=Mesh(outbound=REFUSED))
    assert proxy(strict.listeners()["0.0.0.0_80"].default_filter_chain).cluster == "BlackHoleCluster"


def test_a_tcp_service_has_a_listener_at_its_address_that_waits_for_nothing() -> None:
    found = Scene(services=[DB]).listeners()
    listener = found["10.96.0.10_5432"]
    assert not listener.listener_filters
    assert not listener.filter_chains
    assert proxy(listener.default_filter_chain).cluster == "outbound|5432||db.default.svc.cluster.local"
    assert "0.0.0.0_5432" not in found


def test_http_and_tcp_with_an_address_share_a_port_and_do_not_meet() -> None:
    found = Scene(services=[service("web", http=5432, addresses=("10.96.0.9",)), DB]).listeners()
    assert {"0.0.0.0_5432", "10.96.0.10_5432"} <= found.keys()


def test_a_sniffed_port_has_a_chain_for_each_version_of_http_and_one_for_the_rest() -> None:
    listener = Scene(services=[service("auto", auto=9000)]).listeners()["10.96.0.10_9000"]
    first, second = listener.filter_chains
    assert list(first.filter_chain_match.application_protocols) == ["http/1.1"]
    assert list(second.filter_chain_match.application_protocols) == ["h2c"]
    announced: Any = unpack(first.filters[0].typed_config)
    (value,) = announced.on_new_connection
    assert value.object_key == "envoy.network.application_protocols"
    assert value.format_string.text_format_source.inline_string == "istio-http/1.1,istio,http/1.1"
    assert proxy(first).rds.route_config_name == "auto.default.svc.cluster.local:9000"
    assert proxy(listener.default_filter_chain).cluster == "outbound|9000||auto.default.svc.cluster.local"


def test_tls_without_an_address_is_told_apart_by_server_name() -> None:
    listener = Scene(services=[entry("a", "a.example", tls=443), entry("b", "b.example", https=443)]).listeners()[
        "0.0.0.0_443"
    ]
    assert [list(chain.filter_chain_match.server_names) for chain in listener.filter_chains] == [
        ["a.example"],
        ["b.example"],
    ]
    assert [each.name for each in listener.listener_filters] == [chains.TLS_INSPECTOR]


def test_of_two_that_cannot_be_told_apart_the_older_gets_the_port_in_whatever_order_they_come() -> None:
    older = entry("older", "older.example", tcp=9000, created="2025-01-01T00:00:00Z")
    younger = entry("younger", "younger.example", tcp=9000)
    for services in ([older, younger], [younger, older]):
        scene = Scene(services=services)
        default = scene.listeners()["0.0.0.0_9000"].default_filter_chain
        assert proxy(default).cluster == "outbound|9000||older.example"
        (problem,) = scene.problems()
        assert problem.ref == younger.ref
        assert "older.example" in problem.message


def test_http_and_tcp_without_an_address_meet_on_one_listener() -> None:
    scene = Scene(services=[service("web", http=9000), entry("raw", "raw.example", tcp=9000)])
    listener = scene.listeners()["0.0.0.0_9000"]
    assert proxy(listener.filter_chains[0]).rds.route_config_name == "9000"
    assert proxy(listener.default_filter_chain).cluster == "outbound|9000||raw.example"


def test_a_block_of_addresses_is_matched_by_prefix() -> None:
    block = entry("block", "block.example", tcp=9000, addresses=("10.1.0.0/16",))
    (chain,) = Scene(services=[block]).listeners()["0.0.0.0_9000"].filter_chains
    (prefix,) = chain.filter_chain_match.prefix_ranges
    assert (prefix.address_prefix, prefix.prefix_len.value) == ("10.1.0.0", 16)


def test_each_pod_of_a_headless_tcp_service_has_a_listener_that_leads_to_it_alone() -> None:
    zk = service("zk", tcp=2181, headless=True)
    pods = (endpoint("10.244.0.5", 2181), endpoint("10.244.0.6", 2181, meshed=False))
    found = Scene(services=[zk], endpoints=[ServiceEndpoints("default", zk.host, ((2181, pods),))]).listeners()
    to_pod = proxy(found["10.244.0.5_2181"].default_filter_chain)
    assert to_pod.cluster == "outbound|2181||zk.default.svc.cluster.local"
    assert to_pod.metadata_match.filter_metadata["envoy.lb"].fields["address"].string_value == "10.244.0.5"
    assert "10.244.0.6_2181" in found


def test_connections_are_split_by_weight() -> None:
    targets = (
        WeightedTarget(Target("default", DB.host, 5432), 80),
        WeightedTarget(Target("default", DB.host, 5432, "v2"), 20),
    )
    routes = HostTcpRoutes(*DB.key, (TcpRouteVariant(ANYONE, ((5432, (TcpRoute(targets=targets),)),)),))
    listener = Scene(services=[DB], tcp_routes=[routes]).listeners()["10.96.0.10_5432"]
    shares = proxy(listener.default_filter_chain).weighted_clusters.clusters
    assert [(share.name, share.weight) for share in shares] == [
        ("outbound|5432||db.default.svc.cluster.local", 80),
        ("outbound|5432|v2|db.default.svc.cluster.local", 20),
    ]


def test_tls_routes_match_the_server_name() -> None:
    secure = service("secure", tls=443)
    target = (WeightedTarget(Target("default", secure.host, 443)),)
    route = TcpRoute(match=TcpMatch(sni_hosts=("a.example", "*.b.example")), targets=target)
    routes = HostTcpRoutes(*secure.key, (TcpRouteVariant(ANYONE, ((443, (route,)),)),))
    listener = Scene(services=[secure], tcp_routes=[routes]).listeners()["10.96.0.10_443"]
    (chain,) = listener.filter_chains
    assert list(chain.filter_chain_match.server_names) == ["a.example", "*.b.example"]
    assert listener.default_filter_chain.name == "PassthroughFilterChain"


def test_a_service_not_exported_to_a_client_takes_nothing_of_a_shared_port_from_it() -> None:
    mine = entry("mine", "mine.example", tls=443, visibility=Visibility(frozenset({"default"})))
    scene = Scene(services=[mine, entry("all", "all.example", tls=443)])
    assert len(scene.listeners(SIDECAR)["0.0.0.0_443"].filter_chains) == 2
    assert len(scene.listeners(ELSEWHERE)["0.0.0.0_443"].filter_chains) == 1


def test_captured_connections_arrive_at_virtual_outbound() -> None:
    listener = Scene().listeners()["virtualOutbound"]
    assert listener.use_original_dst.value
    assert listener.address.socket_address.port_value == 15001
    hole, rest = listener.filter_chains
    assert hole.filter_chain_match.destination_port.value == 15001
    assert proxy(hole).cluster == "BlackHoleCluster"
    assert proxy(rest).cluster == "PassthroughCluster"


def test_gateways_have_no_outbound_listeners() -> None:
    assert not Scene(services=[service("a", http=80), DB]).listeners(GATEWAY)


def test_filters_stand_in_the_order_that_holds_for_all() -> None:
    (chain,) = Scene(services=[service("a", grpc_web=80)]).listeners()["0.0.0.0_80"].filter_chains
    names = [each.name for each in proxy(chain).http_filters]
    assert names == [
        "envoy.filters.http.grpc_web",
        "envoy.filters.http.fault",
        "envoy.filters.http.cors",
        "envoy.filters.http.stateful_session",
        "envoy.filters.http.router",
    ]
    assert names == [name for name in http.ORDER if name in names]


def test_faults_cors_and_sessions_rest_until_a_route_asks_for_them() -> None:
    (chain,) = Scene(services=[service("a", http=80)]).listeners()["0.0.0.0_80"].filter_chains
    resting = {each.name for each in proxy(chain).http_filters if each.disabled}
    assert resting == {f"envoy.filters.http.{name}" for name in ("fault", "cors", "stateful_session")}


def test_there_is_no_access_log_in_a_file_unless_asked_for() -> None:
    web = service("a", http=80)
    (chain,) = Scene(services=[web]).listeners()["0.0.0.0_80"].filter_chains
    assert {each.name for each in proxy(chain).access_log} == {"envoy.access_loggers.stats"}
    (chain,) = Scene(services=[web], mesh=Mesh(access_log_file="/dev/stdout")).listeners()["0.0.0.0_80"].filter_chains
    assert proxy(chain).access_log[-1].name == "envoy.access_loggers.file"


def test_paths_are_normalized_as_the_mesh_says() -> None:
    web = service("a", http=80)

    def manager(how: str) -> Any:
        mesh = Mesh(path_normalization=how)
        return proxy(Scene(services=[web], mesh=mesh).listeners()["0.0.0.0_80"].filter_chains[0])

    assert manager("BASE").normalize_path.value
    assert not manager("NONE").normalize_path.value
    assert manager("MERGE_SLASHES").merge_slashes


def tls_routes(host: str, *names: tuple[str, ...]) -> HostTcpRoutes:
    source = Source(Ref("VirtualService", "default", "v"), "spec.tls[0]")
    target = (WeightedTarget(Target("default", host, 443)),)
    routes = tuple(TcpRoute(match=TcpMatch(sni_hosts=each), targets=target, source=source) for each in names)
    return HostTcpRoutes("default", host, (TcpRouteVariant(ANYONE, ((443, routes),)),))


def test_a_server_name_that_is_taken_is_left_out_and_the_others_stay() -> None:
    secure = service("secure", tls=443)
    routes = tls_routes(secure.host, ("a.example",), ("a.example", "b.example"))
    listener = Scene(services=[secure], tcp_routes=[routes]).listeners()["10.96.0.10_443"]
    assert [list(chain.filter_chain_match.server_names) for chain in listener.filter_chains] == [
        ["a.example"],
        ["b.example"],
    ]


def test_a_server_name_that_envoy_cannot_match_is_reported_and_left_out() -> None:
    secure = service("secure", tls=443)
    scene = Scene(services=[secure], tcp_routes=[tls_routes(secure.host, ("*-a.example", "*.b.example"))])
    (chain,) = scene.listeners()["10.96.0.10_443"].filter_chains
    assert list(chain.filter_chain_match.server_names) == ["*.b.example"]
    (problem,) = scene.problems()
    assert problem.path == "spec.tls[0]"
    assert "*-a.example" in problem.message
