"""Who is meant by "the client": the classes of proxies that see the mesh alike, and predicates over them.

Configuration is made once for all clients it is the same for. An `Audience` is such a class of clients; `Clients` says
which of them a piece of configuration is for. Whatever depends on the client does so through these two and nothing else.
"""

from __future__ import annotations

import enum

import msgspec

from meltemi.base.labels import LabelSet
from meltemi.base.refs import Ref


class ProxyKind(enum.StrEnum):
    """What a proxy does: it stands beside a workload, or at the edge of the mesh."""

    SIDECAR = "sidecar"
    GATEWAY = "router"


class Locality(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where something runs: region, zone and sub-zone; an empty part means that it is not known."""

    region: str = ""
    zone: str = ""
    subzone: str = ""


class Visibility(msgspec.Struct, frozen=True):
    """The namespaces that may see something (Istio's `exportTo`). `namespaces` is None where all may."""

    namespaces: frozenset[str] | None = None

    def includes(self, namespace: str) -> bool:
        """Whether clients of that namespace may see it."""
        return self.namespaces is None or namespace in self.namespaces


EVERYWHERE = Visibility()


class EgressHost(msgspec.Struct, frozen=True, order=True):
    """An entry of Sidecar `egress.hosts`, split: a namespace (`*` any) and a host, which may be a wildcard.

    `port` is the one at which the host is seen; 0 stands for all ports that no other entry of the scope names. `bound`: it
    is called not at its own addresses, but at one that the Sidecar gives it.
    """

    namespace: str
    host: str
    port: int = 0
    bound: bool = False


class EgressProxy(msgspec.Struct, frozen=True, order=True):
    """The port of a service, or of a subset of it, to which unknown traffic goes. `port` 0: there is no such service."""

    namespace: str
    host: str
    port: int
    subset: str = ""


class OutboundPolicy(msgspec.Struct, frozen=True, order=True):
    """What becomes of traffic for what nobody has declared: refused, let through as it is, or sent to `proxy`."""

    refused: bool = False
    proxy: EgressProxy | None = None


LET_THROUGH = OutboundPolicy()
REFUSED = OutboundPolicy(refused=True)


class Scope(msgspec.Struct, frozen=True):
    """What a client may call: the hosts of its Sidecar resource, or None for all that is exported to it.

    `imports` are hosts to which the rules of those hosts lead: they are not to be called by name, but must be reached.
    `outbound` is None where the mesh-wide setting holds. `own_address` tells that the server side differs
    from pod to pod.
    """

    egress: tuple[EgressHost, ...] | None = None
    imports: tuple[EgressHost, ...] = ()
    outbound: OutboundPolicy | None = None
    ref: Ref | None = None
    own_address: bool = False


class Audience(msgspec.Struct, frozen=True):
    """A class of clients for whom all outbound configuration is the same.

    `labels` holds only the labels that some rule about clients looks at (VirtualService `sourceLabels`, DestinationRule
    `workloadSelector`).
    """

    key: str
    kind: ProxyKind
    namespace: str
    labels: LabelSet = LabelSet()
    scope: Scope = Scope()
    locality: Locality = Locality()
    network: str = ""
    cluster: str = ""

    def fulfils(self, clients: Clients) -> bool:
        """Whether this class of clients is meant by a predicate."""
        return clients.includes(self)


class Clients(msgspec.Struct, frozen=True):
    """A predicate over audiences: kinds of proxy, namespaces, labels, or a list of audiences by key. None means any.

    `outbound` asks for clients whose Sidecar says this explicitly; those without a word on it follow the mesh.
    """

    kind: ProxyKind | None = None
    namespaces: frozenset[str] | None = None
    labels: LabelSet = LabelSet()
    audiences: frozenset[str] | None = None
    outbound: OutboundPolicy | None = None

    def includes(self, audience: Audience) -> bool:
        """Whether that class of clients is meant."""
        return (
            (self.kind is None or self.kind is audience.kind)
            and (self.namespaces is None or audience.namespace in self.namespaces)
            and (self.audiences is None or audience.key in self.audiences)
            and (self.outbound is None or self.outbound == audience.scope.outbound)
            and audience.labels.contains(self.labels)
        )

    def meet(self, other: Clients) -> Clients | None:
        """The clients that both mean, or None where it is plain that there are none."""
        if self is other:
            return self
        labels = self.labels.as_dict()
        if any(labels.setdefault(key, value) != value for key, value in other.labels.items):
            return None
        if _apart(self.kind, other.kind) or _apart(self.outbound, other.outbound):
            return None
        namespaces = _common(self.namespaces, other.namespaces)
        audiences = _common(self.audiences, other.audiences)
        if namespaces == frozenset() or audiences == frozenset():
            return None
        return Clients(
            kind=other.kind if self.kind is None else self.kind,
            namespaces=namespaces,
            labels=LabelSet.of(labels),
            audiences=audiences,
            outbound=other.outbound if self.outbound is None else self.outbound,
        )


def _apart(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other


def _common(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


ANYONE = Clients()
