"""TLS contexts: mTLS of the mesh with certificates from the agent, and TLS as a DestinationRule asks for it.

Certificates and roots of the mesh come by SDS from the agent beside the proxy (`default`, `ROOTCA`), so keys never pass
the control plane. Peers are checked against the exact identities that the service's workloads run under. Server names
and ALPN follow Istio's, so that the other side may be an Istio sidecar.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from meltemi.envoy import names
from meltemi.envoy.values import ads, transport_socket, uint32
from meltemi.model.mesh import TlsLimits
from meltemi.model.traffic import ClientTls, TlsMode
from meltemi.protos.envoy.config.core.v3.base_pb2 import DataSource, TransportSocket
from meltemi.protos.envoy.config.core.v3.config_source_pb2 import ApiConfigSource, ApiVersion, ConfigSource
from meltemi.protos.envoy.config.core.v3.grpc_service_pb2 import GrpcService
from meltemi.protos.envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsCertificate,
    TlsParameters,
)
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, UpstreamTlsContext
from meltemi.protos.envoy.type.matcher.v3.string_pb2 import StringMatcher
from meltemi.protos.google.protobuf.duration_pb2 import Duration

TLS = "envoy.transport_sockets.tls"
RAW_BUFFER = "envoy.transport_sockets.raw_buffer"

# What a client offers. The first decides which of the server's chains takes the connection, and the server answers with
# one of those behind `istio`. An HTTP/1.1 port offers both: two sidecars speak HTTP/2 for it.
ALPN_TCP = ("istio",)
ALPN_HTTP1 = ("istio-http/1.1", "istio", "http/1.1")
ALPN_HTTP2 = ("istio-h2", "istio", "h2")
ALPN_HTTP = ("istio-h2", "istio", "h2", "http/1.1")

_CURVES = ("X25519MLKEM768", "X25519", "P-256")
_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)
USUAL = TlsLimits()
_VERSIONS = {"TLSV1_2": TlsParameters.TLSv1_2, "TLSV1_3": TlsParameters.TLSv1_3}
_SESSIONS = 4  # TLS 1.3 tickets are used once each; a few let as many new connections at once skip the full handshake


def parameters(limits: TlsLimits = USUAL) -> TlsParameters:
    """TLS 1.2 to 1.3, the post-quantum key exchange first, Istio's ciphers, unless the mesh says otherwise."""
    return TlsParameters(
        tls_minimum_protocol_version=_VERSIONS.get(limits.min_version, TlsParameters.TLSv1_2),
        tls_maximum_protocol_version=TlsParameters.TLSv1_3,
        cipher_suites=limits.cipher_suites or _CIPHERS,
        ecdh_curves=limits.curves or _CURVES,
    )


@functools.cache
def agent_secret(name: str) -> SdsSecretConfig:
    """A secret that the agent beside the proxy hands out. Made once: do not change it."""
    service = GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=names.SDS_CLUSTER))
    source = ApiConfigSource(
        api_type=ApiConfigSource.GRPC,
        transport_api_version=ApiVersion.V3,
        grpc_services=[service],
        set_node_on_first_message_only=True,
    )
    return SdsSecretConfig(
        name=name,
        sds_config=ConfigSource(
            api_config_source=source, resource_api_version=ApiVersion.V3, initial_fetch_timeout=Duration()
        ),
    )


def control_plane_secret(name: str) -> SdsSecretConfig:
    """A secret that the control plane hands out to those who may read it (`kubernetes://<namespace>/<name>`)."""
    return SdsSecretConfig(name=name, sds_config=ads())


def uri_names(values: Iterable[str]) -> list[SubjectAltNameMatcher]:
    """The peer's URI SAN must be one of these, letter for letter."""
    return [
        SubjectAltNameMatcher(san_type=SubjectAltNameMatcher.URI, matcher=StringMatcher(exact=value))
        for value in values
    ]


def uri_prefixes(values: Iterable[str]) -> list[SubjectAltNameMatcher]:
    """The peer's URI SAN must begin with one of these. End each in a slash: `a` is a prefix of `ab`."""
    return [
        SubjectAltNameMatcher(san_type=SubjectAltNameMatcher.URI, matcher=StringMatcher(prefix=value))
        for value in values
    ]


def mesh_context(
    sans: Sequence[SubjectAltNameMatcher], alpn: Iterable[str], limits: TlsLimits = USUAL
) -> CommonTlsContext:
    """The workload's own certificate, and the mesh's roots for the peer. Serves clients and servers alike."""
    return CommonTlsContext(
        tls_params=parameters(limits),
        alpn_protocols=alpn,
        tls_certificate_sds_secret_configs=[agent_secret(names.DEFAULT_CERTIFICATE)],
        combined_validation_context=CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=CertificateValidationContext(match_typed_subject_alt_names=sans),
            validation_context_sds_secret_config=agent_secret(names.ROOT_CERTIFICATES),
        ),
    )


def upstream(context: CommonTlsContext, sni: str) -> TransportSocket:
    """The client side of mTLS with a `mesh_context`."""
    message = UpstreamTlsContext(common_tls_context=context, sni=sni, max_session_keys=uint32(_SESSIONS))
    return transport_socket(TLS, message)


def plaintext() -> TransportSocket:
    """No TLS."""
    return transport_socket(RAW_BUFFER, RawBuffer())


def origination(
    settings: ClientTls, alpn: Iterable[str], roots: str, sni: str = "", limits: TlsLimits = USUAL
) -> TransportSocket:
    """TLS as a DestinationRule asks for it (SIMPLE, MUTUAL), with the system's `roots` (a file) where it names none.

    Without `roots`, a server is not checked where the rule names no authority.
    `sni` is what is asked for where the rule says nothing; empty for HTTP, where the request's host decides.
    Envoy's own `system_root_certs` will not do: with it TLS connections are not checked at all (tried on 1.40).
    """
    common = CommonTlsContext(tls_params=parameters(limits), alpn_protocols=alpn)
    if settings.mode is TlsMode.MUTUAL:
        if settings.credential_name:
            common.tls_certificate_sds_secret_configs.append(control_plane_secret(settings.credential_name))
        else:
            common.tls_certificates.append(
                TlsCertificate(
                    certificate_chain=DataSource(filename=settings.client_certificate),
                    private_key=DataSource(filename=settings.private_key_file),
                )
            )
    _check_server(settings, common, roots)
    context = UpstreamTlsContext(common_tls_context=common, sni=settings.sni or sni, max_session_keys=uint32(_SESSIONS))
    return transport_socket(TLS, context)


def _check_server(settings: ClientTls, common: CommonTlsContext, roots: str) -> None:
    check = CertificateValidationContext()
    for name in settings.subject_alt_names:
        kind = SubjectAltNameMatcher.URI if "://" in name else SubjectAltNameMatcher.DNS
        check.match_typed_subject_alt_names.append(
            SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=name))
        )
    if settings.insecure_skip_verify:
        common.validation_context.CopyFrom(
            CertificateValidationContext(trust_chain_verification=CertificateValidationContext.ACCEPT_UNTRUSTED)
        )
        return
    if settings.ca_crl:
        check.crl.filename = settings.ca_crl
    if settings.credential_name and settings.mode is not TlsMode.ISTIO_MUTUAL:
        common.combined_validation_context.default_validation_context.CopyFrom(check)
        common.combined_validation_context.validation_context_sds_secret_config.CopyFrom(
            control_plane_secret(f"{settings.credential_name}-cacert")
        )
        return
    named = settings.ca_certificates
    if not named and not roots:
        return
    check.trusted_ca.filename = roots if named in ("", "system") else named
    common.validation_context.CopyFrom(check)
