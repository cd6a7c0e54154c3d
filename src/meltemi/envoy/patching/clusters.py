"""Patches of clusters: a cluster is merged into, or taken away.

Source: Istio `EnvoyFilter` with `applyTo: CLUSTER`.
"""

from __future__ import annotations

from typing import Any, cast

from meltemi.envoy import names
from meltemi.envoy.patching.edits import Used, message_of
from meltemi.envoy.patching.merging import merge, merge_configured, merge_with_socket
from meltemi.envoy.resource import Resource, finish
from meltemi.model.patches import ClusterTarget, Kind, Patch, Patches, Side
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster


def patched(resource: Resource, patches: Patches, used: Used) -> Resource | None:
    """A cluster after all patches that are for it, which become `used`; None if one takes it away."""
    message: Cluster | None = None
    for patch in patches.patches:
        if patch.kind is not Kind.CLUSTER or not _is_meant(resource, patch, gateway=patches.gateway):
            continue
        if patch.operation == "REMOVE":
            used[patch.source] = None
            return None
        value = message_of(patch) if patch.operation == "MERGE" else None
        if value is not None:
            message = Cluster.FromString(resource.body) if message is None else message
            _merge(message, cast("Cluster", value))
            message.name = resource.name  # What refers to it knows it by this name.
            used[patch.source] = None
    return resource if message is None else finish(resource.name, message, [*resource.sources, *used])


def _merge(cluster: Cluster, patch: Cluster) -> None:
    """A cluster that has transport sockets to choose from may have no other: the patch is for the one of its name."""
    sockets: Any = cluster.transport_socket_matches
    if not sockets or not patch.HasField("transport_socket"):
        merge_with_socket(cluster, patch)
        return
    for each in sockets:
        if each.transport_socket.name == patch.transport_socket.name:
            merge_configured(each.transport_socket, patch.transport_socket)
            break
    rest = Cluster()
    rest.CopyFrom(patch)
    rest.ClearField("transport_socket")
    merge(cluster, rest)


def _is_meant(resource: Resource, patch: Patch, *, gateway: bool) -> bool:
    name = resource.name
    inbound = name.startswith("inbound|") or name == names.INBOUND_PASSTHROUGH
    side = Side.INBOUND if inbound else Side.GATEWAY if gateway else Side.OUTBOUND
    return patch.side in (Side.ANY, side) and _fits(resource, patch.cluster)


def _fits(resource: Resource, target: ClusterTarget) -> bool:
    if target == ClusterTarget():
        return True
    if target.name:
        return target.name == resource.name
    parts = resource.name.split("|")
    if len(parts) != 4:
        return False
    direction, port, subset, host = parts
    hosts = _hosts(resource) if direction == "inbound" and target.service else {host}
    return (
        (not target.subset or target.subset == subset)
        and (not target.service or target.service in hosts)
        and (not target.port or str(target.port) == port)
    )


def _hosts(resource: Resource) -> set[str]:
    """The services that an inbound cluster serves, from the metadata that Istio's users know."""
    listed = Cluster.FromString(resource.body).metadata.filter_metadata["istio"].fields["services"].list_value
    return {each.struct_value.fields["host"].string_value for each in listed.values}
