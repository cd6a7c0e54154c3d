"""Whether a Gateway can be served: ports, hosts, and certificates where TLS ends."""

from __future__ import annotations

import re

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults, warning
from meltemi.api.networking.gateway import HTTP3, Gateway, Server, ServerTlsSettings
from meltemi.api.validation import terms
from meltemi.base.hosts import is_address

_ENCRYPTED = frozenset({"https", "tls"})
_VERSIONS = ("TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3")
_CLIENT_CERTIFICATES = ("MUTUAL", "OPTIONAL_MUTUAL")
_KEY_DIGEST = re.compile(r"[A-Za-z0-9+/]{43}=")
_HASH = re.compile(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){31}")


def gateway(resource: Gateway) -> Faults:
    """What is wrong with a Gateway."""
    spec = resource.spec
    yield from terms.dns_label("metadata.name", resource.name, "the name of a Gateway")
    if not spec.servers:
        yield Fault("spec.servers", "there is no server", "add a server", "RequiredField")
    yield from terms.labels("spec.selector", spec.selector)
    if (asked := resource.annotations.get(HTTP3, "false")) not in ("true", "false"):
        yield Fault(
            paths.key("metadata.annotations", HTTP3), f"{asked!r} is neither 'true' nor 'false'", 'write "true"'
        )
    for index, server in enumerate(spec.servers):
        yield from _server(paths.item("spec.servers", index), server)
    yield from _port_names(spec.servers)
    names = [server.name for server in spec.servers if server.name]
    yield from terms.duplicates("spec.servers", names, "server name")


def _port_names(servers: tuple[Server, ...]) -> Faults:
    """A port's name stands for one port number and protocol."""
    seen: dict[str, int] = {}
    for index, server in enumerate(servers):
        path = paths.item("spec.servers", index)
        if not server.port.name:
            yield Fault(f"{path}.port.name", "the port has no name", "add a name such as http", "RequiredField")
        elif server.port.name in seen:
            yield Fault(
                f"{path}.port.name",
                f"the port name {server.port.name!r} is used twice",
                "give each server's port a name of its own",
                "Duplicate",
            )
        seen.setdefault(server.port.name, index)


def _server(path: str, server: Server) -> Faults:
    yield from terms.protocol(f"{path}.port.protocol", server.port.protocol)
    if server.port.target_port:
        yield Fault(f"{path}.port.targetPort", "a Gateway listens on the port itself", "remove targetPort")
    if not server.hosts:
        yield Fault(f"{path}.hosts", "the server has no host", "add a host, or '*' for all", "RequiredField")
    for index, host in enumerate(server.hosts):
        where = paths.item(f"{path}.hosts", index)
        if "/" in host:
            yield from terms.namespaced_host(where, host, special="*.")
        else:
            yield from terms.host(where, host)
    if server.bind and not is_address(server.bind) and not server.bind.startswith("unix:"):
        yield Fault(f"{path}.bind", f"{server.bind!r} is not an address", "write an IP address", "InvalidAddress")
    encrypted = server.port.protocol.lower() in _ENCRYPTED
    if encrypted and server.tls is None:
        yield Fault(f"{path}.tls", f"a server of {server.port.protocol} needs TLS settings", "add tls", "RequiredField")
    if server.tls is not None:
        if encrypted:
            yield from server_tls(f"{path}.tls", server.tls)
        elif server.tls != ServerTlsSettings(https_redirect=server.tls.https_redirect):
            yield Fault(
                f"{path}.tls",
                f"a server of {server.port.protocol} speaks no TLS",
                "use the protocol HTTPS or TLS, or keep httpsRedirect alone",
                "Conflict",
            )


def server_tls(path: str, tls: ServerTlsSettings) -> Faults:
    """What is wrong with TLS towards clients."""
    if tls.https_redirect:
        yield warning(f"{path}.httpsRedirect", "a server of HTTPS has nothing to redirect", "set it on the HTTP server")
    yield from _credentials(path, tls)
    low, high = _VERSIONS.index(tls.min_protocol_version), _VERSIONS.index(tls.max_protocol_version)
    if high and low > high:
        yield Fault(
            f"{path}.minProtocolVersion",
            f"{tls.min_protocol_version} is above {tls.max_protocol_version}",
            "lower minProtocolVersion, or raise maxProtocolVersion",
            "OutOfRange",
        )
    if tls.min_protocol_version in ("TLSV1_0", "TLSV1_1") and not tls.cipher_suites:
        yield warning(
            f"{path}.minProtocolVersion",
            "none of the usual cipher suites is for a version below TLS 1.2",
            "add cipherSuites of that version",
        )
    for fault in terms.duplicates(f"{path}.cipherSuites", tls.cipher_suites, "cipher suite"):
        yield warning(fault.path, fault.message, fault.hint, fault.code)
    if tls.ca_crl and tls.mode == "SIMPLE":
        yield Fault(f"{path}.caCrl", "SIMPLE asks clients for no certificate to revoke", "set mode: MUTUAL", "Conflict")
    yield from _digests(f"{path}.verifyCertificateSpki", tls.verify_certificate_spki, _KEY_DIGEST, "base64")
    yield from _digests(f"{path}.verifyCertificateHash", tls.verify_certificate_hash, _HASH, "hexadecimal digits")
    for name, digests in (
        ("verifyCertificateSpki", tls.verify_certificate_spki),
        ("verifyCertificateHash", tls.verify_certificate_hash),
        ("subjectAltNames", tls.subject_alt_names),
    ):
        if digests and tls.mode not in _CLIENT_CERTIFICATES:
            yield warning(f"{path}.{name}", f"{tls.mode} asks clients for no certificate", "set mode: MUTUAL")


def _digests(path: str, digests: tuple[str, ...], form: re.Pattern[str], notation: str) -> Faults:
    for index, digest in enumerate(digests):
        if form.fullmatch(digest) is None:
            yield Fault(
                paths.item(path, index),
                f"{digest!r} is not a SHA-256 digest in {notation}",
                "write what openssl makes of the certificate",
                "InvalidDigest",
            )


def _credentials(path: str, tls: ServerTlsSettings) -> Faults:
    named = [
        name
        for name, value in (
            ("credentialName", tls.credential_name),
            ("credentialNames", tls.credential_names),
            ("tlsCertificates", tls.tls_certificates),
        )
        if value
    ]
    files = [
        name
        for name, value in (
            ("serverCertificate", tls.server_certificate),
            ("privateKey", tls.private_key),
        )
        if value
    ]
    for name in named[1:]:
        yield Fault(f"{path}.{name}", f"{named[0]} and {name} exclude each other", "keep one of the two", "Conflict")
    if tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL"):
        own_authority = tls.mode == "ISTIO_MUTUAL" and tls.ca_certificates
        for name in (*named, *files, *(("caCertificates",) if own_authority else ())):
            message = f"{tls.mode} uses no certificate of its own"
            if tls.mode == "ISTIO_MUTUAL":
                yield Fault(f"{path}.{name}", message, f"remove {name}", "Conflict")
            else:
                yield warning(f"{path}.{name}", message, f"remove {name}")
        return
    if named and files:
        message = f"{named[0]} and {files[0]} exclude each other"
        yield Fault(f"{path}.{files[0]}", message, "keep one of the two", "Conflict")
    if not named and len(files) < 2:
        missing = (
            "credentialName" if not files else "privateKey" if files == ["serverCertificate"] else "serverCertificate"
        )
        yield Fault(
            f"{path}.{missing}",
            f"{tls.mode} needs a certificate",
            "add credentialName, or serverCertificate and privateKey",
            "RequiredField",
        )
    for index, certificate in enumerate(tls.tls_certificates):
        if not (certificate.server_certificate and certificate.private_key):
            yield Fault(
                paths.item(f"{path}.tlsCertificates", index),
                "the certificate or its key is missing",
                "add serverCertificate and privateKey",
                "RequiredField",
            )
    if tls.mode == "MUTUAL" and not named and not tls.ca_certificates:
        yield Fault(
            f"{path}.caCertificates", "MUTUAL needs a CA to verify clients with", "add caCertificates", "RequiredField"
        )
