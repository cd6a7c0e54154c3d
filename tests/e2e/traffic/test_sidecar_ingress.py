"""Sidecar: ports that the proxy serves otherwise than services say, its own TLS, and bounds on what comes in."""

from __future__ import annotations

from meltemi.testing.certificates import Issuer
from meltemi.testing.mesh import eventually

from .town import TOWN, Policies, Town, secret

INGRESS = """
workloadSelector: {{labels: {{app: books, version: v2}}}}
ingress: [{listener}]
egress: [{{hosts: ["*/*"]}}]
"""


def ingress(policies: Policies, listener: str) -> None:
    """One port of books v2 as a Sidecar has it."""
    policies.write("Sidecar", "books", INGRESS.format(listener=listener))


def test_requests_beyond_the_pool_of_a_port_are_refused_by_the_server(policies: Policies, town: Town) -> None:
    ingress(
        policies,
        """{
        port: {number: 8080, protocol: HTTP, name: http},
        connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}
        }""",
    )
    url = f"http://{town.v2.ip}:8080/?delay=0.5"
    replies = eventually(
        lambda: town.stranger.many(url, count=8, at_once=8),
        lambda replies: replies.statuses.keys() == {200, 503},
    )
    assert replies.statuses[200] <= 3


def test_a_port_that_is_not_captured_is_the_proxys_own(policies: Policies, town: Town) -> None:
    ingress(
        policies,
        "{port: {number: 7777, protocol: HTTP, name: http}, captureMode: NONE, defaultEndpoint: '127.0.0.1:8081'}",
    )
    reply = eventually(
        lambda: town.stranger.get(f"http://{town.v2.ip}:7777/"),
        lambda reply: reply.status == 200,
    )
    assert reply.echo.pod == town.v2.name
    assert reply.echo.peer == "127.0.0.1"
    listeners = town.mesh.proxy_config(f"{town.v2.name}.{TOWN}", "listeners")
    assert f"{town.v2.ip}_7777" in {row.name for row in listeners}


def test_a_port_may_end_tls_of_its_own(policies: Policies, town: Town, issuer: Issuer) -> None:
    policies.apply([secret("books-own", TOWN, issuer.server("books.example"))])
    policies.write(
        "PeerAuthentication",
        "books",
        "{selector: {matchLabels: {app: books, version: v2}}, portLevelMtls: {8443: {mode: DISABLE}}}",
    )
    ingress(
        policies,
        """{
        port: {number: 8443, protocol: HTTPS, name: https},
        defaultEndpoint: '127.0.0.1:8080',
        tls: {mode: SIMPLE, credentialName: books-own}
        }""",
    )
    reply = eventually(
        lambda: town.stranger.get(f"https://{town.v2.ip}:8443/"),
        lambda reply: reply.status == 200,
    )
    assert reply.echo.pod == town.v2.name
    assert reply.echo.sni == ""  # what the application saw was not TLS
