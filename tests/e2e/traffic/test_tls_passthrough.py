"""TLS that applications bring themselves: carried as it is, routed by the name in its first message."""

from __future__ import annotations

import pytest

from meltemi.testing.certificates import Issuer

from .town import Policies, Town

pytestmark = pytest.mark.usefixtures("tls_servers")


def test_the_servers_own_certificate_reaches_the_client(town: Town, issuer: Issuer) -> None:
    for port in (8443, 9443):
        reply = town.caller.get(f"https://vault:{port}/", trusted=issuer.certificate)
        assert (reply.status, reply.echo.sni) == (200, "vault")
        assert "vault.example" in reply.names
        # Nobody between could look inside.
        assert "x-forwarded-client-cert" not in reply.echo.headers
    reply = town.caller.get("h2s://safe.abroad.svc.cluster.local:8443/", trusted=issuer.certificate)
    assert (reply.status, reply.echo.protocol) == (200, "HTTP/2")


def test_a_connection_goes_where_its_name_is_routed(policies: Policies, town: Town, issuer: Issuer) -> None:
    policies.write(
        "VirtualService",
        "vault",
        """
        hosts: [vault, vault.example, safe.example]
        tls:
          - match: [{port: 8443, sniHosts: [safe.example]}]
            route: [{destination: {host: safe.abroad.svc.cluster.local, port: {number: 8443}}}]
          - match: [{port: 8443, sniHosts: [vault, vault.example]}]
            route: [{destination: {host: vault, port: {number: 8443}}}]
        """,
    )
    for name, pod in (("vault.example", "vault"), ("safe.example", "safe")):
        reply = town.caller.get("https://vault:8443/", sni=name, trusted=issuer.certificate)
        assert reply.echo.sni == name
        assert reply.echo.pod.startswith(f"{pod}-")
