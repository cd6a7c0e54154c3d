"""The handful of protobuf messages that the agent reads and writes, without the protobuf library.

An agent stands beside every proxy, so its memory counts as often as there are pods; the library and the descriptors of
Envoy's API would be a sixth of it. Each function here names the message it stands for and its fields' numbers; a test
holds every one of them against the real message.

Source: the protobuf encoding; `envoy.service.discovery.v3`, `envoy.extensions.transport_sockets.tls.v3.Secret`,
`istio.v1.auth`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


class WireError(Exception):
    """The bytes are not a protobuf message."""


# === the encoding ===


def number(field: int, value: int) -> bytes:
    """A field that is a number of zero or more; absent if zero."""
    return _varint(field << 3 | _VARINT) + _varint(value) if value else b""


def data(field: int, value: bytes | str) -> bytes:
    """A field that is a message, a string or bytes; present even if empty."""
    encoded = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | _BYTES) + _varint(len(encoded)) + encoded


def text(field: int, value: str) -> bytes:
    """A field that is a string; absent if empty."""
    return data(field, value) if value else b""


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def parse(message: bytes) -> dict[int, list[bytes]]:
    """The fields that are messages, strings or bytes, by number, in order; others are skipped. Raises WireError."""
    fields: dict[int, list[bytes]] = {}
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & 7
        if kind == _BYTES:
            size, at = _read_varint(message, at)
            if at + size > len(message):
                raise WireError("a field is longer than its message")
            fields.setdefault(key >> 3, []).append(message[at : at + size])
            at += size
        elif kind == _VARINT:
            _, at = _read_varint(message, at)
        elif kind in _WIDTHS:
            at += _WIDTHS[kind]
        else:
            raise WireError(f"there is no wire type {kind}")
    return fields


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if at >= len(message):
            raise WireError("a number is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise WireError("a number is too long")


def _string(fields: Mapping[int, list[bytes]], field: int) -> str:
    return _decoded(fields[field][-1]) if field in fields else ""


def _strings(fields: Mapping[int, list[bytes]], field: int) -> tuple[str, ...]:
    return tuple(map(_decoded, fields.get(field, ())))


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise WireError("a string is not UTF-8") from error


# === discovery ===


class SecretsRequest(msgspec.Struct, frozen=True):
    """A DiscoveryRequest: all names that are wanted, the response it answers, and why that was refused."""

    names: tuple[str, ...]
    nonce: str
    error: str

    @classmethod
    def parse(cls, message: bytes) -> SecretsRequest:
        """Raises WireError."""
        fields = parse(message)
        return cls(_strings(fields, 3), _string(fields, 5), _status(fields, 6))


class DeltaSecretsRequest(msgspec.Struct, frozen=True):
    """A DeltaDiscoveryRequest: what is wanted in addition, what no longer, and the versions that are there already."""

    subscribe: tuple[str, ...]
    unsubscribe: tuple[str, ...]
    versions: dict[str, str]
    error: str

    @classmethod
    def parse(cls, message: bytes) -> DeltaSecretsRequest:
        """Raises WireError."""
        fields = parse(message)
        entries = (parse(entry) for entry in fields.get(5, ()))
        versions = {_string(entry, 1): _string(entry, 2) for entry in entries}
        return cls(_strings(fields, 3), _strings(fields, 4), versions, _status(fields, 7))


def _status(fields: Mapping[int, list[bytes]], field: int) -> str:
    """The message of a google.rpc.Status, if there is one."""
    if field not in fields:
        return ""
    return _string(parse(fields[field][-1]), 2) or "no reason given"


def discovery_response(version: str, type_url: str, nonce: str, resources: Sequence[bytes]) -> bytes:
    """A DiscoveryResponse of serialised resources."""
    packed = b"".join(data(2, _any(type_url, resource)) for resource in resources)
    return text(1, version) + packed + text(4, type_url) + text(5, nonce)


def delta_discovery_response(type_url: str, nonce: str, resources: Sequence[tuple[str, str, bytes]]) -> bytes:
    """A DeltaDiscoveryResponse of resources given as name, version and serialised message."""
    packed = b"".join(
        data(2, text(1, version) + data(2, _any(type_url, body)) + text(3, name)) for name, version, body in resources
    )
    return packed + text(4, type_url) + text(5, nonce)


def _any(type_url: str, value: bytes) -> bytes:
    return text(1, type_url) + data(2, value)


# === secrets ===


def tls_certificate(name: str, chain: bytes, key: bytes) -> bytes:
    """A Secret with a TlsCertificate of inline PEM."""
    return text(1, name) + data(2, data(1, data(2, chain)) + data(2, data(2, key)))


def validation_context(name: str, roots: bytes) -> bytes:
    """A Secret with a CertificateValidationContext of inline PEM."""
    return text(1, name) + data(4, data(1, data(2, roots)))


# === certificates ===


def certificate_request(csr: str, seconds: int, cluster: str) -> bytes:
    """An IstioCertificateRequest; the cluster goes into its metadata."""
    metadata = data(4, data(1, text(1, "ClusterID") + data(2, data(3, cluster)))) if cluster else b""
    return text(1, csr) + number(3, seconds) + metadata


def certificate_chain(message: bytes) -> tuple[str, ...]:
    """The chain of an IstioCertificateResponse. Raises WireError."""
    return _strings(parse(message), 1)
