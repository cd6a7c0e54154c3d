from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority, private_pem
from meltemi.envoy import secrets
from meltemi.envoy.resource import SECRET
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from meltemi.testing.secrets import authority

NAME = "kubernetes://edge/shop"


@pytest.fixture(scope="module")
def issuer() -> Authority:
    return authority()


def pair(issuer: Authority, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None) -> tuple[bytes, bytes]:
    key = key or ec.generate_private_key(ec.SECP256R1())
    issued = issuer.issue(
        key.public_key(),
        SpiffeId("cluster.local", "edge", "gateway"),
        timedelta(hours=1),
        datetime.now(UTC),
        ("shop.example",),
    )
    return "".join(issued.chain).encode(), private_pem(key)


def test_a_certificate_and_its_key_are_one_secret(issuer: Authority) -> None:
    chain, key = pair(issuer)
    [found] = secrets.of_kubernetes("edge", "shop", {"tls.crt": chain, "tls.key": key})
    assert (found.type_url, found.name) == (SECRET, NAME)
    message = Secret.FromString(found.body)
    assert message.name == NAME
    assert message.tls_certificate.certificate_chain.inline_bytes == chain
    assert message.tls_certificate.private_key.inline_bytes == key


def test_authorities_beside_them_are_a_second(issuer: Authority) -> None:
    chain, key = pair(issuer)
    roots = issuer.trust_bundle.encode()
    _, found = secrets.of_kubernetes("edge", "shop", {"cert": chain, "key": key, "cacert": roots})
    assert found.name == f"{NAME}-cacert"
    assert Secret.FromString(found.body).validation_context.trusted_ca.inline_bytes == roots


@pytest.mark.parametrize("name", ["shop", "shop-cacert"])
def test_authorities_may_stand_alone(issuer: Authority, name: str) -> None:
    [found] = secrets.of_kubernetes("edge", name, {"ca.crt": issuer.trust_bundle.encode()})
    assert found.name == f"{NAME}-cacert"


def test_equal_credentials_have_equal_versions(issuer: Authority) -> None:
    chain, key = pair(issuer)
    one = secrets.credential(NAME, certificate_chain=chain, key=key)
    other = secrets.credential(NAME, certificate_chain=chain, key=key)
    assert one == other
    changed = secrets.credential(NAME, certificate_chain=chain + b"\n", key=key)
    assert one[0].version != changed[0].version


def test_a_key_that_belongs_to_another_certificate_is_refused(issuer: Authority) -> None:
    chain, _ = pair(issuer)
    _, other = pair(issuer)
    with pytest.raises(ValueError, match=r"does not belong to the certificate of shop\.example"):
        secrets.credential(NAME, certificate_chain=chain, key=other)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "neither a certificate with its key"),
        ({"tls.crt": b"chain"}, "the private key .* is missing"),
        ({"tls.key": b"key"}, "the certificate .* is missing"),
        ({"tls.crt": b"garbage", "tls.key": b"key"}, "tls.crt holds no PEM certificate"),
        ({"ca.crt": b"garbage"}, "ca.crt holds no PEM certificate"),
    ],
)
def test_what_is_missing_or_garbage_is_said(data: dict[str, bytes], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        secrets.of_kubernetes("edge", "shop", data)


def test_an_encrypted_key_is_refused(issuer: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    chain, _ = pair(issuer, key)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(ValueError, match="is encrypted"):
        secrets.credential(NAME, certificate_chain=chain, key=encrypted)


def test_keys_that_envoy_does_not_take_are_refused(issuer: Authority) -> None:
    chain, _ = pair(issuer)
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(ValueError, match="1024 bits"):
        secrets.credential(NAME, certificate_chain=chain, key=private_pem(small))
    foreign = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="RSA, or ECDSA"):
        secrets.credential(NAME, certificate_chain=chain, key=foreign)


def test_no_key_shows_in_what_is_printed_or_said(issuer: Authority) -> None:
    chain, key = pair(issuer)
    [found] = secrets.credential(NAME, certificate_chain=chain, key=key)
    secret_line = key.splitlines()[1].decode()
    assert secret_line not in repr(found)
    with pytest.raises(ValueError, match="not a PEM private key") as caught:
        secrets.credential(NAME, certificate_chain=chain, key=key.replace(b"BEGIN", b"BEGUN"))
    assert secret_line not in str(caught.value)
    assert caught.value.__cause__ is None
