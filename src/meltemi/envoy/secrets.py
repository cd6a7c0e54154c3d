"""TLS credentials as Envoy takes them: certificates with their keys, and authorities to check clients with.

Names are Istio's: `kubernetes://<namespace>/<name>` for a certificate and its key, the same with `-cacert` behind for
authorities. What Envoy would refuse is refused here, in words for the author: a listener that waits for a broken
certificate serves nobody.

Invariant: no part of a key is in a message, a version or a repr of anything but the resource's own body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from meltemi.envoy.resource import Resource, finish
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

PREFIX = "kubernetes://"
CA_SUFFIX = "-cacert"

_CHAIN_KEYS = ("tls.crt", "cert")  # kubernetes.io/tls, and Istio's generic secrets
_KEY_KEYS = ("tls.key", "key")
_CA_KEYS = ("ca.crt", "cacert")
_SMALLEST_RSA = 2048  # what Envoy takes
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def name_of(namespace: str, secret: str) -> str:
    """The name under which proxies ask for a Secret's certificate and key."""
    return f"{PREFIX}{namespace}/{secret}"


def of_kubernetes(namespace: str, secret: str, data: Mapping[str, bytes]) -> tuple[Resource, ...]:
    """What a Secret serves as, by the keys that `kubernetes.io/tls` and Istio's generic secrets have.

    Raises ValueError, with words for the author, if it serves as nothing or is not sound.
    """
    return credential(
        name_of(namespace, secret),
        certificate_chain=_first(data, _CHAIN_KEYS),
        key=_first(data, _KEY_KEYS),
        ca=_first(data, _CA_KEYS),
    )


def credential(name: str, *, certificate_chain: bytes = b"", key: bytes = b"", ca: bytes = b"") -> tuple[Resource, ...]:
    """The resources of a credential (PEM): a certificate with its key, authorities, or both.

    Raises ValueError, with words for the author, if there is neither, or if what is there cannot be used.
    """
    found = tuple(_resources(name, certificate_chain, key, ca))
    if not found:
        raise ValueError("it holds neither a certificate with its key (tls.crt, tls.key) nor authorities (ca.crt)")
    return found


def _resources(name: str, certificate_chain: bytes, key: bytes, ca: bytes) -> Iterator[Resource]:
    if certificate_chain or key:
        check_pair(certificate_chain, key)
        secret = Secret(name=name)
        secret.tls_certificate.certificate_chain.inline_bytes = certificate_chain
        secret.tls_certificate.private_key.inline_bytes = key
        yield finish(name, secret)
    if ca:
        _certificates(ca, "ca.crt")
        called = name if name.endswith(CA_SUFFIX) else f"{name}{CA_SUFFIX}"
        secret = Secret(name=called)
        secret.validation_context.trusted_ca.inline_bytes = ca
        yield finish(called, secret)


def check_pair(certificate_chain: bytes, key: bytes) -> None:
    """Raises ValueError, with words for the author, unless the key is that of the chain's first certificate."""
    if not certificate_chain:
        raise ValueError("the certificate (tls.crt) is missing")
    if not key:
        raise ValueError("the private key (tls.key) is missing")
    leaf = _certificates(certificate_chain, "tls.crt")[0]
    public = _public_key(key)
    if public != leaf.public_key():
        raise ValueError(f"the private key does not belong to the certificate of {_subject(leaf)}")


def _certificates(pem: bytes, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError(f"{what} holds no PEM certificate that can be read") from None


def _public_key(pem: bytes) -> PublicKeyTypes:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("the private key (tls.key) is encrypted; store it without a passphrase") from None
    except Exception:  # the parser raises many kinds for what is, to the author, one thing; none may show the key
        raise ValueError("tls.key is not a PEM private key that can be read") from None
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < _SMALLEST_RSA:
            raise ValueError(f"the RSA key has {key.key_size} bits; Envoy takes {_SMALLEST_RSA} or more")
    elif not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, _CURVES):
        raise ValueError("the private key must be RSA, or ECDSA with the curve P-256, P-384 or P-521")
    return key.public_key()


def _subject(certificate: x509.Certificate) -> str:
    """Whom a certificate is for, as its author would say it."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        dns = []
    return dns[0] if dns else certificate.subject.rfc4514_string() or f"serial {certificate.serial_number:x}"


def _first(data: Mapping[str, bytes], keys: tuple[str, ...]) -> bytes:
    return next((data[key] for key in keys if data.get(key)), b"")
