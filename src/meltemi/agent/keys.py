"""The private key of one certificate: made in memory, shown to Envoy over its socket, never written anywhere.

A renewal has a key of its own, so that a key is never older than its certificate.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meltemi.base.spiffe import SpiffeId


class Key:
    """An ECDSA P-256 key. It prints as nothing, and only `pem` tells it."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def __repr__(self) -> str:
        return "<Key>"

    def __reduce__(self) -> str:
        raise TypeError("a private key stays in its process")

    def csr(self, identity: SpiffeId) -> bytes:
        """A signing request (PEM) for the identity. The authority decides by itself whose certificate it issues."""
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        signed = request.add_extension(names, critical=True).sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def fits(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is for this key."""
        return self._key.public_key() == certificate.public_key()

    def pem(self) -> bytes:
        """The key itself (PKCS 8), for Envoy's eyes."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
