"""The server side of TLS: a workload's mutual TLS, and what a gateway's servers ask of their clients.

A workload shows the certificate that its agent hands out, and lets in whoever shows one of the mesh's: the roots decide,
and the identity must be of the trust domain or of one of its aliases. Who exactly may do what is authorization's business.
"""

from __future__ import annotations

from collections.abc import Iterable

from meltemi.envoy import tls
from meltemi.envoy.values import boolean, transport_socket
from meltemi.model.gateways import ServerTls, ServerTlsMode
from meltemi.model.mesh import Mesh
from meltemi.protos.envoy.config.core.v3.base_pb2 import TransportSocket
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsParameters,
)
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext
from meltemi.protos.envoy.type.matcher.v3.string_pb2 import StringMatcher

ALPN = ("h2", "http/1.1")  # never `istio`: a client that offers it learns by the chain that takes it

_VERSIONS = {
    "TLSV1_0": TlsParameters.TLSv1_0,
    "TLSV1_1": TlsParameters.TLSv1_1,
    "TLSV1_2": TlsParameters.TLSv1_2,
    "TLSV1_3": TlsParameters.TLSv1_3,
}
_KINDS = (
    SubjectAltNameMatcher.DNS,
    SubjectAltNameMatcher.URI,
    SubjectAltNameMatcher.EMAIL,
    SubjectAltNameMatcher.IP_ADDRESS,
)


def trusted(mesh: Mesh) -> list[SubjectAltNameMatcher]:
    """Whoever belongs to the mesh, by the beginning of the identity."""
    domains = dict.fromkeys((mesh.trust_domain, *mesh.trust_domain_aliases))
    return tls.uri_prefixes(f"spiffe://{domain}/" for domain in domains)


def mutual(mesh: Mesh) -> TransportSocket:
    """Mutual TLS of the mesh."""
    context = tls.mesh_context(trusted(mesh), ALPN, mesh.mutual_tls)
    return _socket(context, require_client_certificate=True)


def server(settings: ServerTls, mesh: Mesh, *, http: bool) -> TransportSocket:
    """TLS of a gateway's server that opens it."""
    if settings.mode is ServerTlsMode.ISTIO_MUTUAL:
        return mutual(mesh)
    common = CommonTlsContext(tls_params=_parameters(settings, mesh), alpn_protocols=ALPN if http else ())
    if settings.credentials:
        common.tls_certificate_sds_secret_configs.extend(map(tls.control_plane_secret, settings.credentials))
    else:
        for chain, key in ((settings.certificate_file, settings.private_key_file), *settings.more_files):
            common.tls_certificate_sds_secret_configs.append(tls.agent_secret(f"file-cert:{chain}~{key}"))
    if settings.mode in (ServerTlsMode.MUTUAL, ServerTlsMode.OPTIONAL_MUTUAL):
        _check_clients(common, settings)
    return _socket(common, require_client_certificate=settings.mode is ServerTlsMode.MUTUAL)


def _check_clients(common: CommonTlsContext, settings: ServerTls) -> None:
    """Client certificates must come from the named authorities, and be among those listed where any are."""
    check = CertificateValidationContext(
        match_typed_subject_alt_names=_names(settings.subject_alt_names),
        verify_certificate_spki=settings.key_digests,
        verify_certificate_hash=settings.certificate_digests,
    )
    if settings.revoked_file:
        check.crl.filename = settings.revoked_file
    roots = (
        tls.control_plane_secret(settings.ca_credential)
        if settings.ca_credential
        else tls.agent_secret(f"file-root:{settings.ca_file}")
    )
    common.combined_validation_context.default_validation_context.CopyFrom(check)
    common.combined_validation_context.validation_context_sds_secret_config.CopyFrom(roots)


def _names(wanted: Iterable[str]) -> list[SubjectAltNameMatcher]:
    """A listed name may be of any kind, as in Istio; one with a scheme is a URI."""
    return [
        SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=name))
        for name in wanted
        for kind in ((SubjectAltNameMatcher.URI,) if "://" in name else _KINDS)
    ]


def _parameters(settings: ServerTls, mesh: Mesh) -> TlsParameters:
    message = tls.parameters(mesh.tls_defaults)
    if settings.min_version in _VERSIONS:
        message.tls_minimum_protocol_version = _VERSIONS[settings.min_version]
    if settings.max_version in _VERSIONS:
        message.tls_maximum_protocol_version = _VERSIONS[settings.max_version]
    if settings.cipher_suites:
        message.ClearField("cipher_suites")
        message.cipher_suites.extend(settings.cipher_suites)
    return message


def _socket(common: CommonTlsContext, *, require_client_certificate: bool) -> TransportSocket:
    context = DownstreamTlsContext(
        common_tls_context=common, require_client_certificate=boolean(require_client_certificate)
    )
    return transport_socket(tls.TLS, context)
