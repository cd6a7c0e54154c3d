"""Endpoints and the accounts behind them."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.model.services import Health

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: reviews-1, labels: {app: reviews, version: v1, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: reviews}
status: {podIP: 10.244.0.5, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-2, labels: {app: reviews, version: v2}}
spec: {serviceAccountName: reviews-next}
status: {podIP: 10.244.0.6}
---
"""

SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-x, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
  - {addresses: [10.244.0.6], targetRef: {kind: Pod, name: reviews-2}, zone: b}
  - {addresses: [10.244.0.5], targetRef: {kind: Pod, name: reviews-1}, hostname: first}
"""


def test_endpoints_are_sorted_and_know_their_workloads(shop: Any) -> None:
    shop.apply(PODS + SLICE)
    one, two = shop.row("endpoints", "reviews").of(9080)
    assert (one.address, one.port, one.meshed, str(one.identity)) == (
        "10.244.0.5",
        8080,
        True,
        "spiffe://cluster.local/ns/shop/sa/reviews",
    )
    assert one.hostname == "first.reviews.shop.svc.cluster.local"
    assert one.labels.get("version") == "v1"
    assert (two.address, two.meshed, two.locality.zone) == ("10.244.0.6", False, "b")


@pytest.mark.parametrize(
    ("spec", "meshed"),
    [
        ("{mtls: {mode: DISABLE}}", False),
        ("{selector: {matchLabels: {app: reviews}}, mtls: {mode: DISABLE}}", False),
        ("{selector: {matchLabels: {app: reviews}}, portLevelMtls: {8080: {mode: DISABLE}}}", False),
        ("{selector: {matchLabels: {app: reviews}}, portLevelMtls: {9999: {mode: DISABLE}}}", True),
        ("{selector: {matchLabels: {app: other}}, mtls: {mode: DISABLE}}", True),
        ("{mtls: {mode: STRICT}}", True),
    ],
)
def test_a_workload_that_takes_plaintext_only_is_offered_no_mutual_tls(shop: Any, spec: str, meshed: bool) -> None:
    policy = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: " + spec
    shop.apply(f"{PODS}{SLICE}---\n{policy}\n")
    assert shop.row("endpoints", "reviews").of(9080)[0].meshed is meshed


def test_an_address_of_no_known_pod_is_an_endpoint_all_the_same(shop: Any) -> None:
    shop.apply(SLICE)
    assert [each.address for each in shop.row("endpoints", "reviews").of(9080)] == ["10.244.0.5", "10.244.0.6"]


@pytest.mark.parametrize(
    ("conditions", "health"),
    [
        ("{}", Health.HEALTHY),
        ("{ready: true}", Health.HEALTHY),
        ("{ready: false, serving: true, terminating: true}", Health.DRAINING),
        ("{ready: false, serving: false, terminating: true}", Health.UNHEALTHY),
        ("{ready: false}", Health.UNHEALTHY),
    ],
)
def test_conditions_tell_the_health(shop: Any, conditions: str, health: Health) -> None:
    shop.apply(SLICE.replace("zone: b", f"conditions: {conditions}"))
    assert shop.row("endpoints", "reviews").of(9080)[1].health is health


def test_a_port_takes_the_slice_port_of_its_name(shop: Any) -> None:
    shop.apply(
        SLICE.replace("reviews", "ratings").replace("{name: http, port: 8080}", "{name: grpc-internal, port: 1}")
    )
    ratings = shop.row("endpoints", "ratings")
    assert ratings.of(9080) == ()
    assert {each.port for each in ratings.of(9090)} == {1}


def test_a_change_of_one_pod_changes_only_the_services_it_stands_behind(shop: Any) -> None:
    shop.apply(PODS + SLICE)
    before = shop.row("endpoints", "ratings")
    shop.apply(PODS.replace("version: v2", "version: v3"))
    assert shop.row("endpoints", "reviews").of(9080)[1].labels.get("version") == "v3"
    assert shop.row("endpoints", "ratings") is before


def test_a_kubernetes_service_also_selects_workload_entries(shop: Any) -> None:
    shop.apply("""
    apiVersion: networking.istio.io/v1
    kind: WorkloadEntry
    metadata: {name: vm}
    spec: {address: 192.168.1.2, labels: {app: reviews}}
    """)
    assert [(each.address, each.port) for each in shop.row("endpoints", "reviews").of(9080)] == [("192.168.1.2", 9080)]


def test_accounts_are_the_identities_of_meshed_endpoints(shop: Any) -> None:
    shop.apply(PODS + SLICE)
    accounts = shop.row("accounts", "reviews")
    assert accounts.identities == ("spiffe://cluster.local/ns/shop/sa/reviews",)
    assert not accounts.meshed


def test_accounts_are_known_in_the_aliases_of_the_trust_domain(shop: Any) -> None:
    shop.apply(
        """
        apiVersion: meltemi.dev/v1alpha1
        kind: MeshConfig
        metadata: {name: default}
        spec: {trustDomain: new.example, trustDomainAliases: [old.example]}
        """
    )
    shop.apply(PODS + SLICE)
    assert shop.row("accounts", "reviews").identities == (
        "spiffe://new.example/ns/shop/sa/reviews",
        "spiffe://old.example/ns/shop/sa/reviews",
    )


def test_a_new_replica_of_a_known_account_leaves_the_accounts_alone(shop: Any) -> None:
    shop.apply(PODS + SLICE)
    before = shop.row("accounts", "reviews")
    shop.apply(SLICE.replace("hostname: first", "hostname: second"))
    assert shop.row("accounts", "reviews") is before


def test_a_service_entry_lists_endpoints_with_ports_labels_and_places(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {name: api}
    spec:
      hosts: [api.example.org]
      resolution: STATIC
      location: MESH_INTERNAL
      ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8000}]
      endpoints:
        - {address: 10.0.0.1, labels: {version: v1}, locality: eu/a, weight: 5, network: west}
        - {address: 10.0.0.2, ports: {http: 9000}, serviceAccount: api}
        - {address: unix:///run/api.sock}
    """)
    first, second, third = resolved.row("endpoints", "api.example.org").of(80)
    assert (first.address, first.port, first.weight, first.network) == ("10.0.0.1", 8000, 5, "west")
    assert (first.locality.region, first.locality.zone) == ("eu", "a")
    assert (second.port, second.meshed, second.identity.service_account) == (9000, True, "api")
    assert (third.address, third.port) == ("unix:///run/api.sock", 0)


def test_dns_entries_without_endpoints_are_their_hosts(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {name: api}
    spec:
      hosts: [api.example.org, "*.example.net"]
      resolution: DNS
      ports: [{number: 80, name: http, protocol: HTTP}]
    """)
    assert [each.address for each in resolved.row("endpoints", "api.example.org").of(80)] == ["api.example.org"]
    assert resolved.row("endpoints", "*.example.net").of(80) == ()
    assert resolved.problems()["WildcardByDns"].path == "spec.resolution"


def test_a_service_entry_selects_pods_and_workload_entries(resolved: Any) -> None:
    resolved.apply(
        PODS
        + """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm}
spec: {address: 192.168.1.2, labels: {app: reviews}, ports: {http: 7777}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: critics}
spec:
  hosts: [critics.example.org]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 9080}]
  workloadSelector: {labels: {app: reviews}}
"""
    )
    found = resolved.row("endpoints", "critics.example.org").of(80)
    assert [(each.address, each.port, each.health) for each in found] == [
        ("10.244.0.5", 9080, Health.HEALTHY),
        ("10.244.0.6", 9080, Health.UNHEALTHY),
        ("192.168.1.2", 7777, Health.HEALTHY),
    ]
