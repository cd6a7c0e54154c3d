from __future__ import annotations

from meltemi.envoy import names
from meltemi.testing.models import service


def test_clusters_and_server_names_are_called_as_istio_calls_them() -> None:
    assert names.outbound_cluster(80, "reviews.default.svc.cluster.local", "v1") == (
        "outbound|80|v1|reviews.default.svc.cluster.local"
    )
    assert names.inbound_cluster(8080) == "inbound|8080||"
    assert names.server_name(80, "a.b.svc.cluster.local") == "outbound_.80_._.a.b.svc.cluster.local"


def test_a_cluster_ends_in_a_semicolon_in_statistics() -> None:
    assert names.stat_name("outbound|80||a.example.org") == "outbound|80||a.example.org;"


def test_a_cluster_local_service_has_short_names() -> None:
    reviews = service("reviews", "shop", http=80)
    assert names.short_names(reviews, "cluster.local") == ("reviews.shop", "reviews.shop.svc")
    assert names.bare_name(reviews, "cluster.local") == "reviews"


def test_a_host_from_elsewhere_has_no_short_names() -> None:
    entry = service("github", http=80, host="api.github.com")
    assert names.short_names(entry, "cluster.local") == ()
    assert names.bare_name(entry, "cluster.local") == ""


def test_an_ipv6_address_stands_in_brackets_in_a_host_header() -> None:
    assert names.authority("2001:2::1") == "[2001:2::1]"
    assert names.authority("10.0.0.1") == "10.0.0.1"
