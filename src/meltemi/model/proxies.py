"""Proxies that ask for configuration, and the views that group those which get the same.

A `View` is a class of proxies with the same inbound side; its `audience` is the larger class with the same outbound side.
"""

from __future__ import annotations

import msgspec

from meltemi.base.labels import LabelSet
from meltemi.base.refs import Ref
from meltemi.base.spiffe import SpiffeId
from meltemi.model.clients import Locality, ProxyKind, Scope
from meltemi.model.gateways import ServerTls
from meltemi.model.routes import Route
from meltemi.model.security import Authorization, MutualTls, PeerPolicy
from meltemi.model.services import Protocol, WorkloadName
from meltemi.model.traffic import ConnectionPool


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """One connected proxy. `key` in its table: its id, `<pod>.<namespace>`."""

    id: str
    kind: ProxyKind
    namespace: str
    labels: LabelSet
    identity: SpiffeId
    addresses: tuple[str, ...] = ()
    names: WorkloadName = WorkloadName()
    locality: Locality = Locality()
    network: str = ""
    cluster: str = ""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A class of proxies that get the same configuration: replicas of one workload.

    `labels` are those that do not differ from pod to pod; `ports` are the named ports of the workload. `address` is the
    pod's own, where its Sidecar asks for what depends on it; elsewhere empty, or no two pods would share a view.
    """

    key: str
    kind: ProxyKind
    namespace: str
    labels: LabelSet
    identity: SpiffeId
    names: WorkloadName
    audience: str
    scope: Scope = Scope()
    locality: Locality = Locality()
    network: str = ""
    ports: tuple[tuple[str, int], ...] = ()
    address: str = ""


class Placement(msgspec.Struct, frozen=True):
    """The classes that one proxy belongs to: its view and its audience, by key. `key` in its table: the proxy's id."""

    view: str
    audience: str


class InboundPort(msgspec.Struct, frozen=True):
    """A port on which a workload serves: the port of the process, and the service and service port it stands for.

    `bind` is an address that a Sidecar names for it. Where it is not `captured`, the proxy itself listens there. `tls` is
    TLS that the proxy ends in place of the mesh's. `pool` limits the connections to the process, and `refs` are the
    DestinationRules that it rests on.
    """

    port: int
    protocol: Protocol
    mutual_tls: MutualTls
    host: str = ""
    service_port: int = 0
    default_endpoint: str = ""
    service_name: str = ""
    service_namespace: str = ""
    bind: str = ""
    captured: bool = True
    tls: ServerTls | None = None
    pool: ConnectionPool = ConnectionPool()
    refs: tuple[Ref, ...] = ()


class Inbound(msgspec.Struct, frozen=True):
    """The server side of a view. `key` in its table: the view's.

    `peer` holds for ports that no service declares; `routes` are extra inbound routes (none: everything to the process).
    `sidecar` is the Sidecar that has a say in it, if one has.
    """

    view: str
    ports: tuple[InboundPort, ...]
    peer: PeerPolicy
    authorization: Authorization = Authorization()
    routes: tuple[Route, ...] = ()
    sidecar: Ref | None = None
