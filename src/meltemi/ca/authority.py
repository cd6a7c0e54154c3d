"""The certificate authority: an operator's or its own key and certificate, and the signing of workload certificates.

A signing request says whose key it is, never who the caller is: that comes from authentication. So of a request only
the public key is used, after its signature has shown that the caller holds the private one. Invariant: the subject of
every leaf is empty and its one URI name is the identity it was issued for, whatever the request asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meltemi.base.spiffe import SpiffeId
from meltemi.ca import files
from meltemi.ca.errors import AuthorityError, CsrRefused

DEFAULT_TTL = timedelta(hours=24)
"""The lifetime of a workload certificate where none is asked for (Istio: DEFAULT_WORKLOAD_CERT_TTL)."""

MAX_TTL = timedelta(days=90)
"""The longest lifetime granted (Istio: MAX_WORKLOAD_CERT_TTL)."""

ROOT_TTL = timedelta(days=3652)
"""The lifetime of a root that is made here: ten years."""

BACKDATED = timedelta(minutes=2)
"""How long before now a certificate begins to hold, for peers whose clocks are late."""

_MIN_RSA_BITS = 2048

IssuerKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
LeafKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Issued(msgspec.Struct, frozen=True):
    """A certificate as handed out: PEM, the leaf first, then the intermediates, the trust bundle last."""

    chain: tuple[str, ...]
    serial: str
    identity: SpiffeId
    not_after: datetime


class Authority:
    """Signs for one mesh. `trust_bundle` is PEM: every root that workloads are to trust."""

    def __init__(
        self,
        key: IssuerKey,
        certificate: x509.Certificate,
        chain: Sequence[x509.Certificate],
        roots: Sequence[x509.Certificate],
    ) -> None:
        """`chain` are the intermediates to send along, from `certificate` upwards; empty if it is itself a root."""
        self._key = key
        self._certificate = certificate
        self._intermediates = tuple(_pem(member) for member in chain)
        self._roots = tuple(roots)
        self.trust_bundle = "".join(_pem(root) for root in roots)

    def __repr__(self) -> str:
        return f"<Authority {self._certificate.subject.rfc4514_string()!r} until {self.not_after:%Y-%m-%d}>"

    @property
    def not_after(self) -> datetime:
        """When the signing certificate ends; no leaf outlives it."""
        return self._certificate.not_valid_after_utc

    @property
    def roots_not_after(self) -> datetime:
        """When the first of the roots ends."""
        return min(root.not_valid_after_utc for root in self._roots)

    def sign(self, csr: bytes, identity: SpiffeId, ttl: timedelta, now: datetime) -> Issued:
        """A certificate of `identity` for the key of the request (PEM). Raises CsrRefused.

        A `ttl` of zero or less asks for the default; more than the maximum gets the maximum.
        """
        return self.issue(public_key_of(csr), identity, ttl, now)

    def issue(
        self, key: LeafKey, identity: SpiffeId, ttl: timedelta, now: datetime, dns_names: Sequence[str] = ()
    ) -> Issued:
        """A certificate of `identity` for a key, good for servers and clients, with DNS names if there are any."""
        granted = min(ttl if ttl > timedelta() else DEFAULT_TTL, MAX_TTL)
        not_after = min(now + granted, self.not_after).replace(microsecond=0)
        if not_after <= now:
            raise AuthorityError(f"the signing certificate ended on {self.not_after:%Y-%m-%d %H:%M:%S} UTC")
        names = [x509.UniformResourceIdentifier(str(identity)), *map(x509.DNSName, dns_names)]
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKDATED, self._certificate.not_valid_before_utc).replace(microsecond=0))
            .not_valid_after(not_after)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True, key_encipherment=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._certificate.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        chain = (_pem(leaf), *self._intermediates, self.trust_bundle)
        return Issued(chain, f"{leaf.serial_number:x}", identity, leaf.not_valid_after_utc)


def open_authority(directory: Path, *, organization: str, now: datetime) -> Authority:
    """The authority kept in `directory`; a self-signed one is made there first if the directory is empty or absent.

    Raises AuthorityError, with a hint, if what is there cannot be used. `organization` names a new root.
    """
    if files.is_absent(directory):
        files.create(directory, new_root(organization, now))
    return load_authority(files.read(directory), now)


def new_root(organization: str, now: datetime) -> dict[str, bytes]:
    """The files of a fresh authority: an ECDSA P-256 key and a root certificate that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, "Meltemi root"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - BACKDATED).replace(microsecond=0))
        .not_valid_after((now + ROOT_TTL).replace(microsecond=0))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = _pem(certificate).encode()
    return {files.CERTIFICATE: pem, files.KEY: private_pem(key), files.ROOTS: pem, files.CHAIN: pem}


def load_authority(content: dict[str, bytes], now: datetime) -> Authority:
    """An authority from the content of its four files, after checking that they belong together.

    Raises AuthorityError.
    """
    certificates = {name: _certificates(content[name], name) for name in (files.CERTIFICATE, files.ROOTS, files.CHAIN)}
    signer = certificates[files.CERTIFICATE][0]
    key = _issuer_key(content[files.KEY])
    roots = certificates[files.ROOTS]
    if key.public_key() != signer.public_key():
        raise AuthorityError(f"{files.KEY} is not the key of {files.CERTIFICATE}")
    if not _may_sign(signer):
        raise AuthorityError(f"{files.CERTIFICATE} may not sign certificates: it is not marked as an authority's")
    if not signer.not_valid_before_utc <= now < signer.not_valid_after_utc:
        raise AuthorityError(
            f"{files.CERTIFICATE} holds from {signer.not_valid_before_utc} to {signer.not_valid_after_utc}, not now"
        )
    return Authority(key, signer, _intermediates(signer, certificates[files.CHAIN], roots), roots)


def _intermediates(
    signer: x509.Certificate, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """The way from the signer up to a root, without the root. Raises AuthorityError if there is none."""
    way: list[x509.Certificate] = []
    current = signer
    candidates = {certificate.fingerprint(hashes.SHA256()): certificate for certificate in chain}
    while current not in roots:
        way.append(current)
        if any(_issued(root, current) for root in roots):
            return way
        candidates.pop(current.fingerprint(hashes.SHA256()), None)
        above = next((candidate for candidate in candidates.values() if _issued(candidate, current)), None)
        if above is None:
            raise AuthorityError(f"{files.CHAIN} does not lead from {files.CERTIFICATE} to {files.ROOTS}")
        current = above
    return way


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def public_key_of(csr: bytes) -> LeafKey:
    """The public key of a signing request (PEM) whose holder has proven to have the private one. Raises CsrRefused."""
    try:
        request = x509.load_pem_x509_csr(csr)
        key = request.public_key()
        proven = request.is_signature_valid
    except Exception as error:  # the parser raises many kinds for what is, to the caller, one thing
        raise CsrRefused("the signing request is not a PEM certificate request that can be read") from error
    if not proven:
        raise CsrRefused("the signature of the signing request does not fit its key")
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1)):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    raise CsrRefused("keys must be ECDSA P-256, ECDSA P-384 or RSA of 2048 bits or more")


def private_pem(key: IssuerKey) -> bytes:
    """A private key as PEM (PKCS 8), unencrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _issuer_key(pem: bytes) -> IssuerKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise AuthorityError(f"{files.KEY} is not an unencrypted PEM private key") from error
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise AuthorityError(f"{files.KEY} must be an ECDSA or RSA key")
    return key


def _certificates(pem: bytes, name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise AuthorityError(f"{name} holds no PEM certificate that can be read") from error


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
