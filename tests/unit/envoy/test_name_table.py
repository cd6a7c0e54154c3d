"""What agents are told of names: which host has which addresses, and who sees it."""

from __future__ import annotations

from meltemi.agent.wire import NameInfo
from meltemi.base.discovery import NAMES
from meltemi.testing.worlds import World, client

WORLD = World.of(
    """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {clusterIP: 10.96.0.20, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: tcp, port: 5432}]
endpoints:
- {addresses: [10.244.1.2], hostname: db-1, conditions: {ready: true}}
- {addresses: [10.244.1.1], hostname: db-0, conditions: {ready: true}}
- {addresses: [10.244.1.3], hostname: db-2, conditions: {ready: false}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private, namespace: shop}
spec:
  hosts: ["*.vault.example"]
  addresses: [192.0.2.1, "2001:db8::1", 198.51.100.0/24]
  ports: [{number: 443, name: tls, protocol: TLS}]
  exportTo: ["."]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: range, namespace: shop}
spec: {hosts: [range.example], addresses: [198.51.100.0/24], ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: narrow}
spec: {egress: [{hosts: ["shop/reviews.shop.svc.cluster.local"]}]}
"""
)


def told(namespace: str) -> dict[str, NameInfo]:
    """What an agent in a namespace is told, by host."""
    resources = WORLD.resources(client(namespace=namespace))
    return {each.name: NameInfo.parse(each.body) for each in resources if each.type_url == NAMES}


def test_each_host_has_its_addresses_and_services_their_short_names() -> None:
    assert told("shop") == {
        "reviews.shop.svc.cluster.local": NameInfo(("10.96.0.20",), "Kubernetes", "reviews", "shop"),
        "db.shop.svc.cluster.local": NameInfo(("10.244.1.1", "10.244.1.2"), "Kubernetes", "db", "shop"),
        "db-0.db.shop.svc.cluster.local": NameInfo(("10.244.1.1",), "Kubernetes", "db-0.db", "shop"),
        "db-1.db.shop.svc.cluster.local": NameInfo(("10.244.1.2",), "Kubernetes", "db-1.db", "shop"),
        "*.vault.example": NameInfo(("192.0.2.1", "2001:db8::1"), "External"),
    }


def test_a_name_is_told_where_its_service_is_exported_to() -> None:
    assert "*.vault.example" not in told("elsewhere")
    assert "reviews.shop.svc.cluster.local" in told("elsewhere")


def test_a_name_is_told_within_the_scope_of_a_sidecar_only() -> None:
    assert list(told("narrow")) == ["reviews.shop.svc.cluster.local"]
