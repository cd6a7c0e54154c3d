"""Mutual TLS that crosses a gateway unopened, from one network to the next (Istio's AUTO_PASSTHROUGH).

The client's sidecar asks for the server name `outbound_.<port>_.<subset>_.<host>`, and the gateway passes the connection
on to the cluster of that very name, so that both ends see each other's certificates and the gateway sees nothing. Its
listener has one chain for all services, however many there are; clusters and their endpoints come and go beside it.

Whoever chooses a server name would choose a cluster with it. So the chain takes only what offers the mesh's protocols,
refuses every name that is not of that form and for a host that the gateway's server lists, and connects to nobody before
it has; and the clusters have only endpoints to which mutual TLS is spoken: nobody is reached in plaintext this way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from meltemi.envoy import authorization, balancing, metadata, names, pools, tcp
from meltemi.envoy.endpoints import assignment, find_subset, labelled, subset_names
from meltemi.envoy.resource import CLUSTER, ENDPOINTS, Offer, Resource, Seen, Variant, finish
from meltemi.envoy.values import ads, duration, percent
from meltemi.flow import View
from meltemi.model.clients import Clients
from meltemi.model.gateways import Crossings, GatewayServer
from meltemi.model.mesh import Mesh
from meltemi.model.routes import Source
from meltemi.model.services import Endpoint, Protocol, Resolution, Service, ServiceEndpoints, ServicePort
from meltemi.model.traffic import Balancer, Destination, DestinationVariant, TrafficPolicy
from meltemi.protos import any_of
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch
from meltemi.protos.envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal
from meltemi.protos.envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac
from meltemi.protos.envoy.extensions.filters.network.sni_cluster.v3.sni_cluster_pb2 import SniCluster
from meltemi.protos.envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from meltemi.protos.envoy.type.matcher.v3.string_pb2 import StringMatcher

Key = tuple[str, str, str]  # type, resource name, namespace of the service

SNI_CLUSTER = "envoy.filters.network.sni_cluster"
PROTOCOLS = (
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
)  # as Istio's sidecars offer
_STAT_PREFIX = "server_name."


def clusters(
    service: Service,
    *,
    mesh: View[tuple[()], Mesh],
    crossings: View[tuple[()], Crossings],
    destinations: View[tuple[str, str], Destination],
    endpoints: View[tuple[str, str], ServiceEndpoints],
) -> Iterator[tuple[Key, Offer]]:
    """Offers of Cluster and ClusterLoadAssignment by server name, for the gateways that mutual TLS crosses."""
    gateways = Clients(audiences=crossings.only().audiences)
    if not gateways.audiences or service.external or service.resolution is not Resolution.ENDPOINTS:
        return
    known = endpoints.get(service.key) or ServiceEndpoints(service.namespace, service.host)
    destination = destinations.get(service.key) or Destination(*service.key)
    variants = [
        replace(variant, clients=common)
        for variant in destination.variants
        if (common := variant.clients.meet(gateways)) is not None
    ]
    seen = (Seen(service.namespace, service.host, service.visibility),)
    for port in service.ports:
        if port.protocol is Protocol.UDP:
            continue
        of_port = tuple(endpoint for endpoint in known.of(port.number) if endpoint.meshed)
        for subset in ("", *subset_names(variants)):
            name = names.server_name(port.number, service.host, subset)
            made = [(each.clients, _resources(service, port, each, subset, of_port, mesh.only())) for each in variants]
            for position, type_url in enumerate((CLUSTER, ENDPOINTS)):
                choices = tuple(Variant(clients, found[position]) for clients, found in made)
                yield (type_url, name, service.namespace), Offer(type_url, name, choices, seen)


def _resources(
    service: Service,
    port: ServicePort,
    variant: DestinationVariant,
    subset: str,
    endpoints: tuple[Endpoint, ...],
    mesh: Mesh,
) -> tuple[Resource | None, Resource | None]:
    """The cluster and its endpoints as the gateways of one variant see them; None where they know no such subset."""
    if subset:
        found = find_subset(variant.subsets, subset)
        if found is None:
            return None, None
        endpoints = labelled(endpoints, found.labels)
    name = names.server_name(port.number, service.host, subset)
    message = cluster(name, service, variant.policy(port.number, subset) or TrafficPolicy(), mesh)
    sources = [Source(service.ref), *map(Source, variant.refs)]
    return finish(name, message, sources), finish(name, assignment(name, endpoints), sources)


def cluster(name: str, service: Service, policy: TrafficPolicy, mesh: Mesh) -> Cluster:
    """The cluster of a server name: connections as they come, without TLS of the gateway's own."""
    chosen = policy.balancing
    if chosen.simple is Balancer.PASSTHROUGH:  # the client has connected to the gateway, not to where it wants to go
        chosen = replace(chosen, simple=Balancer.LEAST_REQUEST)
    message = Cluster(
        name=name,
        alt_stat_name=names.stat_name(name),
        type=Cluster.EDS,
        eds_cluster_config=Cluster.EdsClusterConfig(eds_config=ads(), service_name=name),
        connect_timeout=duration(policy.pool.connect_timeout or mesh.connect_timeout),
        load_balancing_policy=balancing.policy(chosen),
        circuit_breakers=pools.circuit_breakers(policy.pool),
        upstream_connection_options=pools.connection_options(policy.pool.keepalive or mesh.tcp_keepalive),
        metadata=metadata.of_cluster(service),
    )
    message.common_lb_config.healthy_panic_threshold.CopyFrom(percent(pools.panic_threshold(policy.outlier)))
    if policy.outlier is not None:
        message.outlier_detection.CopyFrom(pools.outlier_detection(policy.outlier))
    return message


def chain(server: GatewayServer, guards: Sequence[Filter], mesh: Mesh) -> FilterChain:
    """The chain of a server that mutual TLS crosses. `guards` judge the connections before they are passed on."""
    match = FilterChainMatch(
        transport_protocol="tls", application_protocols=PROTOCOLS, server_names=_suffixes(server.hosts)
    )
    filters = [*guards, _only(server.hosts), Filter(name=SNI_CLUSTER, typed_config=any_of(SniCluster()))]
    return FilterChain(
        name=server.name, filter_chain_match=match, filters=[*filters, tcp.to_named_cluster(server.name, mesh)]
    )


def _suffixes(hosts: Sequence[str]) -> list[str]:
    """What the server names for these hosts end with; none where they may be for any host."""
    found = [host if host.startswith("*.") else f"*.{host}" for host in hosts]
    return [] if "*" in hosts else list(dict.fromkeys(each for each in found if "*" not in each[2:]))


def _only(hosts: Sequence[str]) -> Filter:
    """Refuses connections with any other server name than those of these hosts' ports and subsets."""
    named = "|".join(".+" if host == "*" else re.escape(host).replace(r"\*", ".+") for host in hosts)
    wanted = StringMatcher(safe_regex=RegexMatcher(regex=rf"outbound_\.[0-9]+_\.[^|]*_\.({named})"))
    rule = Policy(permissions=[Permission(requested_server_name=wanted)], principals=[Principal(any=True)])
    rules = RBAC(action=RBAC.ALLOW, policies={"server_names": rule})
    return Filter(
        name=authorization.NETWORK, typed_config=any_of(network_rbac.RBAC(rules=rules, stat_prefix=_STAT_PREFIX))
    )
