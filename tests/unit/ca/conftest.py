"""Fixtures of the authority: a fixed time, one authority, and signing requests of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority, load_authority, new_root

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
CART = SpiffeId("cluster.local", "shop", "cart")


@pytest.fixture(scope="session")
def authority() -> Authority:
    return load_authority(new_root("cluster.local", NOW), NOW)


def csr_of(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, subject: str = "", uris: Sequence[str] = ()
) -> bytes:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    if uris:
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(san, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def leaf_of(chain: Sequence[str]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain[0].encode())
