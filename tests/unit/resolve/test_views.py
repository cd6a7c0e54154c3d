"""Views, audiences and the Sidecars that scope them."""

from __future__ import annotations

from typing import Any

from meltemi.base.labels import LabelSet
from meltemi.model.clients import REFUSED, EgressHost, EgressProxy, OutboundPolicy, ProxyKind, Scope


def sidecar(name: str, body: str, namespace: str = "shop", created: str = "1") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec: {body}
---
"""


def scope(mesh: Any) -> Scope:
    return mesh.only("audiences").scope


def test_replicas_share_a_view_and_workloads_of_a_namespace_an_audience(resolved: Any) -> None:
    resolved.connect("a-1", labels={"app": "a", "pod-template-hash": "x"})
    resolved.connect("a-2", labels={"app": "a", "pod-template-hash": "y"})
    resolved.connect("b-1", labels={"app": "b"})
    assert len(resolved.graph.table("views")) == 2
    assert resolved.only("audiences").labels == LabelSet()


def test_keys_are_readable_and_lead_from_a_proxy_to_its_classes(resolved: Any) -> None:
    resolved.connect("a-1", labels={"app": "a"})
    placement = resolved.graph.table("placements").get("a-1.shop")
    assert placement.view == resolved.only("views").key
    assert placement.audience == resolved.only("audiences").key == resolved.only("views").audience
    assert placement.view.startswith("sidecar|shop|")


def test_labels_tell_audiences_apart_only_if_a_rule_looks_at_them(resolved: Any) -> None:
    resolved.connect("a-1", labels={"app": "a", "tier": "x"})
    resolved.connect("b-1", labels={"app": "b", "tier": "x"})
    assert len(resolved.graph.table("audiences")) == 1
    resolved.apply("""
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: vs}
    spec:
      hosts: [reviews]
      http: [{match: [{sourceLabels: {app: a}}], route: [{destination: {host: reviews}}]}]
    """)
    labels = {row.labels for row in resolved.graph.table("audiences").all()}
    assert labels == {LabelSet.of({"app": "a"}), LabelSet.of({"app": "b"})}


def test_a_view_knows_the_named_ports_of_its_pods(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: v1
    kind: Pod
    metadata: {name: a-1}
    spec: {containers: [{name: app, ports: [{name: web, containerPort: 8080}]}]}
    status: {podIP: 10.244.0.5}
    """)
    resolved.connect("a-1")
    assert resolved.only("views").ports == (("web", 8080),)


def test_without_a_sidecar_everything_exported_is_seen(resolved: Any) -> None:
    resolved.connect()
    assert scope(resolved) == Scope()


def test_egress_hosts_name_namespace_and_host(resolved: Any) -> None:
    resolved.apply(
        sidecar("s", '{egress: [{hosts: ["./*", "bank/ledger.bank.svc.cluster.local", "*/x.example.org", "~/*"]}]}')
    )
    resolved.connect()
    assert scope(resolved).egress == (
        EgressHost("shop", "*"),
        EgressHost("bank", "ledger.bank.svc.cluster.local"),
        EgressHost("*", "x.example.org"),
    )
    assert scope(resolved).outbound is None


def test_a_sidecar_for_the_workload_goes_before_one_for_the_namespace_and_that_before_the_root_one(
    resolved: Any,
) -> None:
    resolved.connect("a-1", labels={"app": "a"})
    resolved.apply(sidecar("root", "{}", "istio-system"))
    assert scope(resolved).ref.name == "root"
    resolved.apply(sidecar("namespace", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"))
    assert scope(resolved).ref.name == "namespace"
    assert scope(resolved).outbound == REFUSED
    resolved.apply(sidecar("workload", "{workloadSelector: {labels: {app: a}}}", created="3"))
    assert scope(resolved).ref.name == "workload"
    resolved.apply(sidecar("other", "{workloadSelector: {labels: {app: z}}}"))
    assert scope(resolved).ref.name == "workload"


def test_the_sidecar_of_the_root_namespace_reads_a_dot_as_the_proxys_namespace(resolved: Any) -> None:
    resolved.apply(sidecar("root", '{egress: [{hosts: ["./*", "istio-system/*"]}]}', "istio-system"))
    resolved.connect()
    assert scope(resolved).egress == (EgressHost("shop", "*"), EgressHost("istio-system", "*"))


def test_what_rules_in_scope_lead_to_can_be_reached_though_it_is_not_listed(shop: Any) -> None:
    shop.apply(sidecar("s", '{egress: [{hosts: ["./*"]}]}'))
    shop.connect()
    assert scope(shop).imports == ()
    shop.apply("""
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: vs}
    spec:
      hosts: [reviews]
      http: [{route: [{destination: {host: ledger.bank.svc.cluster.local}}], mirror: {host: nowhere}}]
    """)
    assert scope(shop).imports == (EgressHost("bank", "ledger.bank.svc.cluster.local"),)


def test_rules_for_hosts_out_of_scope_import_nothing(shop: Any) -> None:
    shop.apply(sidecar("s", '{egress: [{hosts: ["./ratings.shop.svc.cluster.local"]}]}'))
    shop.apply("""
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: vs}
    spec:
      hosts: [reviews]
      http: [{route: [{destination: {host: ledger.bank.svc.cluster.local}}]}]
    """)
    shop.connect()
    assert scope(shop).imports == ()


def test_an_edited_sidecar_changes_what_is_seen_and_not_which_class_it_is(resolved: Any) -> None:
    resolved.apply(sidecar("s", '{egress: [{hosts: ["./*"]}]}'))
    resolved.connect()
    before = resolved.only("audiences")
    resolved.apply(sidecar("s", '{egress: [{hosts: ["bank/*"]}]}'))
    after = resolved.only("audiences")
    assert before.key == after.key
    assert before.scope != after.scope


def test_gateways_are_scoped_by_no_sidecar(resolved: Any) -> None:
    resolved.apply(sidecar("s", '{egress: [{hosts: ["./*"]}]}'))
    resolved.connect(kind=ProxyKind.GATEWAY)
    assert scope(resolved) == Scope()


def test_unknown_traffic_goes_to_the_service_that_a_sidecar_names_which_is_reached_unlisted(shop: Any) -> None:
    policy = "{mode: ALLOW_ANY, egressProxy: {host: %s, port: {number: %d}}}"
    shop.apply(sidecar("s", "{egress: [{hosts: [bank/*]}], outboundTrafficPolicy: " + policy % ("reviews", 9080) + "}"))
    shop.connect()
    host = "reviews.shop.svc.cluster.local"
    assert scope(shop).outbound == OutboundPolicy(proxy=EgressProxy("shop", host, 9080))
    assert EgressHost("shop", host) in scope(shop).imports
    assert not shop.problems()


def test_a_service_for_unknown_traffic_that_does_not_exist_is_told_to_the_author(resolved: Any) -> None:
    resolved.apply(
        sidecar("s", "{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: exit, port: {number: 80}}}}")
    )
    resolved.connect()
    assert scope(resolved).outbound.proxy.port == 0
    (problem,) = resolved.problems().values()
    assert (problem.code, problem.path) == ("HostNotFound", "spec.outboundTrafficPolicy.egressProxy.host")
