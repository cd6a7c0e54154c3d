"""Envoy's configuration as rows: each type of resource in the words of people."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.cli.configuration import clusters, endpoints, listeners, routes, secrets
from meltemi.cli.meshapi import ResourceRow, SourceRow

V1, V3 = "outbound|9080|v1|reviews.bookshop.svc.cluster.local", "outbound|9080|v3|reviews.bookshop.svc.cluster.local"
HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TCP = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


def resource(kind: str, name: str, **content: Any) -> ResourceRow:
    return ResourceRow(kind, name, content=content)


def http_chain(routes_name: str, **match: Any) -> dict[str, Any]:
    config = {"@type": HTTP, "rds": {"route_config_name": routes_name}}
    return {"filter_chain_match": match, "filters": [{"name": "http", "typed_config": config}]}


def tcp_chain(cluster: str, **match: Any) -> dict[str, Any]:
    return {"filter_chain_match": match, "filters": [{"typed_config": {"@type": TCP, "cluster": cluster}}]}


def listener(name: str, host: str, port: int, *chains: dict[str, Any], **more: Any) -> ResourceRow:
    address = {"socket_address": {"address": host, "port_value": port}}
    return resource("Listener", name, address=address, filter_chains=list(chains), **more)


def test_a_listener_tells_what_it_takes_and_where_that_goes() -> None:
    shown = listener(
        "0.0.0.0_9080",
        "0.0.0.0",
        9080,
        http_chain("9080", transport_protocol="raw_buffer"),
        default_filter_chain=tcp_chain("PassthroughCluster"),
    )
    assert [row.cells for row in listeners.rows([shown], wide=False)] == [
        ("0.0.0.0_9080", "0.0.0.0", "9080", "", "HTTP, TCP", "routes 9080, PassthroughCluster")
    ]


def test_a_wide_listener_has_a_row_for_each_chain_with_what_it_matches() -> None:
    shown = listener(
        "virtualInbound",
        "0.0.0.0",
        15006,
        http_chain("x", transport_protocol="tls", application_protocols=["istio"], destination_port=8080),
        tcp_chain("inbound|8080||", server_names=["shop.example"], prefix_ranges=[{"address_prefix": "10.0.0.1"}]),
        default_filter_chain=tcp_chain("BlackHoleCluster"),
    )
    assert [row.cells[3:] for row in listeners.rows([shown], wide=True)] == [
        ("TLS; ALPN istio; port 8080", "HTTP", "routes x"),
        ("SNI shop.example; to 10.0.0.1/0", "TCP", "this workload:8080"),
        ("anything else", "TCP", "BlackHoleCluster"),
    ]


def test_the_listener_that_hands_connections_on_says_so() -> None:
    shown = listener("virtualOutbound", "0.0.0.0", 15001, tcp_chain("PassthroughCluster"), use_original_dst=True)
    [row] = listeners.rows([shown], wide=False)
    assert row.cells[-1] == "the listener of the destination, else PassthroughCluster"


def test_weights_are_shares_of_a_hundred() -> None:
    weighted = {"weighted_clusters": {"clusters": [{"name": V1, "weight": 9}, {"name": V3, "weight": 1}]}}
    assert routes.target({"route": weighted}) == "90% reviews.bookshop:9080 v1, 10% reviews.bookshop:9080 v3"


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ({"route": {"cluster": V1}}, "reviews.bookshop:9080 v1"),
        ({"route": {"cluster_header": "x-to"}}, "the cluster in x-to"),
        ({"direct_response": {"status": 503}}, "answer 503"),
        ({"redirect": {"https_redirect": True}}, "redirect 301 https://<host>"),
        ({"redirect": {"response_code": "FOUND", "path_redirect": "/shop"}}, "redirect 302 /shop"),
        ({"redirect": {"host_redirect": "a.example", "port_redirect": 8443}}, "redirect 301 ://a.example:8443"),
        ({}, "nothing"),
    ],
)
def test_every_kind_of_target_has_its_words(route: dict[str, Any], told: str) -> None:
    assert routes.target(route) == told


@pytest.mark.parametrize(
    ("match", "told"),
    [
        ({"prefix": "/"}, "/*"),
        ({"path": "/login"}, "= /login"),
        ({"path_separated_prefix": "/api"}, "/api and below"),
        ({"safe_regex": {"regex": "/v[0-9]"}}, "~ /v[0-9]"),
        ({"prefix": "/", "grpc": {}}, "/*, gRPC"),
        ({"prefix": "/", "headers": [{"name": "user", "string_match": {"exact": "ann"}}]}, "/*, user: ann"),
        ({"prefix": "/", "headers": [{"name": "user", "present_match": True}]}, "/*, user"),
        (
            {"prefix": "/", "headers": [{"name": "user", "invert_match": True, "string_match": {"prefix": "a"}}]},
            "/*, not user: ^a",
        ),
        (
            {"prefix": "/", "query_parameters": [{"name": "q", "string_match": {"safe_regex": {"regex": "x"}}}]},
            "/*, ?q: ~ x",
        ),
    ],
)
def test_every_kind_of_match_has_its_words(match: dict[str, Any], told: str) -> None:
    assert routes.match(match) == told


def test_what_happens_on_the_way_is_told_when_wide() -> None:
    action = {
        "timeout": "2s",
        "retry_policy": {"num_retries": 3, "retry_on": "5xx"},
        "prefix_rewrite": "/v2",
        "request_mirror_policies": [{"cluster": V3}],
    }
    told = routes.details({"route": action, "typed_per_filter_config": {"envoy.filters.http.fault": {}}})
    assert told == "timeout 2s; 3 retries on 5xx; path becomes /v2; mirrored to reviews.bookshop:9080 v3; fault"


def test_virtual_hosts_stand_under_their_route_configuration_in_the_order_of_ports() -> None:
    host = {
        "domains": ["a.shop.svc.cluster.local", "a"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": V1}}],
    }
    shown = [
        resource("RouteConfiguration", "9080", virtual_hosts=[{"name": "allow_any", "domains": ["*"]}]),
        resource("RouteConfiguration", "80", vhds={}),
        resource("VirtualHost", "80/a.shop.svc.cluster.local:80", **host),
    ]
    assert [row.cells[:4] for row in routes.rows(shown, wide=False)] == [
        ("80", "", "", ""),
        ("80", "a.shop (+1)", "/*", "reviews.bookshop:9080 v1"),
        ("9080", "*", "", "nothing"),
    ]


def rule(index: int) -> SourceRow:
    return SourceRow("VirtualService", "bookshop", "reviews", f"spec.http[{index}]")


def test_a_route_names_the_rule_it_was_made_of() -> None:
    content = {"domains": ["a"], "routes": [{"match": {"path": "/x"}}, {"match": {"prefix": "/"}}]}
    whole = SourceRow("VirtualService", "bookshop", "reviews")
    shown = ResourceRow("VirtualHost", "80/a:80", sources=(whole, rule(0), rule(1)), content=content)
    assert [row.sources for row in routes.rows([shown], wide=False)] == [(rule(0),), (rule(1),)]


def test_where_one_rule_became_several_routes_the_first_names_all_sources() -> None:
    content = {"domains": ["a"], "routes": [{"match": {"path": "/x"}}, {"match": {"prefix": "/"}}]}
    shown = ResourceRow("VirtualHost", "80/a:80", sources=(rule(0),), content=content)
    assert [row.sources for row in routes.rows([shown], wide=False)] == [(rule(0),), ()]


def test_a_cluster_is_told_by_service_port_and_subset() -> None:
    tls = {"typed_config": {"@type": "type.googleapis.com/x.UpstreamTlsContext"}}
    shown = [
        resource("Cluster", V1, type="EDS", transport_socket_matches=[{}]),
        resource("Cluster", "inbound|8080||", type="ORIGINAL_DST", lb_policy="CLUSTER_PROVIDED"),
        resource(
            "Cluster", "outbound|443||api.example", cluster_type={"name": "envoy.clusters.dns"}, transport_socket=tls
        ),
        resource("Cluster", "BlackHoleCluster"),
    ]
    assert [row.cells[:5] for row in clusters.rows(shown, wide=False)] == [
        ("reviews.bookshop", "9080", "v1", "outbound", "EDS"),
        ("this workload", "8080", "", "inbound", "ORIGINAL_DST"),
        ("api.example", "443", "", "outbound", "DNS"),
        ("BlackHoleCluster", "", "", "", "STATIC"),
    ]
    assert [row.cells[6] for row in clusters.rows(shown, wide=True)] == ["mTLS where meshed", "", "TLS", ""]


def test_an_endpoint_tells_whose_it_is_and_whether_it_speaks_mtls() -> None:
    def endpoint(host: str, **metadata: Any) -> dict[str, Any]:
        address = {"socket_address": {"address": host, "port_value": 9080}}
        return {"endpoint": {"address": address}, "metadata": {"filter_metadata": metadata}}

    meshed = endpoint(
        "10.244.0.7",
        **{
            "mesh": {"workload": "reviews-v1", "namespace": "bookshop"},
            "envoy.transport_socket_match": {"tlsMode": "istio"},
        },
    )
    plain = {**endpoint("fd00::1", mesh={"workload": "unknown"}), "health_status": "DRAINING"}
    shown = resource("ClusterLoadAssignment", V1, endpoints=[{"lb_endpoints": [meshed, plain]}])
    empty = resource("ClusterLoadAssignment", V3)
    assert [row.cells[:5] for row in endpoints.rows([shown, empty], wide=False)] == [
        ("10.244.0.7:9080", "reviews.bookshop:9080 v1", "bookshop/reviews-v1", "HEALTHY", "yes"),
        ("[fd00::1]:9080", "reviews.bookshop:9080 v1", "", "DRAINING", "no"),
        ("none", "reviews.bookshop:9080 v3", "", "", ""),
    ]


def test_a_secret_is_told_without_its_content() -> None:
    shown = ResourceRow("Secret", "kubernetes://cert", version="ab", size=1200, content={"tls_certificate": "secret"})
    assert [row.cells for row in secrets.rows([shown], wide=True)] == [("kubernetes://cert", "ab", "1200")]
