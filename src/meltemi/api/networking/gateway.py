"""Gateway: what a proxy at the edge listens for. Source: Istio `networking/v1alpha3/gateway.proto`."""

from __future__ import annotations

from typing import Literal

from meltemi.api.meta import MeshResource, Part
from meltemi.api.scalars import Port, PortOrZero

ServerTlsMode = Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"]
TlsVersion = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]

HTTP3 = "meltemi.dev/http3"
"""The annotation with which a Gateway asks that its HTTPS servers speak HTTP/3 as well: `"true"` or `"false"`."""


class ServerPort(Part, frozen=True, kw_only=True):
    """A port to listen on, with its protocol (Istio `Port`). `target_port` is deprecated."""

    number: Port
    protocol: str
    name: str = ""
    target_port: PortOrZero = 0


class TlsCertificate(Part, frozen=True, kw_only=True):
    """One of several certificates, by files."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


class ServerTlsSettings(Part, frozen=True, kw_only=True):
    """TLS towards clients (Istio `ServerTLSSettings`): files, or credentials by the names of Secrets."""

    https_redirect: bool = False
    mode: ServerTlsMode = "PASSTHROUGH"
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str = ""
    tls_certificates: tuple[TlsCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TlsVersion = "TLS_AUTO"
    max_protocol_version: TlsVersion = "TLS_AUTO"
    cipher_suites: tuple[str, ...] = ()


class Server(Part, frozen=True, kw_only=True):
    """A port with the hosts served there. A host may be `namespace/host`, `./host` or `*/host`."""

    port: ServerPort
    hosts: tuple[str, ...]
    bind: str = ""
    tls: ServerTlsSettings | None = None
    default_endpoint: str = ""
    name: str = ""


class GatewaySpec(Part, frozen=True, kw_only=True):
    """The servers, and the labels of the proxies that run them."""

    servers: tuple[Server, ...] = ()
    selector: dict[str, str] = {}


class Gateway(MeshResource, frozen=True, kw_only=True):
    """A load balancer at the edge of the mesh."""

    spec: GatewaySpec = GatewaySpec()
