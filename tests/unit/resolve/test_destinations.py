"""DestinationRules: which holds for whom, and what it says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from meltemi.base.durations import Timeout
from meltemi.base.labels import LabelSet
from meltemi.model.clients import ANYONE, Clients
from meltemi.model.traffic import (
    Balancer,
    HashRing,
    HashSource,
    Http2Upgrade,
    Pings,
    RetryBudget,
    TlsMode,
    Tunnel,
    Utilization,
)


def rule(
    name: str, body: str, namespace: str = "shop", host: str = "reviews.shop.svc.cluster.local", created: str = "1"
) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec:
  host: "{host}"
{body}
---
"""


MAX = "  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {0}}}}}}}"


def limits(destination: Any, port: int = 9080) -> list[tuple[Clients, int | None]]:
    return [(each.clients, each.policy(port).pool.max_connections) for each in destination.variants]


def test_without_a_rule_mtls_is_automatic_and_the_rest_is_default(shop: Any) -> None:
    (variant,) = shop.row("destinations", "reviews").variants
    policy = variant.policy(9080)
    assert (variant.clients, variant.refs) == (ANYONE, ())
    assert policy.tls.mode is TlsMode.AUTO
    assert policy.balancing.simple is Balancer.LEAST_REQUEST
    assert policy.pool.connect_timeout == timedelta(seconds=10)
    assert policy.outlier is None


def test_mtls_is_not_automatic_where_the_mesh_says_so(shop: Any) -> None:
    shop.apply("{enableAutoMtls: false, connectTimeout: 3s, h2UpgradePolicy: UPGRADE}")
    policy = shop.row("destinations", "reviews").variants[0].policy(9080)
    assert policy.tls.mode is TlsMode.DISABLE
    assert policy.pool.connect_timeout == timedelta(seconds=3)
    assert policy.pool.http2_upgrade is Http2Upgrade.UPGRADE


def test_outsiders_get_no_mtls(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {name: api}
    spec: {hosts: [api.example.org], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
    """)
    assert resolved.row("destinations", "api.example.org").variants[0].policy(80).tls.mode is TlsMode.DISABLE


def test_the_rule_of_the_service_holds_for_everybody(shop: Any) -> None:
    shop.apply(rule("r", MAX.format(5), host="reviews"))
    assert limits(shop.row("destinations", "reviews")) == [(ANYONE, 5)]
    assert [ref.name for ref in shop.row("destinations", "reviews").variants[0].refs] == ["r"]


def test_clients_look_in_their_own_namespace_then_the_services_then_the_root(shop: Any) -> None:
    shop.apply(
        rule("mine", MAX.format(1), "bank")
        + rule("theirs", MAX.format(2))
        + rule("roots", MAX.format(3), "istio-system")
    )
    assert limits(shop.row("destinations", "reviews")) == [
        (Clients(namespaces=frozenset({"bank"})), 1),
        (Clients(namespaces=frozenset({"istio-system"})), 3),
        (ANYONE, 2),
    ]


def test_a_rule_that_is_not_exported_holds_in_its_namespace_only(shop: Any) -> None:
    shop.apply(rule("r", MAX.format(5) + '\n  exportTo: ["."]'))
    assert limits(shop.row("destinations", "reviews")) == [(Clients(namespaces=frozenset({"shop"})), 5), (ANYONE, None)]


def test_the_most_specific_host_wins(shop: Any) -> None:
    shop.apply(
        rule("wide", MAX.format(1), host="*.cluster.local")
        + rule("narrow", MAX.format(2), host="*.shop.svc.cluster.local", created="2")
    )
    assert limits(shop.row("destinations", "reviews")) == [(ANYONE, 2)]
    assert shop.problems() == {}


def test_rules_of_one_host_add_up_and_the_older_policy_stays(shop: Any) -> None:
    shop.apply(
        rule("older", MAX.format(1) + "\n  subsets: [{name: v1, labels: {version: v1}}]")
        + rule("younger", MAX.format(2) + "\n  subsets: [{name: v2, labels: {version: v2}}]", created="2")
    )
    (variant,) = shop.row("destinations", "reviews").variants
    assert [subset.name for subset in variant.subsets] == ["v1", "v2"]
    assert variant.policy(9080).pool.max_connections == 1
    assert variant.policy(9080, "v2").pool.max_connections == 1
    problem = shop.problems()["DestinationRuleConflict"]
    assert (problem.ref.name, problem.path) == ("younger", "spec.trafficPolicy")


def test_a_rule_for_some_workloads_goes_before_those_for_all(shop: Any) -> None:
    shop.apply(
        rule("some", MAX.format(1) + "\n  workloadSelector: {matchLabels: {app: web}}", "bank")
        + rule("all", MAX.format(2))
    )
    assert limits(shop.row("destinations", "reviews")) == [
        (Clients(namespaces=frozenset({"bank"}), labels=LabelSet.of({"app": "web"})), 1),
        (Clients(namespaces=frozenset({"bank"})), 2),
        (ANYONE, 2),
    ]


def test_settings_of_a_port_replace_those_of_the_service_whole(shop: Any) -> None:
    shop.apply(
        rule(
            "r",
            """
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 5}}
    outlierDetection: {consecutive5xxErrors: 3}
    portLevelSettings:
      - {port: {number: 9090}, loadBalancer: {simple: RANDOM}}
""",
            host="ratings",
        )
    )
    (variant,) = shop.row("destinations", "ratings").variants
    whole, port = variant.policy(9080), variant.policy(9090)
    assert (whole.pool.max_connections, whole.outlier.consecutive_5xx_errors) == (5, 3)
    assert (port.pool.max_connections, port.outlier, port.balancing.simple) == (None, None, Balancer.RANDOM)


def test_a_retry_budget_holds_at_ports_without_settings_and_a_subset_may_have_its_own(shop: Any) -> None:
    shop.apply(
        rule(
            "r",
            """
  trafficPolicy:
    retryBudget: {percent: 50, budgetInterval: 2s}
    proxyProtocol: {version: V2}
    portLevelSettings:
      - {port: {number: 9090}, loadBalancer: {simple: RANDOM}}
  subsets:
    - {name: v1, labels: {version: v1}, trafficPolicy: {retryBudget: {minRetryConcurrency: 7, budgetInterval: 0s}}}
    - name: v2
      labels: {version: v2}
      trafficPolicy: {portLevelSettings: [{port: {number: 9080}, loadBalancer: {simple: RANDOM}}]}
""",
            host="ratings",
        )
    )
    (variant,) = shop.row("destinations", "ratings").variants
    whole = RetryBudget(percent=50, min_concurrency=3, interval=timedelta(seconds=2))
    assert [variant.policy(port).retry_budget for port in (9080, 9090)] == [whole, None]
    assert [variant.policy(port).proxy_protocol for port in (9080, 9090)] == ["V2", ""]
    assert variant.policy(9080, "v1").retry_budget == RetryBudget(percent=20, min_concurrency=7, interval=None)
    assert variant.policy(9080, "v2").retry_budget == whole


def test_connections_are_pinged_and_errors_are_counted_as_a_rule_says(shop: Any) -> None:
    shop.apply(
        rule(
            "r",
            """
  trafficPolicy:
    connectionPool:
      tcp: {idleTimeout: 9s}
      http: {http2KeepAlive: {interval: 1m, timeout: 2s}}
    outlierDetection: {outlierDetectionHttpErrorCodes: [503, 429, 503]}
    portLevelSettings:
      - {port: {number: 9090}, connectionPool: {tcp: {idleTimeout: 9s}, http: {idleTimeout: 0s}}}
""",
            host="ratings",
        )
    )
    (variant,) = shop.row("destinations", "ratings").variants
    policy, port = variant.policy(9080), variant.policy(9090)
    assert policy.pool.pings == Pings(timedelta(minutes=1), timedelta(seconds=2))
    assert policy.outlier.error_statuses == (429, 503)
    # How long connections may be idle is said for all, unless it is said for HTTP.
    assert policy.pool.http_idle_timeout == Timeout.of(timedelta(seconds=9))
    assert port.pool.http_idle_timeout == Timeout.of(timedelta())
    assert (port.pool.pings, port.outlier) == (None, None)


def test_shares_may_follow_the_load_that_endpoints_report(shop: Any) -> None:
    shop.apply(
        rule(
            "r",
            """
  trafficPolicy:
    loadBalancer: {backendUtilization: {blackoutPeriod: 0s, errorUtilizationPenalty: 0}, warmup: {duration: 9s}}
    portLevelSettings: [{port: {number: 9090}, loadBalancer: {backendUtilization: {}}}]
""",
            host="ratings",
        )
    )
    (variant,) = shop.row("destinations", "ratings").variants
    found = variant.policy(9080).balancing
    assert found.utilization == Utilization(blackout=timedelta(), error_penalty=0)
    assert found.warmup.duration == timedelta(seconds=9)
    assert variant.policy(9090).balancing.utilization == Utilization()


def test_a_tunnel_holds_at_every_port_but_not_for_subsets(shop: Any) -> None:
    shop.apply(
        rule(
            "r",
            """
  trafficPolicy:
    tunnel: {targetHost: far.example, targetPort: 443}
    portLevelSettings:
      - {port: {number: 9090}, loadBalancer: {simple: RANDOM}}
  subsets:
    - {name: v1, labels: {version: v1}, trafficPolicy: {tunnel: {protocol: POST, targetHost: "::1", targetPort: 80}}}
    - {name: v2, labels: {version: v2}}
    - {name: v3, labels: {version: v3}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
""",
            host="ratings",
        )
    )
    (variant,) = shop.row("destinations", "ratings").variants
    whole, own = Tunnel("far.example", 443), Tunnel("::1", 80, post=True)
    assert [variant.policy(port).tunnel for port in (9080, 9090)] == [whole, whole]
    assert [variant.policy(9080, name).tunnel for name in ("v1", "v2", "v3")] == [own, None, None]
    assert variant.for_connections(9080, "v1", shared=False).tunnel == own
    assert variant.for_connections(9080, "v1", shared=True).tunnel == whole


def test_a_subset_overrides_section_by_section(shop: Any) -> None:
    shop.apply(
        rule(
            "r",
            """
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 5}}
    loadBalancer: {simple: RANDOM}
  subsets:
    - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
""",
        )
    )
    policy = shop.row("destinations", "reviews").variants[0].policy(9080, "v1")
    assert (policy.pool.max_connections, policy.balancing.simple) == (5, Balancer.ROUND_ROBIN)


@pytest.mark.parametrize(
    ("settings", "source", "name"),
    [
        ("httpHeaderName: x-user", HashSource.HEADER, "x-user"),
        ("httpQueryParameterName: user", HashSource.QUERY_PARAMETER, "user"),
        ("useSourceIp: true", HashSource.SOURCE_IP, ""),
        ("httpCookie: {name: session, ttl: 0s, path: /}", HashSource.COOKIE, "session"),
    ],
)
def test_requests_are_hashed_by_what_is_named(shop: Any, settings: str, source: HashSource, name: str) -> None:
    shop.apply(rule("r", f"  trafficPolicy: {{loadBalancer: {{consistentHash: {{{settings}, maglev: {{}}}}}}}}"))
    hashed = shop.row("destinations", "reviews").variants[0].policy(9080).balancing.hash
    assert (hashed.source, hashed.name, hashed.ring) == (source, name, HashRing.MAGLEV)
    assert hashed.ttl == (timedelta() if source is HashSource.COOKIE else None)


def test_tls_settings_are_taken_over(shop: Any) -> None:
    shop.apply(
        rule(
            "r",
            "  trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, sni: s, subjectAltNames: [a]}}",
        )
    )
    tls = shop.row("destinations", "reviews").variants[0].policy(9080).tls
    assert (tls.mode, tls.client_certificate, tls.private_key_file, tls.sni) == (TlsMode.MUTUAL, "/c", "/k", "s")
    assert tls.subject_alt_names == ("a",)
