"""Traffic for what nobody has declared: who has which policy about it, and to which cluster it goes.

Most clients follow the mesh; a Sidecar may say otherwise for its workloads. Refusing and letting through are always
prepared, so that a first Sidecar with the other mode changes no listener; services to which such traffic is sent are
prepared as Sidecars name them.
"""

from __future__ import annotations

from collections.abc import Iterator

from meltemi.envoy import names
from meltemi.flow import View
from meltemi.model.clients import LET_THROUGH, REFUSED, Clients, OutboundPolicy, ProxyKind
from meltemi.model.mesh import Mesh

Policies = tuple[OutboundPolicy, ...]
EgressProxies = View[tuple[()], Policies]


def outbound_policies(mesh: Mesh, egress_proxies: Policies) -> Iterator[tuple[Clients, OutboundPolicy]]:
    """The sidecars whose Sidecar resource differs from the mesh on unknown traffic, then all; with what they do."""
    for policy in (LET_THROUGH, REFUSED, *egress_proxies):
        if policy != mesh.outbound:
            yield Clients(kind=ProxyKind.SIDECAR, outbound=policy), policy
    yield Clients(kind=ProxyKind.SIDECAR), mesh.outbound


def cluster(policy: OutboundPolicy) -> str:
    """The cluster that unknown traffic goes to. That of a service which does not exist is never there."""
    if policy.proxy is not None:
        return names.outbound_cluster(policy.proxy.port, policy.proxy.host, policy.proxy.subset)
    return names.BLACK_HOLE if policy.refused else names.PASSTHROUGH
