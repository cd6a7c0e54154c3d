"""The authority signs keys for proven identities, and guards its own files."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from meltemi.base.spiffe import SpiffeId
from meltemi.ca import files
from meltemi.ca.authority import (
    BACKDATED,
    DEFAULT_TTL,
    MAX_TTL,
    Authority,
    load_authority,
    new_root,
    open_authority,
    private_pem,
)
from meltemi.ca.errors import AuthorityError, CsrRefused, InsecureKey

from .conftest import CART, NOW, csr_of, leaf_of

HOUR = timedelta(hours=1)


def test_the_name_in_a_certificate_is_the_proven_identity_whatever_the_request_asks_for(authority: Authority) -> None:
    greedy = csr_of(
        ec.generate_private_key(ec.SECP256R1()), subject="admin", uris=["spiffe://cluster.local/ns/bank/sa/vault"]
    )
    leaf = leaf_of(authority.sign(greedy, CART, HOUR, NOW).chain)
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(san.value) == [x509.UniformResourceIdentifier(str(CART))]
    assert san.critical
    assert not list(leaf.subject)


def test_a_certificate_serves_both_ends_of_mutual_tls_and_nothing_else(authority: Authority) -> None:
    leaf = leaf_of(authority.sign(csr_of(ec.generate_private_key(ec.SECP256R1())), CART, HOUR, NOW).chain)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.key_encipherment
    assert not usage.key_cert_sign
    extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(extended) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_an_independent_verifier_accepts_the_chain(authority: Authority) -> None:
    issued = authority.sign(csr_of(ec.generate_private_key(ec.SECP256R1())), CART, HOUR, NOW)
    roots = x509.load_pem_x509_certificates(authority.trust_bundle.encode())
    verified = PolicyBuilder().store(Store(roots)).time(NOW).build_client_verifier().verify(leaf_of(issued.chain), [])
    assert verified.subjects == [x509.UniformResourceIdentifier(str(CART))]


def test_the_chain_ends_with_the_trust_bundle(authority: Authority) -> None:
    chain = authority.sign(csr_of(ec.generate_private_key(ec.SECP256R1())), CART, HOUR, NOW).chain
    assert len(chain) == 2
    assert chain[-1] == authority.trust_bundle


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (timedelta(), DEFAULT_TTL),
        (HOUR, HOUR),
        (timedelta(days=365), MAX_TTL),
        (timedelta(seconds=4), timedelta(seconds=4)),
    ],
)
def test_a_lifetime_is_granted_up_to_the_maximum(authority: Authority, asked: timedelta, granted: timedelta) -> None:
    issued = authority.sign(csr_of(ec.generate_private_key(ec.SECP256R1())), CART, asked, NOW)
    leaf = leaf_of(issued.chain)
    assert leaf.not_valid_after_utc == issued.not_after == NOW + granted
    assert leaf.not_valid_before_utc == NOW - BACKDATED


def test_no_certificate_outlives_the_authority(authority: Authority) -> None:
    late = authority.not_after - timedelta(minutes=1)
    csr = csr_of(ec.generate_private_key(ec.SECP256R1()))
    assert authority.sign(csr, CART, HOUR, late).not_after == authority.not_after
    with pytest.raises(AuthorityError, match="ended"):
        authority.sign(csr, CART, HOUR, authority.not_after)


def test_serial_numbers_do_not_repeat(authority: Authority) -> None:
    csr = csr_of(ec.generate_private_key(ec.SECP256R1()))
    assert len({authority.sign(csr, CART, HOUR, NOW).serial for _ in range(20)}) == 20


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-384", "RSA-2048"],
)
def test_strong_keys_are_accepted(authority: Authority, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    assert leaf_of(authority.sign(csr_of(key), CART, HOUR, NOW).chain).public_key() == key.public_key()


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP224R1()), rsa.generate_private_key(65537, 1024)],
    ids=["P-224", "RSA-1024"],
)
def test_weak_keys_are_refused(authority: Authority, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    with pytest.raises(CsrRefused, match="P-256"):
        authority.sign(csr_of(key), CART, HOUR, NOW)


def test_other_kinds_of_keys_are_refused(authority: Authority) -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CsrRefused):
        authority.sign(csr, CART, HOUR, NOW)


@pytest.mark.parametrize("garbage", [b"", b"not a request", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_garbage_is_refused(authority: Authority, garbage: bytes) -> None:
    with pytest.raises(CsrRefused):
        authority.sign(garbage, CART, HOUR, NOW)


def test_a_request_signed_by_another_key_is_refused(authority: Authority) -> None:
    request = x509.load_pem_x509_csr(csr_of(ec.generate_private_key(ec.SECP256R1())))
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CsrRefused, match="signature"):
        authority.sign(forged, CART, HOUR, NOW)


# === on disk ===


def test_an_authority_is_made_where_there_is_none_and_found_again(tmp_path: Path) -> None:
    directory = tmp_path / "mesh" / "ca"
    first = open_authority(directory, organization="cluster.local", now=NOW)
    again = open_authority(directory, organization="cluster.local", now=NOW)
    assert again.trust_bundle == first.trust_bundle
    assert {path.name for path in directory.iterdir()} == set(files.NAMES)
    assert [path.name for path in directory.parent.iterdir()] == ["ca"]


def test_only_the_owner_can_read_what_is_made(tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    directory.mkdir(mode=0o755)
    open_authority(directory, organization="cluster.local", now=NOW)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    open_authority(directory, organization="cluster.local", now=NOW)
    (directory / files.KEY).chmod(0o640)
    with pytest.raises(InsecureKey, match="chmod 0600"):
        open_authority(directory, organization="cluster.local", now=NOW)


def test_an_incomplete_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / files.CERTIFICATE).write_text("x")
    with pytest.raises(AuthorityError, match=r"ca-key\.pem, root-cert\.pem, cert-chain\.pem are missing"):
        open_authority(tmp_path, organization="cluster.local", now=NOW)
    assert [path.name for path in tmp_path.iterdir()] == [files.CERTIFICATE]


def test_of_two_that_make_an_authority_at_once_the_first_stands(tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    assert files.create(directory, new_root("first", NOW))
    assert not files.create(directory, new_root("second", NOW))
    assert "O=first" in repr(open_authority(directory, organization="x", now=NOW))
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


def _intermediate(root: dict[str, bytes]) -> dict[str, bytes]:
    """An operator's files: a signing certificate below a root whose key is elsewhere."""
    root_key = serialization.load_pem_private_key(root[files.KEY], None)
    root_certificate = x509.load_pem_x509_certificate(root[files.CERTIFICATE])
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    key = rsa.generate_private_key(65537, 2048)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intermediate")]))
        .issuer_name(root_certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    roots = root[files.CERTIFICATE]
    chain = certificate + roots
    return {files.CERTIFICATE: certificate, files.KEY: private_pem(key), files.ROOTS: roots, files.CHAIN: chain}


def test_an_operators_intermediate_signs_and_is_sent_along() -> None:
    content = _intermediate(new_root("corp", NOW))
    chain = load_authority(content, NOW).sign(csr_of(ec.generate_private_key(ec.SECP256R1())), CART, HOUR, NOW).chain
    assert chain[1:] == (content[files.CERTIFICATE].decode(), content[files.ROOTS].decode())


def test_several_roots_make_one_bundle() -> None:
    content = new_root("old", NOW)
    other = new_root("new", NOW)
    authority = load_authority({**content, files.ROOTS: content[files.ROOTS] + other[files.ROOTS]}, NOW)
    assert authority.trust_bundle == (content[files.ROOTS] + other[files.ROOTS]).decode()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({files.KEY: private_pem(ec.generate_private_key(ec.SECP256R1()))}, "is not the key of"),
        ({files.KEY: b"x"}, "not an unencrypted PEM private key"),
        ({files.CERTIFICATE: b"x"}, "holds no PEM certificate"),
        ({files.ROOTS: new_root("stranger", NOW)[files.ROOTS]}, "does not lead"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(change: dict[str, bytes], complaint: str) -> None:
    with pytest.raises(AuthorityError, match=complaint):
        load_authority({**new_root("corp", NOW), **change}, NOW)


def test_an_ended_authority_is_refused() -> None:
    with pytest.raises(AuthorityError, match="not now"):
        load_authority(new_root("corp", NOW), NOW + timedelta(days=4000))


def test_a_leaf_cannot_be_an_authority(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = authority.issue(key.public_key(), SpiffeId("a", "b", "c"), HOUR, NOW).chain[0].encode()
    content = {files.CERTIFICATE: leaf, files.KEY: private_pem(key), files.ROOTS: leaf, files.CHAIN: leaf}
    with pytest.raises(AuthorityError, match="may not sign"):
        load_authority(content, NOW)
