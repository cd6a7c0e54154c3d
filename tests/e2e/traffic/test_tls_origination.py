"""DestinationRule: the sidecar speaks TLS to servers outside of the mesh."""

from __future__ import annotations

from pathlib import Path

import pytest

from meltemi.testing.certificates import Issuer

from .town import ABROAD, TOWN, Policies, Town, secret

pytestmark = pytest.mark.usefixtures("tls_servers")

SAFE = """
hosts: [safe.example]
addresses: [240.2.2.{number}]
location: MESH_EXTERNAL
resolution: STATIC
ports: [{{number: 8080, name: http, protocol: HTTP, targetPort: 8443}}]
endpoints: [{{address: {ip}}}]
"""


def declare(policies: Policies, town: Town, app: str) -> None:
    """Makes a TLS server known as safe.example, on a port for plain HTTP."""
    ip = town.mesh.pod(ABROAD, f"app={app}").ip
    policies.write("ServiceEntry", "safe", SAFE.format(number=1, ip=ip))


def test_plain_requests_leave_the_sidecar_as_tls(
    policies: Policies, town: Town, issuer: Issuer, tmp_path: Path
) -> None:
    declare(policies, town, "safe")
    authority = tmp_path / "ca.crt"
    authority.write_text(issuer.certificate)
    policies.write(
        "DestinationRule",
        "safe",
        f"{{host: safe.example, trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {authority}, sni: safe.example}}}}}}",
    )
    reply = town.caller.get("http://safe.example:8080/")
    assert reply.status == 200
    assert reply.echo.sni == "safe.example"
    assert reply.echo.pod.startswith("safe-")


def test_a_server_that_is_not_who_it_should_be_is_not_spoken_to(
    policies: Policies, town: Town, issuer: Issuer, tmp_path: Path
) -> None:
    declare(policies, town, "safe")
    authority = tmp_path / "ca.crt"
    authority.write_text(issuer.certificate)
    tls = f"mode: SIMPLE, caCertificates: {authority}, sni: safe.example, subjectAltNames: [other.example]"
    policies.write("DestinationRule", "safe", f"{{host: safe.example, trafficPolicy: {{tls: {{{tls}}}}}}}")
    assert town.caller.get("http://safe.example:8080/").status == 503
    authority.write_text(Issuer("somebody else").certificate)
    tls = f"mode: SIMPLE, caCertificates: {authority}, sni: safe.example"
    policies.write("DestinationRule", "safe", f"{{host: safe.example, trafficPolicy: {{tls: {{{tls}}}}}}}")
    assert town.caller.get("http://safe.example:8080/").status == 503


def test_a_client_certificate_from_files_opens_the_strongroom(
    policies: Policies, town: Town, issuer: Issuer, tmp_path: Path
) -> None:
    declare(policies, town, "strongroom")
    pair = issuer.client("caller.example")
    for name, text in (("ca.crt", issuer.certificate), ("tls.crt", pair.certificate), ("tls.key", pair.key)):
        (tmp_path / name).write_text(text)
    simple = f"mode: SIMPLE, caCertificates: {tmp_path}/ca.crt"
    policies.write("DestinationRule", "safe", f"{{host: safe.example, trafficPolicy: {{tls: {{{simple}}}}}}}")
    assert town.caller.get("http://safe.example:8080/").status == 503
    mutual = f"mode: MUTUAL, caCertificates: {tmp_path}/ca.crt, clientCertificate: {tmp_path}/tls.crt, privateKey: {tmp_path}/tls.key"
    policies.write("DestinationRule", "safe", f"{{host: safe.example, trafficPolicy: {{tls: {{{mutual}}}}}}}")
    assert town.caller.get("http://safe.example:8080/").status == 200


def test_a_client_certificate_from_a_secret_opens_the_strongroom(
    policies: Policies, town: Town, issuer: Issuer
) -> None:
    declare(policies, town, "strongroom")
    policies.apply([secret("pass", TOWN, issuer.client("caller.example"), issuer.certificate)])
    policies.write(
        "DestinationRule",
        "safe",
        """
        host: safe.example
        workloadSelector: {matchLabels: {app: caller}}
        trafficPolicy: {tls: {mode: MUTUAL, credentialName: pass}}
        """,
    )
    assert town.caller.get("http://safe.example:8080/").status == 200
