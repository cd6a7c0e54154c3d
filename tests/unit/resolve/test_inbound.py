"""The server side of workloads: ports, PeerAuthentications, Sidecar ingress."""

from __future__ import annotations

from typing import Any

from meltemi.model.proxies import InboundPort
from meltemi.model.security import MutualTls
from meltemi.model.services import Protocol


def service(name: str, port: str, created: str = "1") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec: {{selector: {{app: a}}, ports: [{port}]}}
---
"""


def peer(name: str, spec: str, namespace: str = "shop", created: str = "1") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec: {spec}
---
"""


def a(mesh: Any) -> Any:
    mesh.connect("a-1", labels={"app": "a"})
    return mesh


def inbound_ports(resolved: Any) -> Any:
    return resolved.only("inbound").ports


def test_a_workload_serves_on_the_target_ports_of_the_services_that_select_it(resolved: Any) -> None:
    a(resolved).apply(
        service("one", "{name: http, port: 80, targetPort: 8080}") + service("two", "{name: grpc, port: 90}")
    )
    assert resolved.only("inbound").ports == (
        InboundPort(90, Protocol.GRPC, MutualTls.PERMISSIVE, "two.shop.svc.cluster.local", 90, "", "two", "shop"),
        InboundPort(8080, Protocol.HTTP, MutualTls.PERMISSIVE, "one.shop.svc.cluster.local", 80, "", "one", "shop"),
    )


def test_a_service_that_selects_by_more_labels_than_the_workload_has_does_not_count(resolved: Any) -> None:
    a(resolved).apply(service("one", "{port: 80}").replace("app: a", "app: a, version: v9"))
    assert resolved.only("inbound").ports == ()


def test_a_named_target_port_is_that_of_the_pod(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: v1
    kind: Pod
    metadata: {name: a-1}
    spec: {containers: [{name: app, ports: [{name: web, containerPort: 8080}]}]}
    status: {podIP: 10.244.0.5}
    """)
    a(resolved).apply(service("one", "{name: http, port: 80, targetPort: web}"))
    assert [port.port for port in resolved.only("inbound").ports] == [8080]


def test_the_older_service_says_what_is_spoken_on_a_port(resolved: Any) -> None:
    a(resolved).apply(
        service("young", "{name: tcp, port: 81, targetPort: 8080}", "2")
        + service("old", "{name: http, port: 80, targetPort: 8080}")
    )
    (port,) = resolved.only("inbound").ports
    assert (port.protocol, port.service_port) == (Protocol.HTTP, 80)
    assert resolved.problems()["ProtocolConflict"].ref.name == "young"


def test_mtls_is_permissive_where_nobody_says_otherwise(resolved: Any) -> None:
    assert a(resolved).only("inbound").peer.mode is MutualTls.PERMISSIVE


def test_the_mesh_then_the_namespace_then_the_workload_say_how(resolved: Any) -> None:
    a(resolved).apply(peer("mesh", "{mtls: {mode: STRICT}}", "istio-system"))
    assert resolved.only("inbound").peer.mode is MutualTls.STRICT
    resolved.apply(peer("namespace", "{mtls: {mode: DISABLE}}"))
    assert resolved.only("inbound").peer.mode is MutualTls.DISABLE
    resolved.apply(peer("workload", "{selector: {matchLabels: {app: a}}, mtls: {mode: PERMISSIVE}}"))
    assert resolved.only("inbound").peer.mode is MutualTls.PERMISSIVE
    assert [ref.name for ref in resolved.only("inbound").peer.refs] == ["mesh", "namespace", "workload"]
    assert resolved.problems() == {}


def test_what_a_policy_leaves_unset_is_taken_from_above(resolved: Any) -> None:
    a(resolved).apply(
        peer("mesh", "{mtls: {mode: STRICT}}", "istio-system")
        + peer(
            "workload", "{selector: {matchLabels: {app: a}}, portLevelMtls: {80: {mode: DISABLE}, 81: {mode: UNSET}}}"
        )
    )
    policy = resolved.only("inbound").peer
    assert policy.mode is MutualTls.STRICT
    assert policy.of(80) is MutualTls.DISABLE
    assert policy.of(81) is MutualTls.STRICT


def test_a_port_of_the_workload_has_the_mode_of_its_number(resolved: Any) -> None:
    a(resolved).apply(
        service("one", "{name: http, port: 80, targetPort: 8080}")
        + peer("workload", "{selector: {matchLabels: {app: a}}, portLevelMtls: {8080: {mode: STRICT}}}")
    )
    assert resolved.only("inbound").ports[0].mutual_tls is MutualTls.STRICT


def test_the_oldest_policy_at_a_step_holds_and_the_younger_is_told(resolved: Any) -> None:
    a(resolved).apply(peer("young", "{mtls: {mode: STRICT}}", created="2") + peer("old", "{mtls: {mode: DISABLE}}"))
    assert resolved.only("inbound").peer.mode is MutualTls.DISABLE
    assert resolved.problems()["PeerAuthenticationConflict"].ref.name == "young"


def test_ports_without_a_selector_are_told_to_have_no_effect(resolved: Any) -> None:
    a(resolved).apply(peer("p", "{portLevelMtls: {80: {mode: DISABLE}}}"))
    assert resolved.only("inbound").peer.ports == ()
    assert resolved.problems()["SelectorRequired"].path == "spec.portLevelMtls"


def test_a_policy_of_another_namespace_changes_nothing(resolved: Any) -> None:
    a(resolved)
    before = resolved.only("inbound")
    resolved.apply(peer("p", "{mtls: {mode: STRICT}}", "bank"))
    assert resolved.only("inbound") is before


def test_ingress_listeners_of_a_sidecar_replace_the_ports_of_services(resolved: Any) -> None:
    a(resolved).apply(
        service("one", "{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 81}")
        + """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s}
spec:
  workloadSelector: {labels: {app: a}}
  ingress:
  - {port: {number: 8080, protocol: GRPC, name: grpc}, defaultEndpoint: "127.0.0.1:9000"}
"""
    )
    assert resolved.only("inbound").ports == (
        InboundPort(
            8080, Protocol.GRPC, MutualTls.PERMISSIVE, "one.shop.svc.cluster.local", 80, "127.0.0.1:9000", "one", "shop"
        ),
    )


SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec: {spec}
---
"""


def sidecar(spec: str, name: str = "s", created: str = "1") -> str:
    return SIDECAR.format(spec=spec, name=name, created=created)


def test_limits_hold_for_all_ports_or_for_one(resolved: Any) -> None:
    a(resolved).apply(
        service("one", "{name: http, port: 80}, {name: tcp, port: 81}")
        + sidecar("{inboundConnectionPool: {tcp: {maxConnections: 7}}}")
    )
    assert [port.pool.max_connections for port in resolved.only("inbound").ports] == [7, 7]
    resolved.apply(
        sidecar("""
  inboundConnectionPool: {tcp: {maxConnections: 7}}
  ingress:
  - {port: {number: 80, protocol: HTTP}, connectionPool: {tcp: {maxConnections: 3}}}
  - {port: {number: 81, protocol: TCP}}
""")
    )
    assert [port.pool.max_connections for port in resolved.only("inbound").ports] == [3, 7]


def rule(name: str, spec: str, namespace: str = "shop") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
---
"""


def test_a_destination_rule_limits_the_server_as_well_as_its_clients(resolved: Any) -> None:
    limits = """
  host: one.shop.svc.cluster.local
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 5}}
    portLevelSettings: [{port: {number: 81}, connectionPool: {tcp: {maxConnections: 6}}}]
"""
    a(resolved).apply(
        service("one", "{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 81}, {name: more, port: 82}")
        + service("two", "{name: http, port: 90}")
        + rule("one", limits)
    )
    found = {
        port.port: (port.pool.max_connections, [ref.name for ref in port.refs]) for port in inbound_ports(resolved)
    }
    assert found == {8080: (5, ["one"]), 81: (6, ["one"]), 82: (5, ["one"]), 90: (None, [])}
    resolved.apply(
        sidecar("""
  ingress:
  - {port: {number: 81, protocol: TCP}}
  - {port: {number: 82, protocol: TCP}, connectionPool: {tcp: {maxConnections: 3}}}
""")
    )
    assert [(port.pool.max_connections, len(port.refs)) for port in inbound_ports(resolved)] == [(6, 1), (3, 0)]
    resolved.apply(sidecar("{inboundConnectionPool: {tcp: {maxConnections: 7}}}"))
    assert {port.pool.max_connections for port in inbound_ports(resolved)} == {7}


def test_only_what_everyone_in_its_own_namespace_sees_limits_a_server(resolved: Any) -> None:
    def limits(number: int, more: str = "") -> str:
        pool = f"trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {number}}}}}}}"
        return f"{{host: one.shop.svc.cluster.local, {pool}{more}}}"

    a(resolved).apply(
        service("one", "{name: http, port: 80}")
        + rule("theirs", limits(1), namespace="bank")
        + rule("labelled", limits(2, ", workloadSelector: {matchLabels: {app: a}}"))
    )
    assert [port.pool.max_connections for port in inbound_ports(resolved)] == [None]
    resolved.apply(rule("ours", limits(3)))
    assert [port.pool.max_connections for port in inbound_ports(resolved)] == [3]


def test_where_nothing_is_captured_the_proxy_listens_at_the_pods_address_and_calls_its_localhost(resolved: Any) -> None:
    ports = "{port: {number: 80, protocol: HTTP}, captureMode: NONE}"
    resolved.apply(sidecar(f"{{ingress: [{ports}]}}"))
    for number in (1, 2):
        resolved.connect(f"a-{number}", labels={"app": "a"}, address=f"10.0.0.{number}")
    found = [row.ports[0] for row in resolved.graph.table("inbound").all()]
    assert all(not port.captured and port.default_endpoint == "127.0.0.1:80" for port in found)
    assert sorted(port.bind for port in found) == ["10.0.0.1", "10.0.0.2"]


def test_pods_share_a_view_where_their_addresses_do_not_matter(resolved: Any) -> None:
    ports = "{port: {number: 80, protocol: HTTP}, captureMode: NONE, bind: 127.0.0.9, defaultEndpoint: 127.0.0.1:81}"
    a(resolved).apply(sidecar(f"{{ingress: [{ports}]}}"))
    resolved.connect("a-2", labels={"app": "a"})
    assert resolved.only("inbound").ports[0].bind == "127.0.0.9"


TLS = """
  ingress: [{port: {number: 8443, protocol: HTTPS}, tls: {mode: MUTUAL, credentialName: own}}]
"""


def test_a_port_ends_tls_of_its_own_where_it_does_not_take_the_meshs(resolved: Any) -> None:
    a(resolved).apply(sidecar(TLS))
    assert resolved.only("inbound").ports[0].tls is None
    assert resolved.problems()["TlsNotInEffect"].path == "spec.ingress[0].tls"
    resolved.apply(peer("p", "{selector: {matchLabels: {app: a}}, portLevelMtls: {8443: {mode: DISABLE}}}"))
    (port,) = resolved.only("inbound").ports
    assert port.protocol is Protocol.HTTP
    assert port.tls is not None
    assert port.tls.credentials == ("kubernetes://shop/own",)
    assert port.tls.ca_credential == "kubernetes://shop/own-cacert"
    resolved.hold("own")  # which stands for its authorities too
    assert resolved.problems() == {}


def test_of_two_sidecars_for_the_same_workloads_the_older_holds_and_the_younger_is_told(resolved: Any) -> None:
    a(resolved).apply(
        sidecar("{ingress: [{port: {number: 82, protocol: TCP}}]}", "young", "2")
        + sidecar("{ingress: [{port: {number: 81, protocol: TCP}}]}", "old")
        + sidecar(
            "{workloadSelector: {labels: {app: b}}, ingress: [{port: {number: 83, protocol: TCP}}]}", "other", "3"
        )
    )
    assert [port.port for port in resolved.only("inbound").ports] == [81]
    assert resolved.problems()["SidecarConflict"].ref.name == "young"


def test_a_mesh_may_reach_its_applications_at_localhost(resolved: Any) -> None:
    a(resolved).apply(service("one", "{name: http, port: 80, targetPort: 8080}"))
    resolved.apply("""
apiVersion: meltemi.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec: {inboundTrafficPolicy: {mode: LOCALHOST}}
""")
    assert [port.default_endpoint for port in resolved.only("inbound").ports] == ["127.0.0.1:8080"]
