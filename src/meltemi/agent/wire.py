"""The handful of protobuf messages that the agent reads and writes, without the protobuf library.

An agent stands beside every proxy, so its memory counts as often as there are pods; the library and the descriptors of
Envoy's API would be a sixth of it. Each function here names the message it stands for and its fields' numbers; a test
holds every one of them against the real message.

Source: `envoy.service.discovery.v3`, `envoy.config.core.v3.Node`, `envoy.extensions.transport_sockets.tls.v3.Secret`,
`istio.v1.auth`, `istio.networking.nds.v1`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from meltemi.base.protobuf import data, double, number, parse, string, strings, text

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
        return cls(strings(fields, 3), string(fields, 5), _status(fields, 6))


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
        versions = {string(entry, 1): string(entry, 2) for entry in entries}
        return cls(strings(fields, 3), strings(fields, 4), versions, _status(fields, 7))


def _status(fields: Mapping[int, list[bytes]], field: int) -> str:
    """The message of a google.rpc.Status, if there is one."""
    if field not in fields:
        return ""
    return string(parse(fields[field][-1]), 2) or "no reason given"


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


# === discovery, asking ===


def node(value: Mapping[str, Any]) -> bytes:
    """A Node: its JSON form as bytes, as far as `id`, `cluster`, `metadata` and `locality` go."""
    locality = value.get("locality", {})
    place = b"".join(
        text(field, locality.get(name, "")) for field, name in enumerate(("region", "zone", "sub_zone"), 1)
    )
    described = text(1, value.get("id", "")) + text(2, value.get("cluster", ""))
    return described + data(3, _struct(value.get("metadata", {}))) + (data(4, place) if place else b"")


def _struct(value: Mapping[str, Any]) -> bytes:
    """A google.protobuf.Struct of plain values."""
    return b"".join(data(1, text(1, str(key)) + data(2, _value(each))) for key, each in value.items())


def _value(value: object) -> bytes:
    """A google.protobuf.Value."""
    match value:
        case None:
            return b"\x08\x00"
        case bool():
            return b"\x20\x01" if value else b"\x20\x00"
        case int() | float():
            return double(2, value)
        case str():
            return data(3, value)
        case Mapping():
            return data(5, _struct(value))
        case Sequence():
            return data(6, b"".join(data(1, _value(each)) for each in value))
        case _:
            raise TypeError(f"{type(value).__name__} has no place in JSON")


def delta_discovery_request(
    type_url: str,
    *,
    node: bytes = b"",
    subscribe: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    nonce: str = "",
) -> bytes:
    """A DeltaDiscoveryRequest; `versions` are of the resources that are there already."""
    held = b"".join(data(5, text(1, name) + data(2, version)) for name, version in (versions or {}).items())
    names = b"".join(data(3, name) for name in subscribe)
    return (data(1, node) if node else b"") + text(2, type_url) + names + held + text(6, nonce)


class Received(msgspec.Struct, frozen=True):
    """A resource of a DeltaDiscoveryResponse."""

    name: str
    version: str
    body: bytes


class DeltaResponse(msgspec.Struct, frozen=True):
    """A DeltaDiscoveryResponse: resources, names of those that are gone, and the nonce to answer with."""

    type_url: str
    resources: tuple[Received, ...]
    removed: tuple[str, ...]
    nonce: str

    @classmethod
    def parse(cls, message: bytes) -> DeltaResponse:
        """Raises WireError."""
        fields = parse(message)
        resources = []
        for each in fields.get(2, ()):
            inner = parse(each)
            packed = parse(inner[2][-1]) if 2 in inner else {}
            resources.append(Received(string(inner, 3), string(inner, 1), packed.get(2, [b""])[-1]))
        return cls(string(fields, 4), tuple(resources), strings(fields, 6), string(fields, 5))


class NameInfo(msgspec.Struct, frozen=True):
    """The NameInfo of Istio's NameTable that tells of one host. Source: `istio.networking.nds.v1.NameTable`."""

    ips: tuple[str, ...]
    registry: str = ""
    shortname: str = ""
    namespace: str = ""

    @classmethod
    def parse(cls, message: bytes) -> NameInfo:
        """From a NameTable that is a resource of its own, with the host as its name. Raises WireError."""
        fields = parse(parse(message).get(2, [b""])[-1])
        return cls(strings(fields, 1), string(fields, 2), string(fields, 3), string(fields, 4))


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
    return strings(parse(message), 1)
