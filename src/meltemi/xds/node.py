"""Who is asking: an Envoy node, with Istio's metadata, read as a proxy of the mesh.

What a node says of itself is believed only as far as its certificate goes: the namespace and the service account in
its metadata must be those of the SPIFFE identity that the connection was made with.

Source: Istio's node id `<type>~<ip>~<pod>.<namespace>~<namespace>.svc.<domain>` and its `NodeMetadata`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meltemi.base.discovery import COMPANION
from meltemi.base.labels import PER_POD, LabelSet
from meltemi.base.spiffe import SpiffeId
from meltemi.base.workloads import canonical_revision, canonical_service
from meltemi.model.clients import Locality, ProxyKind
from meltemi.model.proxies import Proxy
from meltemi.model.services import WorkloadName
from meltemi.protos.envoy.config.core.v3.base_pb2 import Node
from meltemi.protos.google.protobuf.struct_pb2 import Struct, Value


class NotAllowedError(Exception):
    """The node claims to be somebody whom its certificate does not name, or does not say who it is."""


def identify(node: Node, peer: SpiffeId) -> Proxy:
    """The proxy that a node describes. Raises NotAllowedError where it claims another identity than `peer`."""
    parts = node.id.split("~")
    if len(parts) != 4 or parts[0] not in tuple(ProxyKind):
        raise NotAllowedError(f"node id {node.id!r} is not of the form sidecar~<ip>~<pod>.<namespace>~<domain>")
    kind, address, name, _ = parts
    metadata = as_dict(node.metadata)
    namespace = str(metadata.get("NAMESPACE", "")) or name.rpartition(".")[2]
    account = str(metadata.get("SERVICE_ACCOUNT", "")) or "default"
    if (namespace, account) != (peer.namespace, peer.service_account):
        raise NotAllowedError(f"{name} says it runs as {namespace}/{account}, but its certificate is for {peer}")
    if name.rpartition(".")[2] != namespace:
        raise NotAllowedError(f"{name} is not in the namespace {namespace} of its certificate")
    labels = {str(key): str(value) for key, value in _mapping(metadata.get("LABELS")).items()}
    return Proxy(
        id=name,
        kind=ProxyKind(kind),
        namespace=namespace,
        labels=LabelSet.of(labels).without(PER_POD),
        identity=peer,
        addresses=tuple(str(metadata.get("INSTANCE_IPS", address)).split(",")),
        names=_names(metadata, namespace, labels),
        locality=Locality(node.locality.region, node.locality.zone, node.locality.sub_zone),
        network=str(metadata.get("NETWORK", "")),
        cluster=str(metadata.get("CLUSTER_ID", "")),
    )


def is_companion(node: Node) -> bool:
    """Whether a proxy's agent connects, beside the proxy itself."""
    return COMPANION in node.metadata.fields


def _names(metadata: Mapping[str, Any], namespace: str, labels: Mapping[str, str]) -> WorkloadName:
    workload = str(metadata.get("WORKLOAD_NAME", ""))
    return WorkloadName(
        workload=workload,
        namespace=namespace,
        app=labels.get("app", ""),
        version=labels.get("version", ""),
        canonical_service=canonical_service(labels, workload),
        canonical_revision=canonical_revision(labels),
        cluster=str(metadata.get("CLUSTER_ID", "")),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def as_dict(struct: Struct) -> dict[str, Any]:
    """A protobuf Struct as plain Python values."""
    return {key: _plain(value) for key, value in struct.fields.items()}


def _plain(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return as_dict(value.struct_value)
    if kind == "list_value":
        return [_plain(each) for each in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)
