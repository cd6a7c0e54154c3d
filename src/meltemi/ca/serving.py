"""The control plane's own certificate: issued in the process, renewed before it ends, without a restart.

It is asked for at every handshake (by gRPC, from a thread of its own). `ServingCertificate` answers with the one it has,
or a new one once half of its life has passed. Invariant: the private key lives in this process only.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import grpc
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority, private_pem

SERVICE_ACCOUNT = "meltemi"
DNS_NAMES = ("meltemi.istio-system.svc", "istiod.istio-system.svc")
"""The names under which clients reach the control plane: its own, and the one that Istio's agents look for."""

GRPC_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)
"""Options for every gRPC server that Envoys connect to: their keepalive pings (agent.bootstrap) are not abuse."""


def control_plane_identity(trust_domain: str, namespace: str = "istio-system") -> SpiffeId:
    """The identity that proxies and agents expect the control plane to prove."""
    return SpiffeId(trust_domain, namespace, SERVICE_ACCOUNT)


class ServerCertificate(msgspec.Struct, frozen=True):
    """A key and chain in use, and when to replace them."""

    key: bytes
    chain: bytes
    renew_at: datetime
    not_after: datetime

    def __repr__(self) -> str:
        return f"<ServerCertificate until {self.not_after}>"


class ServingCertificate:
    """The current certificate of the control plane. Safe to use from any thread."""

    def __init__(
        self,
        authority: Authority,
        identity: SpiffeId,
        clock: Callable[[], datetime],
        *,
        dns_names: Sequence[str] = DNS_NAMES,
        ttl: timedelta = timedelta(hours=24),
    ) -> None:
        self._authority = authority
        self._identity = identity
        self._clock = clock
        self._dns_names = tuple(dns_names)
        self._ttl = ttl
        self._lock = threading.Lock()
        self._current = issue_for_server(authority, identity, self._dns_names, ttl, clock())
        self._context: tuple[ServerCertificate, str, ssl.SSLContext] | None = None

    def current(self) -> ServerCertificate:
        """The certificate to serve with, renewed first if it is due."""
        now = self._clock()
        with self._lock:
            if now >= self._current.renew_at:
                self._current = issue_for_server(self._authority, self._identity, self._dns_names, self._ttl, now)
            return self._current

    def credentials(self, *, require_client: bool) -> grpc.ServerCredentials:
        """Credentials for a gRPC server: the renewed certificate from the next handshake on.

        With `require_client` a peer must prove an identity that the mesh's roots vouch for; without, none is asked for.
        """

        def configuration(served: ServerCertificate) -> grpc.ServerCertificateConfiguration:
            roots = self._authority.trust_bundle.encode() if require_client else None
            return grpc.ssl_server_certificate_configuration([(served.key, served.chain)], roots)

        given = self.current()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # gRPC replaces what handshakes are made with when it gets a configuration, while other handshakes are under
            # way, and has crashed doing so: it must get one only when there is a new one.
            nonlocal given
            served = self.current()
            if served is given:
                return None
            given = served
            return configuration(served)

        return grpc.dynamic_ssl_server_credentials(configuration(given), fetch, require_client)  # type: ignore[arg-type]

    def context(self) -> ssl.SSLContext:
        """TLS for one more connection over HTTP/2, whose peer must prove an identity that the mesh's roots vouch for."""
        served, roots = self.current(), self._authority.trust_bundle
        if self._context is None or self._context[0] is not served or self._context[1] != roots:
            self._context = (served, roots, mutual_tls(served, roots))
        return self._context[2]


def mutual_tls(served: ServerCertificate, roots: str) -> ssl.SSLContext:
    """A context that serves with a certificate, and asks for one that `roots` (PEM) vouch for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=roots)
    context.set_alpn_protocols(["h2"])
    # The module takes keys from files only: this one is in memory, and nobody else can open it.
    with os.fdopen(os.memfd_create("certificate", os.MFD_CLOEXEC), "wb") as file:
        file.write(served.key + served.chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


def issue_for_server(
    authority: Authority, identity: SpiffeId, dns_names: Sequence[str], ttl: timedelta, now: datetime
) -> ServerCertificate:
    """A fresh key with its certificate, to be renewed after half of its life."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue(key.public_key(), identity, ttl, now, dns_names)
    chain = "".join(issued.chain[:-1]).encode()
    return ServerCertificate(private_pem(key), chain, now + (issued.not_after - now) / 2, issued.not_after)
