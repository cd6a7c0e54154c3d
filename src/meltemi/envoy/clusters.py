"""Clusters: one for every port of every service, and one more for each subset.

A cluster rests on the service, on how clients treat it (DestinationRules) and on the identities behind it, but not on
its endpoints: a pod that comes or goes changes a load assignment and no cluster. The exception are services found by
DNS, whose names Envoy wants inside the cluster; they change when their author changes them.

mTLS is the default transport and plaintext the exception, chosen by the endpoint's `tlsMode: disabled`: an endpoint
about which nothing is said is never spoken to in the clear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from meltemi.base.problems import Problem
from meltemi.envoy import balancing, metadata, names, pools, sessions, tls
from meltemi.envoy.endpoints import assignment, find_subset, labelled, subset_names
from meltemi.envoy.resource import CLUSTER, Offer, Resource, Seen, Variant, finish
from meltemi.envoy.values import ads, duration, extension, percent, transport_socket
from meltemi.flow import View
from meltemi.model.mesh import Mesh
from meltemi.model.routes import Source
from meltemi.model.services import (
    Endpoint,
    Resolution,
    Service,
    ServiceAccounts,
    ServiceEndpoints,
    ServicePort,
)
from meltemi.model.traffic import (
    Balancer,
    Destination,
    DestinationVariant,
    TlsMode,
    TrafficPolicy,
)
from meltemi.protos import any_of
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.core.v3.base_pb2 import TransportSocket
from meltemi.protos.envoy.config.core.v3.proxy_protocol_pb2 import ProxyProtocolConfig
from meltemi.protos.envoy.extensions.clusters.common.dns.v3.dns_pb2 import DnsLookupFamily
from meltemi.protos.envoy.extensions.clusters.dns.v3.dns_cluster_pb2 import DnsCluster
from meltemi.protos.envoy.extensions.transport_sockets.proxy_protocol.v3.upstream_proxy_protocol_pb2 import (
    ProxyProtocolUpstreamTransport,
)
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher

Key = tuple[str, str]  # resource name, namespace of the service

PLAINTEXT_MATCH = "tlsMode-disabled"

_DNS_JITTER_MS = 100


class Site(msgspec.Struct, frozen=True):
    """All that one cluster is made of, besides the mesh's settings."""

    service: Service
    port: ServicePort
    policy: TrafficPolicy
    identities: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    subset: str = ""

    @property
    def name(self) -> str:
        """The cluster's name."""
        return names.outbound_cluster(self.port.number, self.service.host, self.subset)

    @property
    def goes_where_asked(self) -> bool:
        """Whether connections go to the address that the client chose."""
        passes = self.policy.balancing.simple is Balancer.PASSTHROUGH and self.policy.balancing.hash is None
        return self.service.resolution is Resolution.ORIGINAL or passes

    def secured(self, mesh: Mesh) -> bool:
        """Whether the mesh's mTLS is spoken to some or all of the endpoints."""
        mode = self.policy.tls.mode
        if mode is TlsMode.AUTO:
            return mesh.auto_mtls and not self.service.external and not self.goes_where_asked
        return mode is TlsMode.ISTIO_MUTUAL


def clusters(
    service: Service,
    *,
    mesh: View[tuple[()], Mesh],
    destinations: View[tuple[str, str], Destination],
    accounts: View[tuple[str, str], ServiceAccounts],
    endpoints: View[tuple[str, str], ServiceEndpoints],
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of Cluster by port and subset."""
    settings = mesh.only()
    if service.resolution is Resolution.DYNAMIC_DNS:
        yield Problem(
            ref=service.ref,
            path="spec.resolution",
            message="DYNAMIC_DNS is not supported: the hosts of this entry cannot be reached",
            hint="use DNS with one host per entry, or NONE for wildcard hosts",
            code="Unsupported",
        )
        return
    destination = destinations.get(service.key)
    variants = destination.variants if destination else Destination(*service.key).variants
    known = accounts.get(service.key)
    identities = service.identities or (known.identities if known else ())
    resolved = None if service.resolution is Resolution.ENDPOINTS else endpoints.get(service.key)
    seen = (Seen(service.namespace, service.host, service.visibility),)
    subsets = subset_names(variants)
    for port in service.ports:
        at_port = resolved.of(port.number) if resolved else ()
        for subset in ("", *subsets):
            name = names.outbound_cluster(port.number, service.host, subset)
            choices = tuple(
                Variant(
                    variant.clients,
                    _resource(service, port, variant, subset, identities, at_port, settings),
                )
                for variant in variants
            )
            yield (name, service.namespace), Offer(CLUSTER, name, choices, seen)


def _resource(
    service: Service,
    port: ServicePort,
    variant: DestinationVariant,
    subset: str,
    identities: tuple[str, ...],
    endpoints: tuple[Endpoint, ...],
    mesh: Mesh,
) -> Resource | None:
    """The cluster as the clients of one variant see it; None where they know no such subset."""
    if subset:
        found = find_subset(variant.subsets, subset)
        if found is None:
            return None
        endpoints = labelled(endpoints, found.labels)
    policy = variant.policy(port.number, subset) or TrafficPolicy()
    site = Site(service, port, policy, identities, endpoints, subset)
    return finish(site.name, cluster(site, mesh), [Source(service.ref), *map(Source, variant.refs)])


def cluster(site: Site, mesh: Mesh) -> Cluster:
    """The cluster of one port of a service, or of a subset of it."""
    policy, protocol = site.policy, site.port.protocol
    message = Cluster(
        name=site.name,
        alt_stat_name=names.stat_name(
            names.outbound_in_statistics(mesh.outbound_stat_name, site.service, site.port, site.subset)
        ),
        connect_timeout=duration(policy.pool.connect_timeout or mesh.connect_timeout),
        circuit_breakers=pools.circuit_breakers(policy.pool, policy.retry_budget),
        upstream_connection_options=pools.connection_options(policy.pool.keepalive or mesh.tcp_keepalive),
        metadata=metadata.of_cluster(site.service),
    )
    message.common_lb_config.healthy_panic_threshold.CopyFrom(percent(pools.panic_threshold(policy.outlier)))
    if policy.outlier is not None:
        message.outlier_detection.CopyFrom(pools.outlier_detection(policy.outlier))
    if site.service.session is not None:
        sessions.keep_draining(message)
    _discover(message, site, mesh)
    _secure(message, site, mesh)
    if not protocol.is_tcp:
        options = pools.http_options(
            protocol, policy, mesh, secured=site.secured(mesh), addressed=site.service.headless
        )
        message.typed_extension_protocol_options[pools.HTTP_OPTIONS].CopyFrom(any_of(options))
    return message


def _discover(message: Cluster, site: Site, mesh: Mesh) -> None:
    """How the cluster finds its endpoints and chooses among them."""
    if site.goes_where_asked:
        message.type = Cluster.ORIGINAL_DST
        message.lb_policy = Cluster.CLUSTER_PROVIDED
        return
    service = site.service
    message.load_balancing_policy.CopyFrom(balancing.policy(site.policy.balancing, addressed=service.headless))
    if service.resolution is Resolution.ENDPOINTS:
        message.type = Cluster.EDS
        message.eds_cluster_config.CopyFrom(Cluster.EdsClusterConfig(eds_config=ads(), service_name=site.name))
        return
    # Of the first answer only there can be only one question; Envoy wants exactly one.
    first = service.resolution is Resolution.DNS_ROUND_ROBIN
    asked = site.endpoints[:1] if first else site.endpoints
    dns = DnsCluster(
        dns_refresh_rate=duration(mesh.dns_refresh_rate),
        respect_dns_ttl=True,
        dns_lookup_family=DnsLookupFamily.V4_PREFERRED,
        all_addresses_in_single_endpoint=first and bool(asked),
    )
    dns.dns_jitter.FromMilliseconds(_DNS_JITTER_MS)
    cluster_type = extension("envoy.clusters.dns", dns)
    message.cluster_type.CopyFrom(
        Cluster.CustomClusterType(name=cluster_type.name, typed_config=cluster_type.typed_config)
    )
    message.load_assignment.CopyFrom(assignment(site.name, asked))


def alpn(site: Site, mesh: Mesh) -> Sequence[str]:
    """What connections to this cluster offer.

    Where the client's protocol is kept, that is not known here: the listener overrides it for HTTP it has recognised.
    """
    protocol, pool = site.port.protocol, site.policy.pool
    if not protocol.is_http or pool.use_client_protocol:
        return tls.ALPN_TCP
    if pools.carries_http2(protocol, pool, mesh):
        return tls.ALPN_HTTP2
    return tls.ALPN_HTTP if pools.negotiates_http2(protocol, pool, mesh) else tls.ALPN_HTTP1


def _secure(message: Cluster, site: Site, mesh: Mesh) -> None:
    """The transport of the cluster's connections."""
    settings = site.policy.tls
    if site.secured(mesh):
        sni = settings.sni or names.server_name(site.port.number, site.service.host, site.subset)
        context = tls.mesh_context(_peers(site, mesh), alpn(site, mesh), mesh.mutual_tls)
        message.transport_socket.CopyFrom(_framed(tls.upstream(context, sni), site.policy))
        if settings.mode is TlsMode.AUTO:
            message.transport_socket_matches.append(
                Cluster.TransportSocketMatch(
                    name=PLAINTEXT_MATCH,
                    match=metadata.texts({metadata.TLS_MODE: metadata.DISABLED}),
                    transport_socket=_framed(tls.plaintext(), site.policy),
                )
            )
    elif settings.mode in (TlsMode.SIMPLE, TlsMode.MUTUAL):
        http = not site.port.protocol.is_tcp
        offered = ("h2",) if pools.carries_http2(site.port.protocol, site.policy.pool, mesh) else ()
        fallback = "" if http or site.service.host.startswith("*") else site.service.host
        message.transport_socket.CopyFrom(
            _framed(
                tls.origination(
                    settings, offered, mesh.system_roots if mesh.verify_servers else "", fallback, mesh.tls_defaults
                ),
                site.policy,
            )
        )
    elif site.policy.proxy_protocol:
        message.transport_socket.CopyFrom(_framed(tls.plaintext(), site.policy))


def _peers(site: Site, mesh: Mesh) -> list[SubjectAltNameMatcher]:
    """Whom the server must be: one of the service's identities; while none is known, somebody of its namespace."""
    wanted = site.policy.tls.subject_alt_names or site.identities
    if wanted:
        return tls.uri_names(wanted)
    domains = (mesh.trust_domain, *mesh.trust_domain_aliases)
    return tls.uri_prefixes(f"spiffe://{domain}/ns/{site.service.namespace}/" for domain in domains)


def _framed(inner: TransportSocket, policy: TrafficPolicy) -> TransportSocket:
    """The transport with the PROXY protocol's header before it, where that is asked for."""
    if not policy.proxy_protocol:
        return inner
    version = ProxyProtocolConfig.V1 if policy.proxy_protocol.upper() == "V1" else ProxyProtocolConfig.V2
    framed = ProxyProtocolUpstreamTransport(config=ProxyProtocolConfig(version=version), transport_socket=inner)
    return transport_socket("envoy.transport_sockets.upstream_proxy_protocol", framed)
