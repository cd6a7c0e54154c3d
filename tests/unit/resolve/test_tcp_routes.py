"""Connection routes in the mesh."""

from __future__ import annotations

from typing import Any

from meltemi.base.labels import LabelSet
from meltemi.model.clients import ANYONE, Clients
from meltemi.model.routes import TcpMatch

LEDGER = "ledger.bank.svc.cluster.local"


def routes(mesh: Any, host: str = "ledger", port: int = 7000, namespace: str = "bank") -> Any:
    (variant,) = mesh.row("tcp_routes", host, namespace).variants
    return variant.routes(port) if hasattr(variant, "routes") else dict(variant.ports)[port]


def virtual(rules: str, host: str = LEDGER) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: vs, namespace: bank}}
spec:
  hosts: [{host}]
  {rules}
"""


def test_a_service_nobody_routes_is_routed_to_itself(shop: Any) -> None:
    (route,) = routes(shop)
    assert (route.match, route.clients, route.targets[0].target.host) == (TcpMatch(), ANYONE, LEDGER)


def test_a_service_with_http_ports_only_has_no_connection_routes(shop: Any) -> None:
    assert ("shop", "reviews.shop.svc.cluster.local") not in shop.graph.table("tcp_routes")


def test_connections_are_shared_by_weight(shop: Any) -> None:
    shop.apply(
        virtual("""tcp:
  - route:
    - {destination: {host: ledger}, weight: 80}
    - {destination: {host: reviews.shop.svc.cluster.local}, weight: 20}
""")
    )
    (route,) = routes(shop)
    assert [(each.target.namespace, each.weight) for each in route.targets] == [("bank", 80), ("shop", 20)]


def test_what_no_rule_fits_goes_to_the_service_itself(shop: Any) -> None:
    shop.apply(
        virtual("""tcp:
  - match: [{destinationSubnets: [10.0.0.0/8]}, {sourceLabels: {app: web}}, {port: 1}]
    route: [{destination: {host: reviews.shop.svc.cluster.local}}]
""")
    )
    subnet, labels, default = routes(shop)
    assert subnet.match == TcpMatch(destination_subnets=("10.0.0.0/8",))
    assert subnet.source.path == "spec.tcp[0].match[0]"
    assert labels.clients == Clients(labels=LabelSet.of({"app": "web"}))
    assert default.targets[0].target.host == LEDGER


def test_tls_is_routed_by_server_name(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {name: api, namespace: bank}
    spec:
      hosts: [a.example.org, b.example.org]
      resolution: DNS
      ports: [{number: 443, name: tls, protocol: TLS}]
    """)
    resolved.apply(
        virtual(
            "tls: [{match: [{sniHosts: [a.example.org]}], route: [{destination: {host: b.example.org}}]}]",
            "a.example.org",
        )
    )
    by_name, default = routes(resolved, "a.example.org", 443)
    assert by_name.match == TcpMatch(sni_hosts=("a.example.org",))
    assert by_name.targets[0].target.host == "b.example.org"
    assert default.targets[0].target.host == "a.example.org"


def test_a_rule_after_one_that_takes_everything_is_told_to_be_unreachable(shop: Any) -> None:
    shop.apply(virtual("tcp: [{route: [{destination: {host: ledger}}]}, {route: [{destination: {host: ledger}}]}]"))
    assert len(routes(shop)) == 1
    assert shop.problems()["UnreachableRule"].path == "spec.tcp[1]"
