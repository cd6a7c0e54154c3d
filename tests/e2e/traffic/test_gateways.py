"""Gateway: what comes in from outside, in the clear and with every mode of TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from meltemi.api.networking.gateway import HTTP3
from meltemi.testing import workloads
from meltemi.testing.certificates import Issuer
from meltemi.testing.mesh import eventually

from ..http3_client import get_over_quic
from .outside import Visitor
from .town import Policies, Town, secret

EDGE = "edge"


TO_BOOKS = """
hosts: ["{host}"]
gateways: [front]
http: [{{route: [{{destination: {{host: books, port: {{number: 8080}}}}}}]}}]
"""


@pytest.fixture(scope="module")
def visit(town: Town) -> Iterator[Visitor]:
    """An ingress gateway, and somebody outside of the mesh, on the machine itself, who comes to it."""
    with town.mesh.namespace(EDGE, {}):
        manifests = workloads.gateway("front", EDGE, {"http": 8080, "https": 8443})
        manifests[1]["spec"]["ports"].append({"name": "http3", "port": 8443, "protocol": "UDP"})
        town.mesh.deploy(manifests)
        ports = {number: town.mesh.outside_port(EDGE, "front", number) for number in (8080, 8443)}
        yield Visitor(ports)


def write_gateway(policies: Policies, servers: str) -> None:
    """A Gateway in the town, for the pods of the edge."""
    policies.write("Gateway", "front", f"selector: {{istio: front}}\nservers: {servers}")


PLAIN = "[{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]"


def test_requests_from_outside_reach_the_service_through_mutual_tls(
    policies: Policies, town: Town, visit: Visitor
) -> None:
    write_gateway(policies, PLAIN)
    policies.write("VirtualService", "books", TO_BOOKS.format(host="*"))
    assert [visit.get("http://books.example/").status for _ in range(9)] == [200] * 9
    policies.write("PeerAuthentication", "default", "{mtls: {mode: STRICT}}")
    assert [visit.get("http://books.example/").status for _ in range(9)] == [200] * 9
    echo = visit.get("http://books.example/shelf").echo
    assert (echo.path, echo.host) == ("/shelf", "books.example")
    assert "URI=spiffe://cluster.local/ns/edge/sa/front" in echo.headers["x-forwarded-client-cert"]


def test_hosts_that_nobody_serves_are_not_found(policies: Policies, town: Town, visit: Visitor) -> None:
    write_gateway(
        policies, "[{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*.example', 'town/exact.org']}]"
    )
    policies.write("VirtualService", "books", TO_BOOKS.format(host="books.example"))
    policies.write("VirtualService", "exact", TO_BOOKS.format(host="exact.org"))
    assert visit.get("http://books.example/").status == 200
    assert visit.get("http://exact.org/").status == 200
    assert visit.get("http://other.example/").status == 404
    assert visit.get("http://elsewhere.org/").status == 404


def test_routes_of_a_gateway_have_all_that_routes_have(policies: Policies, town: Town, visit: Visitor) -> None:
    write_gateway(policies, PLAIN)
    policies.write("DestinationRule", "books", "{host: books, subsets: [{name: v2, labels: {version: v2}}]}")
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: ["*"]
        gateways: [front]
        http:
          - match: [{uri: {prefix: /new}, headers: {x-reader: {exact: ada}}}]
            rewrite: {uri: /shelf}
            headers: {request: {set: {x-edge: "yes"}}}
            route: [{destination: {host: books, subset: v2, port: {number: 8080}}}]
          - match: [{uri: {exact: /closed}}]
            fault: {abort: {httpStatus: 410, percentage: {value: 100}}}
            route: [{destination: {host: books, port: {number: 8080}}}]
          - match: [{uri: {exact: /moved}}]
            redirect: {uri: /here}
        """,
    )
    echo = visit.get("http://books.example/new/one", {"x-reader": "ada"}).echo
    assert (echo.version, echo.path, echo.headers["x-edge"]) == ("v2", "/shelf/one", "yes")
    assert visit.get("http://books.example/closed").status == 410
    moved = visit.get("http://books.example/moved")
    assert (moved.status, moved.headers["location"]) == (301, "http://books.example/here")
    assert visit.get("http://books.example/").status == 404


def test_a_websocket_and_grpc_come_in_from_outside(policies: Policies, town: Town, visit: Visitor) -> None:
    write_gateway(policies, PLAIN)
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: ["*"]
        gateways: [front]
        http:
          - match: [{uri: {prefix: /echo/}}]
            route: [{destination: {host: books, port: {number: 7070}}}]
          - route: [{destination: {host: books, port: {number: 8080}}}]
        """,
    )
    chat = visit.get("ws://books.example/chat", messages=("a", "b"))
    assert [line.split()[-1] for line in chat.messages] == ["a", "b"]
    for kind, count in (("unary", 1), ("server", 3), ("client", 1), ("bidi", 2)):
        reply = visit.get("grpc://books.example", kind=kind, messages=("a", "b"))
        assert (reply.status, len(reply.messages)) == (0, count)


def test_https_is_ended_at_the_gateway_with_the_certificate_of_a_secret(
    policies: Policies, town: Town, visit: Visitor, issuer: Issuer
) -> None:
    policies.apply([secret("books-tls", EDGE, issuer.server("books.example"))])
    policies.apply([secret("maps-tls", EDGE, issuer.server("maps.example"))])
    write_gateway(
        policies,
        """
        - port: {number: 8443, name: https-books, protocol: HTTPS}
          tls: {mode: SIMPLE, credentialName: books-tls}
          hosts: [books.example]
        - port: {number: 8443, name: https-maps, protocol: HTTPS}
          tls: {mode: SIMPLE, credentialName: maps-tls}
          hosts: [maps.example]
        """.rstrip(),
    )
    policies.write("VirtualService", "books", TO_BOOKS.format(host="books.example"))
    policies.write("VirtualService", "maps", TO_BOOKS.format(host="maps.example"))
    for scheme, name, protocol in (
        ("https", "books.example", "HTTP/1.1"),
        ("h2s", "books.example", "HTTP/2"),
        ("https", "maps.example", "HTTP/1.1"),
    ):
        reply = visit.get(f"{scheme}://{name}/", trusted=issuer.certificate)
        assert (reply.status, reply.protocol, reply.names) == (200, protocol, (name,))
        assert reply.echo.headers["x-forwarded-proto"] == "https"
    assert visit.get("https://other.example/").error


def test_http3_is_announced_and_reached_from_outside(
    policies: Policies, town: Town, visit: Visitor, issuer: Issuer
) -> None:
    policies.apply([secret("books-tls", EDGE, issuer.server("books.example"))])
    server = "port: {number: 8443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: books-tls}"
    spec = f"{{selector: {{istio: front}}, servers: [{{{server}, hosts: ['*']}}]}}"
    policies.write("Gateway", "front", spec, annotations={HTTP3: "true"})
    policies.write("VirtualService", "books", TO_BOOKS.format(host="books.example"))
    told = visit.get("h2s://books.example/", trusted=issuer.certificate)
    assert told.headers["alt-svc"] == 'h3=":8443"; ma=86400'
    answer = asyncio.run(get_over_quic("books.example", visit.port(8443), issuer.certificate))
    assert answer[":status"] == "200"


def test_a_renewed_certificate_is_shown_without_a_restart(
    policies: Policies, town: Town, visit: Visitor, issuer: Issuer
) -> None:
    policies.apply([secret("books-tls", EDGE, issuer.server("books.example"))])
    servers = "[{port: {number: 8443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: books-tls}, hosts: ['*']}]"
    write_gateway(policies, servers)
    policies.write("VirtualService", "books", TO_BOOKS.format(host="*"))
    assert visit.get("https://books.example/", trusted=issuer.certificate).status == 200
    other = Issuer("another authority")
    policies.apply([secret("books-tls", EDGE, other.server("books.example"))])
    eventually(
        lambda: visit.get("https://books.example/", trusted=other.certificate), lambda reply: reply.status == 200
    )
    assert visit.get("https://books.example/", trusted=issuer.certificate).error


def test_mutual_asks_visitors_for_a_certificate(policies: Policies, town: Town, visit: Visitor, issuer: Issuer) -> None:
    policies.apply([secret("books-tls", EDGE, issuer.server("books.example"), issuer.certificate)])
    servers = "[{port: {number: 8443, name: https, protocol: HTTPS}, tls: {mode: MUTUAL, credentialName: books-tls}, hosts: ['*']}]"
    write_gateway(policies, servers)
    policies.write("VirtualService", "books", TO_BOOKS.format(host="*"))
    ada = issuer.client("ada.example")
    known = {"trusted": issuer.certificate, "certificate": ada.certificate, "key": ada.key}
    assert visit.get("https://books.example/", **known).status == 200
    assert visit.get("https://books.example/", trusted=issuer.certificate).error
    forged = Issuer("nobody").client("ada.example")
    assert visit.get("https://books.example/", certificate=forged.certificate, key=forged.key).error


@pytest.mark.usefixtures("tls_servers")
def test_passthrough_leaves_tls_to_the_server_that_the_name_leads_to(
    policies: Policies, town: Town, visit: Visitor, issuer: Issuer
) -> None:
    write_gateway(
        policies,
        "[{port: {number: 8443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: [vault.example, safe.example]}]",
    )
    policies.write(
        "VirtualService",
        "vault",
        """
        hosts: [vault.example, safe.example]
        gateways: [front]
        tls:
          - match: [{port: 8443, sniHosts: [vault.example]}]
            route: [{destination: {host: vault, port: {number: 8443}}}]
          - match: [{port: 8443, sniHosts: [safe.example]}]
            route: [{destination: {host: safe.abroad.svc.cluster.local, port: {number: 8443}}}]
        """,
    )
    for name in ("vault", "safe"):
        reply = visit.get(f"https://{name}.example/", trusted=issuer.certificate)
        assert (reply.status, reply.echo.sni) == (200, f"{name}.example")
        assert reply.echo.pod.startswith(f"{name}-")
    assert visit.get("https://other.example/").error


def test_mutual_tls_of_the_mesh_crosses_a_gateway_unopened(policies: Policies, town: Town, visit: Visitor) -> None:
    policies.write("PeerAuthentication", "default", "{mtls: {mode: STRICT}}")
    policies.write("DestinationRule", "books", "{host: books, subsets: [{name: v2, labels: {version: v2}}]}")
    write_gateway(
        policies,
        "[{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ['*.local']}]",
    )
    books = "books.town.svc.cluster.local"
    _beyond_the_gateway(policies, town, "far", f"outbound_.8080_._.{books}")
    _beyond_the_gateway(policies, town, "far2", f"outbound_.8080_.v2_.{books}")
    _beyond_the_gateway(policies, town, "hidden", f"outbound|8080||{books}")
    replies = [town.caller.get("http://far.example/") for _ in range(9)]
    assert [reply.status for reply in replies] == [200] * 9
    assert {reply.echo.pod for reply in replies} <= {pod.name for pod in town.books}
    assert "URI=spiffe://cluster.local/ns/town/sa/caller" in replies[0].echo.headers["x-forwarded-client-cert"]
    replies = [town.caller.get("http://far2.example/") for _ in range(9)]
    assert {(reply.status, reply.echo.pod) for reply in replies} == {(200, town.v2.name)}
    # A cluster of the gateway's, but not one that a server name may choose.
    assert town.caller.get("http://hidden.example/").status == 503


def _beyond_the_gateway(policies: Policies, town: Town, name: str, server_name: str) -> None:
    """A host that is reached through the gateway, with mutual TLS all the way to the books."""
    [front] = [pod["status"]["podIP"] for pod in town.mesh.all("Pod", EDGE, "istio=front")]
    policies.write(
        "ServiceEntry",
        name,
        f"""
        hosts: [{name}.example]
        addresses: [240.1.1.{len(name)}]
        location: MESH_INTERNAL
        resolution: STATIC
        ports: [{{number: 80, name: http, protocol: HTTP}}]
        endpoints: [{{address: {front}, ports: {{http: 15443}}}}]
        """,
    )
    books = "spiffe://cluster.local/ns/town/sa/books"
    tls = f"{{mode: ISTIO_MUTUAL, sni: {server_name}, subjectAltNames: ['{books}']}}"
    policies.write("DestinationRule", name, f"{{host: {name}.example, trafficPolicy: {{tls: {tls}}}}}")


def test_plain_requests_are_sent_to_https(policies: Policies, town: Town, visit: Visitor) -> None:
    write_gateway(
        policies,
        "[{port: {number: 8080, name: http, protocol: HTTP}, tls: {httpsRedirect: true}, hosts: ['*']}]",
    )
    policies.write("VirtualService", "books", TO_BOOKS.format(host="*"))
    reply = visit.get("http://books.example/shelf?n=1")
    assert reply.status == 301
    assert reply.headers["location"] == "https://books.example/shelf?n=1"


def test_a_route_may_hold_for_the_gateway_and_in_the_mesh(policies: Policies, town: Town, visit: Visitor) -> None:
    write_gateway(policies, PLAIN)
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books.town.svc.cluster.local]
        gateways: [front, mesh]
        http:
          - match: [{gateways: [front]}]
            headers: {request: {set: {x-by: gateway}}}
            route: [{destination: {host: books, port: {number: 8080}}}]
          - headers: {request: {set: {x-by: mesh}}}
            route: [{destination: {host: books, port: {number: 8080}}}]
        """,
    )
    host = {"host": "books.town.svc.cluster.local"}
    assert visit.get("http://any.example/", host).echo.headers["x-by"] == "gateway"
    assert town.caller.get("http://books.town:8080/").echo.headers["x-by"] == "mesh"


def test_visitors_are_authorized_at_the_gateway(policies: Policies, town: Town, visit: Visitor) -> None:
    write_gateway(policies, PLAIN)
    policies.write("VirtualService", "books", TO_BOOKS.format(host="*"))
    policies.write(
        "AuthorizationPolicy",
        "front",
        "{selector: {matchLabels: {istio: front}}, action: DENY, rules: [{to: [{operation: {paths: [/private/*]}}]}]}",
        namespace=EDGE,
    )
    eventually(lambda: visit.get("http://books.example/private/x"), lambda reply: reply.status == 403)
    assert visit.get("http://books.example/").status == 200
