"""TLS of a gateway's servers: modes, versions, and where certificates come from.

Credentials are named, never read: `kubernetes://<namespace>/<name>`, in the namespace in which the gateway runs and in no
other, and with `-cacert` behind for the authorities that clients' certificates are checked with. A server whose
credential is missing is not run, so that it cannot keep the others on its port from being.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from meltemi.api.networking.gateway import ServerTlsSettings, TlsCertificate
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model.gateways import ServerTls, ServerTlsMode
from meltemi.resolve import problems
from meltemi.resolve.credentials import Credential, own_name
from meltemi.resolve.gateway_servers import Served

Credentials = View[tuple[str, str], Credential]

CA_SUFFIX = "-cacert"
CIPHER_SUITES = frozenset(
    {
        *(
            f"ECDHE-{key}-{rest}"
            for key in ("ECDSA", "RSA")
            for rest in ("CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA")
        ),
        *(f"ECDHE-{key}-{rest}" for key in ("ECDSA", "RSA") for rest in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")),
        *("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA"),
        *("ECDHE-RSA-AES128-SHA256", "DES-CBC3-SHA"),
    }
)
"""Suites that Envoy takes: with one that it does not know, it would refuse all servers of the port."""
_CHECKS_CLIENTS = ("MUTUAL", "OPTIONAL_MUTUAL")


def server_tls(
    served: Served, namespace: str, credentials: Credentials
) -> Generator[Problem, None, tuple[bool, ServerTls | None]]:
    """Whether the server can be run, and its TLS. `namespace` is that of the proxy."""
    tls = served.server.tls
    if tls is None or not served.opens_tls:
        return True, None
    yield from _unknown_suites(served, tls)
    if tls.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL"):
        return True, _settings(tls, (), "", TlsCertificate())
    written = (tls.credential_name,) if tls.credential_name else tls.credential_names
    names = tuple(own_name(name, namespace) for name in written)
    checks = tls.mode in _CHECKS_CLIENTS
    named = own_name(tls.ca_cert_credential_name, namespace)
    authorities = (named or f"{names[0]}{CA_SUFFIX}") if names and checks else ""
    missing = list(_missing(served, namespace, names, authorities, credentials))
    if missing:
        yield from missing
        return False, None
    files = TlsCertificate()
    if not names:
        files = tls.tls_certificates[0] if tls.tls_certificates else _files(tls)
        if not files.server_certificate or not files.private_key:
            yield _no_certificate(served)
            return False, None
    secrets = tuple(f"kubernetes://{namespace}/{name}" for name in names)
    return True, _settings(tls, secrets, f"kubernetes://{namespace}/{authorities}" if authorities else "", files)


def _settings(tls: ServerTlsSettings, secrets: tuple[str, ...], authorities: str, files: TlsCertificate) -> ServerTls:
    more = tls.tls_certificates[1:] if files.server_certificate and not secrets else ()
    checks = tls.mode in _CHECKS_CLIENTS
    return ServerTls(
        mode=ServerTlsMode(tls.mode),
        credentials=secrets,
        ca_credential=authorities,
        certificate_file=files.server_certificate,
        private_key_file=files.private_key,
        more_files=tuple((each.server_certificate, each.private_key) for each in more),
        ca_file=files.ca_certificates or (tls.ca_certificates if not secrets else ""),
        revoked_file=tls.ca_crl if checks else "",
        key_digests=tls.verify_certificate_spki if checks else (),
        certificate_digests=tls.verify_certificate_hash if checks else (),
        subject_alt_names=tls.subject_alt_names,
        min_version="" if tls.min_protocol_version == "TLS_AUTO" else tls.min_protocol_version,
        max_version="" if tls.max_protocol_version == "TLS_AUTO" else tls.max_protocol_version,
        cipher_suites=tuple(suite for suite in tls.cipher_suites if _is_known(suite)),
    )


def _files(tls: ServerTlsSettings) -> TlsCertificate:
    return TlsCertificate(
        server_certificate=tls.server_certificate, private_key=tls.private_key, ca_certificates=tls.ca_certificates
    )


def _missing(
    served: Served, namespace: str, names: tuple[str, ...], authorities: str, credentials: Credentials
) -> Iterator[Problem]:
    """What of a server's credentials is not there or cannot be used."""
    foreign = [name for name in dict.fromkeys((*names, authorities)) if "/" in name]
    if foreign:
        yield _not_allowed(served, namespace, foreign[0])
        return
    for name in names:
        found = credentials.get((namespace, name))
        if found is None or not found.has_key:
            yield _credential(served, namespace, name, "a certificate and its key (tls.crt, tls.key)", found)
    if authorities:
        own = credentials.get((namespace, authorities))
        beside = credentials.get((namespace, authorities.removesuffix(CA_SUFFIX)))
        if not any(each is not None and each.has_ca for each in (own, beside)):
            yield _credential(served, namespace, authorities, "certificates of authorities (ca.crt)", own or beside)


def _credential(served: Served, namespace: str, name: str, content: str, found: Credential | None) -> Problem:
    said = f": {found.problem}" if found and found.problem else ""
    return problems.of(
        served.gateway,
        f"{served.path}.tls.credentialName",
        "InvalidCredential" if found else "CredentialNotFound",
        f"Secret {namespace}/{name} does not hold {content}{said}"
        if found
        else f"there is no Secret {namespace}/{name}",
        f"create Secret {name} with {content} in namespace {namespace}, where the gateway runs",
    )


def _not_allowed(served: Served, namespace: str, name: str) -> Problem:
    """A Gateway may name Secrets of the gateway's own namespace alone, as in Istio: others are not for it to show."""
    return problems.of(
        served.gateway,
        f"{served.path}.tls.credentialName",
        "CredentialNotAllowed",
        f"{name} is not a Secret of namespace {namespace}, where the gateway runs: it may not have it",
        f"copy the Secret into namespace {namespace}, and write its name alone",
    )


def _is_known(suite: str) -> bool:
    """Whether Envoy takes it: a suite, or several that it prefers alike, as in `[one|other]`."""
    several = suite.startswith("[") and suite.endswith("]")
    return all(each in CIPHER_SUITES for each in (suite[1:-1].split("|") if several else (suite,)))


def _unknown_suites(served: Served, tls: ServerTlsSettings) -> Iterator[Problem]:
    for position, suite in enumerate(tls.cipher_suites):
        if not _is_known(suite):
            yield problems.warning(
                served.gateway,
                f"{served.path}.tls.cipherSuites[{position}]",
                "UnknownCipherSuite",
                f"{suite!r} is not a cipher suite that can be chosen: it is left out",
                f"use {', '.join(sorted(CIPHER_SUITES)[:2])} or another of their kind; TLS 1.3 has suites of its own",
            )


def _no_certificate(served: Served) -> Problem:
    return problems.of(
        served.gateway,
        f"{served.path}.tls",
        "CertificateRequired",
        "the server has no certificate, so that it is not run",
        "add tls.credentialName, or tls.serverCertificate with tls.privateKey",
    )
