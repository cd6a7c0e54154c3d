"""Gateways: servers, what is routed through them, and credentials."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.model.clients import ProxyKind
from meltemi.model.gateways import ServerTlsMode
from meltemi.model.routes import TcpMatch

REVIEWS = "reviews.shop.svc.cluster.local"


@pytest.fixture
def edge(shop: Any) -> Any:
    """A gateway proxy in namespace shop that the labels `istio: edge` select."""
    shop.connect("edge-1", labels={"istio": "edge"}, kind=ProxyKind.GATEWAY)
    return shop


def gateway(servers: str, name: str = "gw", namespace: str = "shop", created: str = "1") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec:
  selector: {{istio: edge}}
  servers: [{servers}]
---
"""


def http(hosts: str = '"*"', port: int = 80, more: str = "") -> str:
    return f"{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: [{hosts}]{more}}}"


def https(hosts: str, tls: str, port: int = 443, name: str = "https", protocol: str = "HTTPS") -> str:
    return f"{{port: {{number: {port}, name: {name}, protocol: {protocol}}}, hosts: [{hosts}], tls: {{{tls}}}}}"


def virtual(
    rules: str, name: str = "vs", hosts: str = '"*"', bound: str = "gw", created: str = "1", ns: str = "shop"
) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {ns}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec:
  hosts: [{hosts}]
  gateways: [{bound}]
  {rules}
---
"""


TO_REVIEWS = f"http: [{{route: [{{destination: {{host: {REVIEWS}}}}}]}}]"


def servers(mesh: Any) -> Any:
    return mesh.only("gateways").servers


def domains(server: Any) -> list[tuple[str, ...]]:
    return [host.domains for host in server.virtual_hosts]


def test_a_sidecar_has_no_servers(shop: Any) -> None:
    shop.connect()
    shop.apply(gateway(http()))
    assert len(shop.graph.table("gateways")) == 0


def test_a_gateway_routes_what_virtual_services_bound_to_it_say(edge: Any) -> None:
    edge.apply(gateway(http()) + virtual(TO_REVIEWS, hosts="shop.example.org"))
    (server,) = servers(edge)
    (host,) = server.virtual_hosts
    assert (server.name, server.port, server.is_http) == ("http.80", 80, True)
    assert (host.name, host.domains) == ("shop.example.org:80", ("shop.example.org",))
    assert host.routes[0].action.targets[0].target.host == REVIEWS
    assert [ref.name for ref in server.refs] == ["gw"]
    assert [source.ref.name for source in host.sources] == ["vs"]


def test_a_gateway_of_other_labels_is_not_for_this_proxy(edge: Any) -> None:
    edge.apply(gateway(http()).replace("istio: edge", "istio: other"))
    assert servers(edge) == ()


def test_a_gateway_without_virtual_services_listens_all_the_same(edge: Any) -> None:
    edge.apply(gateway(http()))
    assert servers(edge)[0].virtual_hosts == ()


@pytest.mark.parametrize(
    ("offered", "wanted", "common"),
    [
        ('"*"', "a.example.org", ["a.example.org"]),
        ('"*.example.org"', "a.example.org", ["a.example.org"]),
        ("a.example.org", '"*.example.org"', ["a.example.org"]),
        ('"*.example.org"', '"*"', ["*.example.org"]),
        ("a.example.org", "b.example.org", []),
        ("shop/a.example.org", "a.example.org", ["a.example.org"]),
        ("./a.example.org", "a.example.org", ["a.example.org"]),
        ("bank/a.example.org", "a.example.org", []),
        ('"*/a.example.org"', "a.example.org", ["a.example.org"]),
    ],
)
def test_hosts_are_those_that_both_name(edge: Any, offered: str, wanted: str, common: list[str]) -> None:
    edge.apply(gateway(http(offered)) + virtual(TO_REVIEWS, hosts=wanted))
    assert domains(servers(edge)[0]) == [(host,) for host in common]


def test_a_virtual_service_names_gateways_of_its_namespace_shortly_and_others_in_full(edge: Any) -> None:
    edge.apply(
        gateway(http())
        + virtual(TO_REVIEWS, "here", "a.example.org", "gw")
        + virtual(TO_REVIEWS, "there", "b.example.org", "shop/gw", ns="bank")
        + virtual(TO_REVIEWS, "wrong", "c.example.org", "gw", ns="bank")
    )
    assert domains(servers(edge)[0]) == [("a.example.org",), ("b.example.org",)]


def test_a_virtual_service_that_the_gateway_may_not_see_is_not_routed(edge: Any) -> None:
    edge.apply(gateway(http()) + virtual(f'exportTo: ["."]\n  {TO_REVIEWS}', bound="shop/gw", ns="bank"))
    assert domains(servers(edge)[0]) == []


def test_several_virtual_services_for_a_host_are_put_together_with_the_catch_all_last(edge: Any) -> None:
    edge.apply(
        gateway(http())
        + virtual(TO_REVIEWS, "old")
        + virtual(TO_REVIEWS.replace("[{route", "[{match: [{uri: {prefix: /a}}], route"), "young", created="2")
    )
    (host,) = servers(edge)[0].virtual_hosts
    assert [route.source.ref.name for route in host.routes] == ["young", "old"]
    assert edge.problems() == {}


def test_a_second_rule_for_everything_is_told_to_be_unreachable(edge: Any) -> None:
    edge.apply(gateway(http()) + virtual(TO_REVIEWS, "old") + virtual(TO_REVIEWS, "young", created="2"))
    assert edge.problems()["UnreachableRule"].ref.name == "young"


def test_plaintext_servers_of_one_port_are_one(edge: Any) -> None:
    edge.apply(
        gateway(http("a.example.org"), "one")
        + gateway(http("b.example.org"), "two", created="2")
        + virtual(TO_REVIEWS, hosts='"*"', bound="one, two")
    )
    (server,) = servers(edge)
    assert domains(server) == [("a.example.org",), ("b.example.org",)]
    assert [ref.name for ref in server.refs] == ["one", "two"]


def test_a_server_listens_on_the_target_port_of_the_gateways_service(edge: Any) -> None:
    edge.apply("""
    apiVersion: v1
    kind: Service
    metadata: {name: edge}
    spec: {selector: {istio: edge}, ports: [{name: http, port: 80, targetPort: 8080}]}
    """)
    edge.apply(gateway(http()) + virtual(TO_REVIEWS.replace("[{route", "[{match: [{port: 80}], route")))
    (server,) = servers(edge)
    assert (server.name, server.port, len(server.virtual_hosts[0].routes)) == ("http.8080", 8080, 1)


def test_a_redirect_to_https_needs_no_virtual_service(edge: Any) -> None:
    edge.apply(gateway(http("a.example.org", more=", tls: {httpsRedirect: true}")))
    (server,) = servers(edge)
    assert server.https_redirect
    assert [(host.domains, host.require_tls) for host in server.virtual_hosts] == [(("a.example.org",), True)]


def test_https_is_served_with_a_credential_of_the_gateways_namespace(edge: Any) -> None:
    edge.hold("cert")
    edge.apply(gateway(https("a.example.org", "mode: SIMPLE, credentialName: cert")) + virtual(TO_REVIEWS))
    (server,) = servers(edge)
    assert (server.name, server.hosts, server.is_http) == ("https.443.https.gw.shop", ("a.example.org",), True)
    assert (server.tls.mode, server.tls.credentials) == (ServerTlsMode.SIMPLE, ("kubernetes://shop/cert",))
    assert domains(server) == [("a.example.org",)]


def test_clients_certificates_are_checked_with_the_ca_of_the_credential(edge: Any) -> None:
    edge.hold("cert", ca=True)
    edge.apply(gateway(https("a.example.org", "mode: MUTUAL, credentialName: cert, minProtocolVersion: TLSV1_3")))
    (server,) = servers(edge)
    assert server.tls.ca_credential == "kubernetes://shop/cert-cacert"
    assert server.tls.min_version == "TLSV1_3"


def test_all_certificates_in_files_and_all_that_is_asked_of_clients_is_the_servers(edge: Any) -> None:
    files = "{serverCertificate: /rsa.crt, privateKey: /rsa.key}, {serverCertificate: /ec.crt, privateKey: /ec.key}"
    digests = f"verifyCertificateSpki: [{'A' * 43}=], verifyCertificateHash: [{'ab' * 32}], caCrl: /revoked.pem"
    tls = f"mode: MUTUAL, tlsCertificates: [{files}], caCertificates: /ca.crt, {digests}"
    edge.apply(gateway(https("a.example.org", tls)))
    (server,) = servers(edge)
    assert (server.tls.certificate_file, server.tls.more_files) == ("/rsa.crt", (("/ec.crt", "/ec.key"),))
    assert (server.tls.ca_file, server.tls.revoked_file) == ("/ca.crt", "/revoked.pem")
    assert (server.tls.key_digests, server.tls.certificate_digests) == (("A" * 43 + "=",), ("ab" * 32,))
    assert edge.problems() == {}


def test_cipher_suites_that_nobody_knows_are_left_out_and_told(edge: Any) -> None:
    edge.hold("cert")
    alike = "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]"
    suites = f"cipherSuites: [SECRET-SAUCE, ECDHE-RSA-AES128-GCM-SHA256, '{alike}']"
    edge.apply(gateway(https("a.example.org", f"mode: SIMPLE, credentialName: cert, {suites}")))
    assert servers(edge)[0].tls.cipher_suites == ("ECDHE-RSA-AES128-GCM-SHA256", alike)
    assert edge.problems()["UnknownCipherSuite"].path == "spec.servers[0].tls.cipherSuites[0]"


@pytest.mark.parametrize("reverse", [False, True])
def test_who_wins_a_port_does_not_depend_on_who_came_first(edge: Any, reverse: bool) -> None:
    edge.hold("cert")
    tls = "mode: SIMPLE, credentialName: cert"
    written = [
        gateway(https("a.example.org", tls), "old", created="1"),
        gateway(https("a.example.org, b.example.org", tls), "young", created="2"),
        gateway('{port: {number: 443, name: tcp, protocol: TCP}, hosts: ["*"]}', "youngest", created="3"),
    ]
    for each in reversed(written) if reverse else written:
        edge.apply(each)
    assert [(server.refs[0].name, server.hosts) for server in servers(edge)] == [("old", ("a.example.org",))]
    told = [problem for problem in edge.graph.problems() if problem.code == "ServerConflict"]
    assert sorted((problem.ref.name, problem.path) for problem in told) == [
        ("young", "spec.servers[0].hosts"),
        ("youngest", "spec.servers[0].port"),
    ]


def test_a_server_without_its_credential_is_not_run_until_it_comes(edge: Any) -> None:
    edge.apply(gateway(f"{https('a.example.org', 'mode: SIMPLE, credentialName: cert')}, {http()}"))
    assert [server.name for server in servers(edge)] == ["http.80"]
    assert edge.problems()["CredentialNotFound"].path == "spec.servers[0].tls.credentialName"
    edge.hold("cert")
    assert [server.name for server in servers(edge)] == ["http.80", "https.443.https.gw.shop"]
    assert edge.problems() == {}


def test_a_credential_without_a_ca_cannot_check_clients(edge: Any) -> None:
    edge.hold("cert")
    edge.apply(gateway(https("a.example.org", "mode: MUTUAL, credentialName: cert")))
    assert servers(edge) == ()
    assert "InvalidCredential" in edge.problems()


@pytest.mark.parametrize("written", ["shop/cert", "kubernetes://cert", "kubernetes://shop/cert"])
def test_a_credential_of_the_gateways_own_namespace_may_be_named_with_it(edge: Any, written: str) -> None:
    edge.hold("cert")
    edge.apply(gateway(https("a.example.org", f"mode: SIMPLE, credentialName: {written}")))
    assert [server.tls.credentials for server in servers(edge)] == [("kubernetes://shop/cert",)]
    assert edge.problems() == {}


@pytest.mark.parametrize(
    "written",
    [
        "credentialName: bank/cert",
        "credentialName: kubernetes://bank/cert",
        "credentialName: kubernetes-gateway://shop/cert",
        "credentialNames: [cert, bank/cert]",
        "credentialName: cert, caCertCredentialName: bank/cert",
    ],
)
def test_a_credential_of_another_namespace_is_not_for_the_gateway(edge: Any, written: str) -> None:
    edge.hold("cert")
    edge.apply(gateway(https("a.example.org", f"mode: MUTUAL, {written}"), namespace="bank"))
    assert servers(edge) == ()
    problem = edge.problems()["CredentialNotAllowed"]
    assert problem.path == "spec.servers[0].tls.credentialName"
    assert "is not a Secret of namespace shop, where the gateway runs" in problem.message


def test_tls_servers_share_a_port_by_server_name(edge: Any) -> None:
    edge.hold("cert")
    tls = "mode: SIMPLE, credentialName: cert"
    edge.apply(
        gateway(https("a.example.org", tls), "one")
        + gateway(https("b.example.org", tls), "two", created="2")
        + gateway(https("a.example.org", tls), "three", created="3")
    )
    assert [server.hosts for server in servers(edge)] == [("a.example.org",), ("b.example.org",)]
    problem = edge.problems()["ServerConflict"]
    assert (problem.ref.name, problem.path) == ("three", "spec.servers[0].hosts")


def test_http_and_tls_cannot_share_a_port(edge: Any) -> None:
    edge.apply(
        gateway(http(), "old")
        + gateway(https("a.example.org", "mode: PASSTHROUGH", 80, protocol="TLS"), "young", created="2")
    )
    assert [server.name for server in servers(edge)] == ["http.80"]
    assert edge.problems()["ServerConflict"].ref.name == "young"


def test_tls_is_passed_through_by_server_name(edge: Any) -> None:
    rules = "tls: [{match: [{port: 443, sniHosts: [a.example.org]}], route: [{destination: {host: reviews}}]}]"
    edge.apply(
        gateway(https("a.example.org", "mode: PASSTHROUGH", protocol="TLS")) + virtual(rules, hosts="a.example.org")
    )
    (server,) = servers(edge)
    assert server.passes
    (route,) = server.tcp_routes
    assert route.match == TcpMatch(sni_hosts=("a.example.org",))
    assert route.targets[0].target.host == REVIEWS


def test_connections_are_passed_on(edge: Any) -> None:
    edge.apply(
        gateway('{port: {number: 7000, name: tcp, protocol: TCP}, hosts: ["*"]}')
        + virtual("tcp: [{match: [{port: 7000}], route: [{destination: {host: ledger.bank.svc.cluster.local}}]}]")
    )
    (server,) = servers(edge)
    assert (server.name, server.is_http) == ("tcp.7000.tcp.gw.shop", False)
    assert server.tcp_routes[0].targets[0].target.port == 7000


def test_a_destination_that_does_not_exist_is_a_problem_of_the_virtual_service(edge: Any) -> None:
    edge.apply(gateway(http()) + virtual(TO_REVIEWS.replace("reviews", "nowhere")))
    assert edge.problems()["HostNotFound"].path == "spec.http[0].route[0].destination.host"


def test_a_protocol_that_gateways_do_not_know_is_a_problem(edge: Any) -> None:
    edge.apply(gateway(http().replace("HTTP", "SMOKE")))
    assert servers(edge) == ()
    assert edge.problems()["UnknownProtocol"].path == "spec.servers[0].port.protocol"


def test_mutual_tls_crosses_a_gateway_without_virtual_services(edge: Any) -> None:
    edge.apply(gateway(https('"*.local"', "mode: AUTO_PASSTHROUGH", 15443, "tls", "TLS")))
    (server,) = servers(edge)
    assert (server.name, server.hosts, server.is_crossed) == ("tls.15443.tls.gw.shop", ("*.local",), True)
    assert (server.is_http, server.tcp_routes, server.virtual_hosts) == (False, (), ())
    assert edge.problems() == {}


# === HTTP/3 ===


def with_http3(written: str, said: str = "true") -> str:
    return written.replace("metadata: {", f"metadata: {{annotations: {{meltemi.dev/http3: '{said}'}}, ")


def test_https_servers_speak_http3_where_an_annotation_asks_for_it(edge: Any) -> None:
    edge.hold("cert")
    tls = "mode: SIMPLE, credentialName: cert"
    written = gateway(f"{http()}, {https('a.example.org', tls)}, {https('raw.example.org', 'mode: PASSTHROUGH')}")
    edge.apply(with_http3(written) + virtual(TO_REVIEWS))
    assert {server.hosts: server.http3_port for server in servers(edge)} == {("*",): 0, ("a.example.org",): 443}
    edge.apply(with_http3(written, "false"))
    assert not any(server.http3_port for server in servers(edge))
    assert edge.problems() == {}


def test_a_server_without_tls_13_cannot_speak_http3(edge: Any) -> None:
    edge.hold("cert")
    tls = "mode: SIMPLE, credentialName: cert, maxProtocolVersion: TLSV1_2"
    edge.apply(with_http3(gateway(https("a.example.org", tls))))
    assert [server.http3_port for server in servers(edge)] == [0]
    assert edge.problems()["Http3NotServed"].path == "spec.servers[0].tls.maxProtocolVersion"


def test_a_gateway_that_opens_no_tls_is_told_that_it_cannot_speak_http3(edge: Any) -> None:
    edge.apply(with_http3(gateway(http())))
    assert edge.problems()["Http3NotServed"].path == "metadata.annotations[meltemi.dev/http3]"
