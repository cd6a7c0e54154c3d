"""Patches of clusters: a cluster is merged into, taken away, or added.

Source: Istio `EnvoyFilter` with `applyTo: CLUSTER`. As there, a cluster that is added is not patched itself, and one
that would have the name of another is not added.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import cast

from google.protobuf.message import Message

from meltemi.envoy import names
from meltemi.envoy.patching.merging import merge
from meltemi.envoy.resource import CLUSTER, Resource, finish
from meltemi.model.patches import ClusterTarget, Patch, Patches, Side
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.patches import Unreadable, read


def patched(resource: Resource, patches: Patches) -> Resource | None:
    """A cluster after all patches that are for it; None if one takes it away. Other resources stay as they are."""
    if resource.type_url != CLUSTER:
        return resource
    message: Cluster | None = None
    sources = list(resource.sources)
    for patch in patches.patches:
        if patch.operation == "ADD" or not _is_meant(resource, patch, gateway=patches.gateway):
            continue
        if patch.operation == "REMOVE":
            return None
        value = _value(patch.value)
        if value is not None:
            message = Cluster.FromString(resource.body) if message is None else message
            merge(message, value)
            message.name = resource.name  # What refers to it knows it by this name.
            sources.append(patch.source)
    return resource if message is None else finish(resource.name, message, sources)


def added(patches: Patches, *, inbound: bool) -> Iterator[Resource]:
    """The clusters that patches add on one side of a proxy; those that are for any side are added once, outbound."""
    outbound = Side.GATEWAY if patches.gateway else Side.OUTBOUND
    for patch in patches.patches:
        wanted = patch.side is Side.INBOUND and not patches.gateway if inbound else patch.side in (Side.ANY, outbound)
        value = _value(patch.value) if patch.operation == "ADD" and wanted else None
        if value is not None and (name := cast("Cluster", value).name):
            yield finish(name, value, (patch.source,))


@lru_cache(maxsize=1024)
def _value(value: bytes) -> Message | None:
    """The message of a patch. None if it is no cluster, which validation has told."""
    try:
        return read("CLUSTER", json.loads(value))[0]
    except Unreadable:
        return None


def _is_meant(resource: Resource, patch: Patch, *, gateway: bool) -> bool:
    name = resource.name
    inbound = name.startswith("inbound|") or name == names.INBOUND_PASSTHROUGH
    side = Side.INBOUND if inbound else Side.GATEWAY if gateway else Side.OUTBOUND
    return patch.side in (Side.ANY, side) and _fits(resource, patch.target)


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


class Patching:
    """What patches make of the resources of one class of proxies; each is made once, until it changes."""

    def __init__(self, patches: Patches, *, inbound: bool) -> None:
        self._patches = patches
        self._made: dict[str, tuple[Resource, Resource | None]] = {}
        self.added = {each.name: each for each in added(patches, inbound=inbound)}

    def of(self, type_url: str, name: str, resource: Resource | None) -> Resource | None:
        """What the class gets under a name, instead of the resource given."""
        if type_url != CLUSTER:
            return resource
        if resource is None:
            self._made.pop(name, None)
            return self.added.get(name)
        made = self._made.get(name)
        if made is None or made[0] != resource:
            made = self._made[name] = (resource, patched(resource, self._patches))
        return self.added.get(name) if made[1] is None else made[1]
