"""A program that runs in the network of a mesh and tries what a workload, or somebody who pretends to be one, could try.

    inside.py <pid> sign <port> <identity> <token>            asks for a certificate; prints whose it is, or the refusal
    inside.py <pid> discover <port> <own identity> <token> <node JSON>    gets one, asks for configuration as that node

The network is the one of the process `pid`; the mesh's roots are read from standard input. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import grpc
from cryptography import x509

from meltemi.agent.call import CallError
from meltemi.agent.csr import CertificateClient
from meltemi.agent.keys import Key
from meltemi.agent.spec import Address
from meltemi.base.spiffe import SpiffeId
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from meltemi.testing.entering import enter_network

_CONTROL_PLANE = SpiffeId("cluster.local", "istio-system", "meltemi")
_SERVER_NAME = "meltemi.istio-system.svc"
_ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
_GATEWAY = "10.244.0.1"


def sign(port: int, identity: SpiffeId, token: str, roots: bytes) -> tuple[Key, tuple[str, ...]]:
    """A new key and its certificate. Raises CallError."""
    key = Key()
    client = CertificateClient(
        Address(_GATEWAY, port), _CONTROL_PLANE, token=lambda: token, roots=lambda: roots, cluster_id="local"
    )
    return key, asyncio.run(client.sign(key.csr(identity), timedelta()))


def owners(chain: tuple[str, ...]) -> list[str]:
    """Whose certificate it is."""
    leaf = x509.load_pem_x509_certificate(chain[0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def discover(port: int, roots: bytes, node: dict[str, Any], key: Key, chain: tuple[str, ...]) -> dict[str, Any]:
    """Ask for clusters as a node, with a certificate: how many came, or the refusal."""
    credentials = grpc.ssl_channel_credentials(roots, key.pem(), "".join(chain[:-1]).encode())
    options = [("grpc.ssl_target_name_override", _SERVER_NAME)]
    request = DeltaDiscoveryRequest(type_url=_CLUSTER)
    request.node.id = node["id"]
    request.node.metadata.update(node["metadata"])
    with grpc.secure_channel(f"{_GATEWAY}:{port}", credentials, options) as channel:
        call = channel.stream_stream(_ADS, DeltaDiscoveryRequest.SerializeToString, DeltaDiscoveryResponse.FromString)
        said: SimpleQueue[DeltaDiscoveryRequest | None] = SimpleQueue()
        said.put(request)
        try:
            response = next(call(iter(said.get, None), timeout=15))
        except grpc.RpcError as error:
            return {"code": error.code().name, "message": error.details()}
        finally:
            said.put(None)
        return {"code": "OK", "clusters": sorted(resource.name for resource in response.resources)}


def main(pid: str, what: str, port: str, identity: str, token: str, node: str = "{}") -> dict[str, Any]:
    """One attempt; what came of it."""
    roots = sys.stdin.buffer.read()
    enter_network(int(pid))
    try:
        number = int(port) if what == "sign" else 15012
        key, chain = sign(number, SpiffeId.parse(identity), token, roots)
    except CallError as error:
        return {"code": str(error.status), "message": str(error)}
    if what == "sign":
        return {"code": "OK", "identities": owners(chain)}
    return discover(int(port), roots, json.loads(node), key, chain)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
