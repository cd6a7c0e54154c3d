"""Changes of finished configuration that users write in Envoy's own words, and what each is for.

The value is opaque here: JSON of a message of Envoy's. Order matters, and is the order in which a class of proxies has
its patches. In what says which objects are meant, whatever is empty or 0 fits all.
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


class Kind(enum.StrEnum):
    """What is patched (Istio `EnvoyFilter.ApplyTo`)."""

    LISTENER = "LISTENER"
    LISTENER_FILTER = "LISTENER_FILTER"
    FILTER_CHAIN = "FILTER_CHAIN"
    NETWORK_FILTER = "NETWORK_FILTER"
    HTTP_FILTER = "HTTP_FILTER"
    ROUTE_CONFIGURATION = "ROUTE_CONFIGURATION"
    VIRTUAL_HOST = "VIRTUAL_HOST"
    HTTP_ROUTE = "HTTP_ROUTE"
    CLUSTER = "CLUSTER"


class ClusterTarget(msgspec.Struct, frozen=True):
    """Clusters by name, or by service, port and subset."""

    name: str = ""
    service: str = ""
    port: int = 0
    subset: str = ""


class ChainTarget(msgspec.Struct, frozen=True):
    """Filter chains by name and by what they match, all `protocols` among it; then a filter, and one within it."""

    name: str = ""
    server_name: str = ""
    transport: str = ""
    protocols: tuple[str, ...] = ()
    destination_port: int = 0
    filter: str = ""
    inner: str = ""


class ListenerTarget(msgspec.Struct, frozen=True):
    """Listeners by name and port, a listener filter in them, and chains."""

    name: str = ""
    port: int = 0
    filter: str = ""
    chain: ChainTarget = ChainTarget()


class RouteTarget(msgspec.Struct, frozen=True):
    """Route configurations by name and by the server they are of, virtual hosts in them by name or domain, and
    routes.

    `gateway` is `namespace/name`, `action` one of ROUTE, REDIRECT and DIRECT_RESPONSE. `picks` says whether routes are
    asked for at all: a change may be put beside those that are.
    """

    name: str = ""
    port: int = 0
    port_name: str = ""
    gateway: str = ""
    host: str = ""
    domain: str = ""
    route: str = ""
    action: str = ""
    picks: bool = False


class Patch(msgspec.Struct, frozen=True):
    """One change: `operation` in Istio's word (`MERGE`, `INSERT_BEFORE`), `value` the JSON of the message (none: empty).

    Of the three targets, the one that belongs to the kind counts.
    """

    kind: Kind
    operation: str
    value: bytes
    source: Source
    side: Side = Side.ANY
    cluster: ClusterTarget = ClusterTarget()
    listener: ListenerTarget = ListenerTarget()
    routes: RouteTarget = RouteTarget()


class Patches(msgspec.Struct, frozen=True):
    """The patches of one class of proxies, in order. `gateway`: the class stands at the edge of the mesh."""

    patches: tuple[Patch, ...] = ()
    gateway: bool = False
