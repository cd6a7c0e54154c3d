"""References that lead nowhere are told before any proxy would notice."""

from __future__ import annotations

from typing import Any

VIRTUAL = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [www.example.org]
  gateways: [edge]
  http: [{route: [{destination: {host: reviews}}]}]
---
"""

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*.example.org"]}]}
---
"""


def test_a_gateway_that_does_not_exist(shop: Any) -> None:
    shop.apply(VIRTUAL)
    problem = shop.problems()["GatewayNotFound"]
    assert (problem.path, problem.ref.name) == ("spec.gateways[0]", "vs")
    shop.apply(GATEWAY)
    assert shop.problems() == {}


def test_a_gateway_of_a_match_that_does_not_exist(shop: Any) -> None:
    shop.apply(GATEWAY + VIRTUAL.replace("[{route", "[{match: [{gateways: [bank/edge]}], route"))
    assert shop.problems()["GatewayNotFound"].path == "spec.http[0].match[0].gateways[0]"


def test_a_host_that_the_gateway_does_not_have(shop: Any) -> None:
    shop.apply(GATEWAY.replace("*.example.org", "*.example.net") + VIRTUAL)
    assert shop.problems()["HostNotInGateway"].path == "spec.hosts[0]"


def test_a_host_that_the_gateway_has_for_other_namespaces(shop: Any) -> None:
    shop.apply(GATEWAY.replace("*.example.org", "bank/*.example.org") + VIRTUAL)
    assert "HostNotInGateway" in shop.problems()


def test_a_destination_behind_a_gateway_that_does_not_run(shop: Any) -> None:
    shop.apply(GATEWAY + VIRTUAL.replace("host: reviews", "host: nowhere"))
    assert shop.problems()["HostNotFound"].path == "spec.http[0].route[0].destination.host"


def test_a_problem_that_routes_tell_too_is_told_once(shop: Any) -> None:
    shop.apply(VIRTUAL.replace("gateways: [edge]", "gateways: [mesh]").replace("host: reviews", "host: nowhere"))
    assert len(shop.graph.problems()) == 1


def test_a_destination_rule_for_a_host_that_no_service_has(shop: Any) -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {0}}}
spec: {{host: "{1}"}}
---
"""
    shop.apply(rule.format("known", "reviews") + rule.format("wide", "*.shop.svc.cluster.local"))
    assert shop.problems() == {}
    shop.apply(rule.format("unknown", "reveiws"))
    problem = shop.problems()["HostNotFound"]
    assert (problem.ref.name, problem.path) == ("unknown", "spec.host")


def test_a_service_entry_for_the_host_of_a_service_is_told_that_the_service_keeps_it(resolved: Any) -> None:
    resolved.apply("""
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.0.0.9, ports: [{port: 80, name: http}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.example.com, db.shop.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 192.0.2.1}]
""")
    problem = resolved.problems()["HostConflict"]
    assert (problem.path, problem.ref.kind) == ("spec.hosts[1]", "ServiceEntry")
