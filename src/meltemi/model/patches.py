"""Changes of finished configuration that users write in Envoy's own words, and which clusters each is for.

The value is opaque here: JSON of a message of Envoy's. Order matters, and is the order in which a class of proxies has
its patches.
"""

from __future__ import annotations

import enum

import msgspec

from meltemi.model.routes import Source


class Side(enum.StrEnum):
    """The side of a proxy that is patched (Istio `EnvoyFilter.PatchContext`)."""

    ANY = "ANY"
    INBOUND = "SIDECAR_INBOUND"
    OUTBOUND = "SIDECAR_OUTBOUND"
    GATEWAY = "GATEWAY"


class ClusterTarget(msgspec.Struct, frozen=True):
    """Clusters by name, or by service, port and subset; what is empty or 0 fits all."""

    name: str = ""
    service: str = ""
    port: int = 0
    subset: str = ""


class Patch(msgspec.Struct, frozen=True):
    """One change of clusters: `operation` is MERGE, ADD or REMOVE, `value` the JSON of the message (none: empty)."""

    operation: str
    value: bytes
    source: Source
    side: Side = Side.ANY
    target: ClusterTarget = ClusterTarget()


class Patches(msgspec.Struct, frozen=True):
    """The patches of one class of proxies, in order. `gateway`: the class stands at the edge of the mesh."""

    patches: tuple[Patch, ...] = ()
    gateway: bool = False
