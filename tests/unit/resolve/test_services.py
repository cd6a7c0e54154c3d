"""Services: from Kubernetes' Services and from ServiceEntries."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.model.clients import Visibility
from meltemi.model.services import Protocol, Resolution
from meltemi.resolve import protocols


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"number": 80, "name": "http"}, Protocol.HTTP),
        ({"number": 80, "name": "http-web"}, Protocol.HTTP),
        ({"number": 80, "name": "HTTP2-web"}, Protocol.HTTP2),
        ({"number": 80, "name": "grpc"}, Protocol.GRPC),
        ({"number": 80, "name": "grpc-web-ui"}, Protocol.GRPC_WEB),
        ({"number": 80, "name": "http_proxy"}, Protocol.HTTP_PROXY),
        ({"number": 80, "name": "httpd"}, Protocol.AUTO),
        ({"number": 80, "name": "web"}, Protocol.AUTO),
        ({"number": 3306, "name": "db"}, Protocol.TCP),
        ({"number": 3306, "name": "mysql"}, Protocol.MYSQL),
        ({"number": 80, "name": "tcp", "app_protocol": "kubernetes.io/h2c"}, Protocol.HTTP2),
        ({"number": 80, "name": "tcp", "app_protocol": "kubernetes.io/wss"}, Protocol.HTTPS),
        ({"number": 80, "name": "tcp", "app_protocol": "grpc"}, Protocol.GRPC),
        ({"number": 53, "name": "dns", "transport": "UDP"}, Protocol.UDP),
    ],
)
def test_the_protocol_follows_app_protocol_then_the_name_then_the_port(
    port: dict[str, Any], expected: Protocol
) -> None:
    assert protocols.of_port(**port) is expected


def test_a_kubernetes_service_has_its_ports_targets_and_addresses(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec:
      clusterIP: 10.96.0.9
      selector: {app: web}
      ports: [{name: http, port: 80, targetPort: 8080}, {name: metrics, port: 90, targetPort: prom}, {port: 70}]
    """)
    service = resolved.row("services", "web")
    assert service.addresses == ("10.96.0.9",)
    assert [(port.number, port.target) for port in service.ports] == [(80, 8080), (90, "prom"), (70, 70)]
    assert not service.headless
    assert service.visibility == Visibility()


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_ports_that_share_a_number_the_one_of_udp_is_left_out(resolved: Any, order: int) -> None:
    ports = ["{name: https, port: 443}", "{name: http3, port: 443, protocol: UDP}"][::order]
    resolved.apply(f"""
    apiVersion: v1
    kind: Service
    metadata: {{name: web}}
    spec: {{ports: [{", ".join(ports)}, {{name: dns, port: 53, protocol: UDP}}]}}
    """)
    assert [port.name for port in resolved.row("services", "web").ports] == ["https", "dns"]


def test_a_headless_service_has_no_address_but_endpoints(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: v1
    kind: Service
    metadata: {name: db}
    spec: {clusterIP: None, ports: [{port: 5432}]}
    """)
    service = resolved.row("services", "db")
    assert (service.headless, service.addresses, service.resolution) == (True, (), Resolution.ENDPOINTS)


def test_the_annotation_export_to_limits_who_sees_a_service(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: v1
    kind: Service
    metadata: {name: web, annotations: {networking.istio.io/exportTo: "., bank"}}
    spec: {ports: [{port: 80}]}
    """)
    assert resolved.row("services", "web").visibility == Visibility(frozenset({"shop", "bank"}))


def test_the_mesh_may_keep_services_to_their_namespaces_by_default(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: meltemi.dev/v1alpha1
    kind: MeshConfig
    metadata: {name: default}
    spec: {defaultServiceExportTo: ["."]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec: {ports: [{port: 80}]}
    """)
    assert resolved.row("services", "web").visibility == Visibility(frozenset({"shop"}))


def test_an_external_name_is_reached_by_dns_outside_of_the_mesh(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: v1
    kind: Service
    metadata: {name: search}
    spec: {type: ExternalName, externalName: search.example.org, ports: [{name: http, port: 80}]}
    """)
    service = resolved.row("services", "search")
    assert (service.external, service.resolution) == (True, Resolution.DNS)
    assert [each.address for each in resolved.row("endpoints", "search").of(80)] == ["search.example.org"]


def test_a_service_entry_makes_a_service_of_each_host(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {name: partners}
    spec:
      hosts: [a.example.org, "*.b.example.org"]
      ports: [{number: 443, name: tls, protocol: TLS}]
      resolution: NONE
      exportTo: ["."]
      subjectAltNames: [spiffe://example.org/a]
    """)
    service = resolved.row("services", "a.example.org")
    assert service.external
    assert service.resolution is Resolution.ORIGINAL
    assert service.visibility == Visibility(frozenset({"shop"}))
    assert service.identities == ("spiffe://example.org/a",)
    assert resolved.row("services", "*.b.example.org").ports == service.ports
    assert resolved.problems() == {}


ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, creationTimestamp: "{created}"}}
spec:
  hosts: [api.example.org]
  location: {location}
  resolution: STATIC
  addresses: [10.1.1.1]
  ports: [{{number: {port}, name: {protocol}, protocol: {protocol}}}]
  endpoints: [{{address: {address}}}]
---
"""


def entry(
    name: str, created: str, port: int, address: str, location: str = "MESH_INTERNAL", protocol: str = "http"
) -> str:
    return ENTRY.format(
        name=name,
        created=f"2026-01-0{created}T00:00:00Z",
        port=port,
        address=address,
        location=location,
        protocol=protocol,
    )


def test_service_entries_of_one_host_are_one_service(resolved: Any) -> None:
    resolved.apply(entry("b-older", "1", 80, "10.0.0.1") + entry("a-younger", "2", 90, "10.0.0.2"))
    service = resolved.row("services", "api.example.org")
    assert service.ref.name == "b-older"
    assert [port.number for port in service.ports] == [80, 90]
    endpoints = resolved.row("endpoints", "api.example.org")
    assert [each.address for each in endpoints.of(80)] == ["10.0.0.1"]
    assert [each.address for each in endpoints.of(90)] == ["10.0.0.2"]
    assert resolved.problems() == {}


def test_the_older_service_entry_wins_and_the_younger_is_told(resolved: Any) -> None:
    resolved.apply(entry("old", "1", 80, "10.0.0.1") + entry("young", "2", 80, "10.0.0.2", protocol="tcp"))
    assert resolved.row("services", "api.example.org").port(80).protocol is Protocol.HTTP
    problem = resolved.problems()["ServiceEntryConflict"]
    assert (problem.ref.name, problem.path) == ("young", "spec.ports[0].protocol")


def test_when_the_older_service_entry_goes_the_younger_takes_over(resolved: Any) -> None:
    resolved.apply(entry("old", "1", 80, "10.0.0.1") + entry("young", "2", 80, "10.0.0.2", protocol="tcp"))
    resolved.delete("ServiceEntry", "old")
    assert resolved.row("services", "api.example.org").port(80).protocol is Protocol.TCP
    assert resolved.problems() == {}


def test_a_host_has_the_address_that_it_was_given_if_it_may_have_one(resolved: Any) -> None:
    text = """
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {name: db, labels: {networking.istio.io/enable-autoallocate-ip: "%s"}}
    spec:
      hosts: [db.example.org]
      resolution: DNS
      ports: [{number: 5432, name: tcp, protocol: TCP}]
    status:
      addresses:
      - {host: db.example.org, value: 240.240.0.7}
      - {host: db.example.org, value: "2001:2::7"}
      - {host: else.example.org, value: 240.240.0.8}
    """
    resolved.apply(text % "true")
    service = resolved.row("services", "db.example.org")
    assert (service.allocated, service.addresses) == (True, ("240.240.0.7",))
    assert resolved.problems() == {}
    resolved.apply(text % "false")
    service = resolved.row("services", "db.example.org")
    assert (service.allocated, service.addresses) == (False, ())


def test_a_tcp_service_entry_that_is_given_no_address_is_told_that_it_takes_all(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: networking.istio.io/v1
    kind: ServiceEntry
    metadata: {name: db, labels: {networking.istio.io/enable-autoallocate-ip: "false"}}
    spec:
      hosts: [db.example.org]
      resolution: DNS
      ports: [{number: 5432, name: tcp, protocol: TCP}]
    """)
    assert resolved.problems()["AddressesRequired"].path == "spec.ports[0]"
