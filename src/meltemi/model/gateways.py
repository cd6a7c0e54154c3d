"""Gateways: listeners at the edge of the mesh, and what is routed through them."""

from __future__ import annotations

import enum

import msgspec

from meltemi.base.refs import Ref
from meltemi.model.routes import TcpRoute, VirtualHost
from meltemi.model.services import Protocol


class ServerTlsMode(enum.StrEnum):
    """How a gateway treats TLS (Istio `ServerTLSSettings.TLSmode`)."""

    PASSTHROUGH = "PASSTHROUGH"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    OPTIONAL_MUTUAL = "OPTIONAL_MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"


class ServerTls(msgspec.Struct, frozen=True, kw_only=True):
    """TLS of a gateway's server. Credentials are names: keys are never part of the model.

    `credentials` are secret names as the xDS server serves them (`kubernetes://<namespace>/<name>`); `ca_credential` is
    the name of the bundle that client certificates are checked with. Files are paths that the proxy can read; `more_files`
    are further certificates, each with its key. `key_digests` (of public keys, in base64) and `certificate_digests` (in
    hexadecimal digits), both SHA-256, say which client certificates are taken: one that any of the two lists names.
    `revoked_file` lists certificates that are not.
    """

    mode: ServerTlsMode
    credentials: tuple[str, ...] = ()
    ca_credential: str = ""
    certificate_file: str = ""
    private_key_file: str = ""
    more_files: tuple[tuple[str, str], ...] = ()
    ca_file: str = ""
    revoked_file: str = ""
    key_digests: tuple[str, ...] = ()
    certificate_digests: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    min_version: str = ""
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()


class GatewayServer(msgspec.Struct, frozen=True, kw_only=True):
    """One server of a Gateway resource as it stands on one view: an HTTP or a TLS/TCP server of one port.

    HTTP servers in plaintext that share a port are merged into one whose virtual hosts are the union. `hosts` are the
    server names of a TLS server. Exactly one of `virtual_hosts` (HTTP, HTTPS terminated) and `tcp_routes` is in use, and neither
    where mutual TLS of the mesh crosses it. Where `http3_port` is not 0, requests are taken over QUIC as well, on the same
    port of UDP, and clients are told that they find it there: at that port, which is the one that they know.
    `name` is unique on the view: the route configuration is called `http.<port>` or
    `https.<port>.<port name>.<gateway>.<namespace>`.
    """

    name: str
    port: int
    protocol: Protocol
    bind: str = ""
    hosts: tuple[str, ...] = ()
    tls: ServerTls | None = None
    https_redirect: bool = False
    http3_port: int = 0
    virtual_hosts: tuple[VirtualHost, ...] = ()
    tcp_routes: tuple[TcpRoute, ...] = ()
    refs: tuple[Ref, ...] = ()

    @property
    def is_http(self) -> bool:
        """Whether requests are routed one by one."""
        return self.protocol.is_http or (self.protocol is Protocol.HTTPS and self.tls is not None and not self.passes)

    @property
    def passes(self) -> bool:
        """Whether TLS is passed through unopened."""
        return self.tls is not None and self.tls.mode in (ServerTlsMode.PASSTHROUGH, ServerTlsMode.AUTO_PASSTHROUGH)

    @property
    def is_crossed(self) -> bool:
        """Whether mutual TLS of the mesh crosses it, each connection to the service that its server name tells."""
        return self.tls is not None and self.tls.mode is ServerTlsMode.AUTO_PASSTHROUGH


class Crossings(msgspec.Struct, frozen=True):
    """The audiences in which there are gateways that mutual TLS of the mesh crosses, by key."""

    audiences: frozenset[str] = frozenset()


class GatewayConfig(msgspec.Struct, frozen=True):
    """All servers of a gateway's view, sorted by port and name. `key` in its table: the view's."""

    view: str
    servers: tuple[GatewayServer, ...] = ()
