"""Certificates for tests: an authority in memory, and a secret discovery service that hands out one identity."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority, load_authority, new_root, private_pem
from meltemi.protos import any_of
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from meltemi.xds.http2 import Call, Method

PATH = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"


def authority() -> Authority:
    """A fresh authority that nobody else has."""
    now = datetime.now(UTC)
    return load_authority(new_root("test", now), now)


def identity_secrets(issuer: Authority, identity: SpiffeId) -> Mapping[str, Secret]:
    """The secrets `default` and `ROOTCA` of an identity, good for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = issuer.issue(key.public_key(), identity, timedelta(hours=1), datetime.now(UTC))
    own = Secret(name="default")
    own.tls_certificate.certificate_chain.inline_bytes = "".join(issued.chain).encode()
    own.tls_certificate.private_key.inline_bytes = private_pem(key)
    roots = Secret(name="ROOTCA")
    roots.validation_context.trusted_ca.inline_bytes = issuer.trust_bundle.encode()
    return {"default": own, "ROOTCA": roots}


def secret_service(secrets: Mapping[str, Secret]) -> Mapping[str, Method]:
    """A service that answers every first request for a secret, and takes acknowledgements in silence."""
    return {PATH: lambda call: _Secrets(call, secrets)}


class _Secrets:
    """One stream of it."""

    def __init__(self, call: Call, secrets: Mapping[str, Secret]) -> None:
        self._call = call
        self._secrets = secrets

    def received(self, message: bytes) -> None:
        """A request."""
        request = DiscoveryRequest.FromString(message)
        if request.version_info:
            return
        found = [any_of(self._secrets[name]) for name in request.resource_names if name in self._secrets]
        response = DiscoveryResponse(version_info="1", resources=found, type_url=request.type_url, nonce="1")
        self._call.send(response.SerializeToString())

    def closed(self) -> None:
        """The stream has ended."""
