"""THE MAP: every table from what users write to what Envoy gets, in order, a line or two each.

Read `build` downwards. Facts come in at the top; each table below follows from the tables it names, through the
function it names; finished resources are offered at the bottom. A change of one fact refreshes exactly the rows that
have read it, and stops where a row comes out equal.

    facts -> services, workloads, endpoints -> destinations, routes -> views, inbound, gateways -> Envoy
"""

from __future__ import annotations

from typing import Any

import msgspec

from meltemi.api.core import EndpointSlice, Pod
from meltemi.api.core import Service as CoreService
from meltemi.api.mesh import MeshConfig
from meltemi.api.meta import Resource
from meltemi.api.networking import (
    DestinationRule,
    EnvoyFilter,
    Gateway,
    ProxyConfig,
    ServiceEntry,
    Sidecar,
    VirtualService,
    WorkloadEntry,
)
from meltemi.api.security import AuthorizationPolicy, PeerAuthentication
from meltemi.base.refs import Ref
from meltemi.envoy import base, binding, clusters, crossings, http_proxy, listeners, name_table, virtual_hosts
from meltemi.envoy import egress as egress_listeners
from meltemi.envoy import endpoints as assignments
from meltemi.envoy import gateways as gateway_resources
from meltemi.envoy import inbound as inbound_resources
from meltemi.envoy import routes as route_resources
from meltemi.envoy.resource import Offer
from meltemi.flow import Graph, Table, using
from meltemi.model.clients import Audience
from meltemi.model.mesh import Mesh
from meltemi.model.patches import Patches
from meltemi.model.proxies import Placement, Proxy
from meltemi.resolve import (
    allocation,
    credentials,
    destinations,
    egress,
    endpoints,
    gateways,
    inbound,
    indexes,
    mesh,
    patches,
    references,
    routes,
    services,
    views,
    workloads,
)
from meltemi.resolve import proxy_configs as proxy_conflicts
from meltemi.resolve import sidecars as sidecar_scopes

Key = tuple[str, str]  # namespace and name; for services, namespace and host


class Pipeline(msgspec.Struct, frozen=True):
    """The graph; the tables that facts go into (of objects by kind); and the tables that leave it."""

    graph: Graph
    facts: dict[str, Table[Key, Any]]
    credentials: Table[Key, credentials.Credential]
    mesh: Table[tuple[()], Mesh]
    allocations: Table[tuple[()], allocation.Allocations]
    proxies: Table[str, Proxy]
    placements: Table[str, Placement]
    audiences: Table[str, Audience]
    audience_patches: Table[str, Patches]
    view_patches: Table[str, Patches]
    offers: tuple[Table[Any, Offer], ...]

    def resource_version(self, ref: Ref) -> int | None:
        """The version in which an object is known; None if it is not."""
        found = self.object(ref)
        if found is None:
            return None
        version = found.metadata.resource_version
        return int(version) if version.isdigit() else 0

    def object(self, ref: Ref) -> Resource | None:
        """An object of the user's, as it is known."""
        table = self.facts.get(ref.kind)
        return None if table is None else table.get((ref.namespace, ref.name))


def build() -> Pipeline:
    """Declare every table."""
    g = Graph()

    # What users wrote, and who is there
    configs: Table[Key, MeshConfig] = g.input("MeshConfig")
    core_services: Table[Key, CoreService] = g.input("Service")
    pods: Table[Key, Pod] = g.input("Pod")
    slices: Table[Key, EndpointSlice] = g.input("EndpointSlice", service=indexes.slice_service)
    service_entries: Table[Key, ServiceEntry] = g.input("ServiceEntry", host=indexes.service_entry_hosts)
    workload_entries: Table[Key, WorkloadEntry] = g.input("WorkloadEntry")
    virtual: Table[Key, VirtualService] = g.input(
        "VirtualService",
        namespace=indexes.namespace,
        host=indexes.virtual_service_hosts,
        pattern=indexes.virtual_service_patterns,
        gateway=indexes.virtual_service_gateways,
        looks_at_clients=indexes.virtual_service_looks_at_clients,
    )
    rules: Table[Key, DestinationRule] = g.input(
        "DestinationRule",
        host=indexes.destination_rule_host,
        looks_at_clients=indexes.destination_rule_looks_at_clients,
    )
    sidecars: Table[Key, Sidecar] = g.input("Sidecar", namespace=indexes.namespace)
    proxy_configs: Table[Key, ProxyConfig] = g.input("ProxyConfig", namespace=indexes.namespace)
    filters: Table[Key, EnvoyFilter] = g.input(
        "EnvoyFilter", namespace=indexes.namespace, looks_at_clients=indexes.envoy_filter_looks_at_clients
    )
    gateway_objects: Table[Key, Gateway] = g.input("Gateway")
    peers: Table[Key, PeerAuthentication] = g.input("PeerAuthentication", namespace=indexes.namespace)
    policies: Table[Key, AuthorizationPolicy] = g.input("AuthorizationPolicy", namespace=indexes.namespace)
    secrets: Table[Key, credentials.Credential] = g.input("credentials")
    proxies: Table[str, Proxy] = g.input("proxies")

    # What there is: services, and who answers for them
    settings = g.single("mesh", mesh.mesh, using(configs=configs))
    instances = g.derive("workloads", workloads.workload, pods, using(mesh=settings), label=indexes.workload_labels)
    entries = g.derive(
        "entries", workloads.entry, workload_entries, using(mesh=settings), label=indexes.workload_labels
    )
    of_kubernetes = g.expand("kubernetes_services", services.from_core, core_services, using(mesh=settings))
    of_entries = g.expand(
        "entry_services", services.from_entry, service_entries, using(mesh=settings, entries=service_entries)
    )
    allocated = g.single("allocations", allocation.allocations, using(entries=service_entries))
    all_services = g.union(
        "services",
        of_kubernetes,
        of_entries,
        host=indexes.service_host,
        pattern=indexes.service_patterns,
        namespace=indexes.service_namespace,
        address=indexes.service_addresses,
        port=binding.listener_ports,
        http_port=binding.http_ports,
        selector=indexes.service_selector,
    )
    addresses = g.derive(
        "endpoints",
        endpoints.endpoints,
        all_services,
        using(
            mesh=settings,
            slices=slices,
            workloads=instances,
            entries=entries,
            service_entries=service_entries,
            peers=peers,
        ),
    )
    accounts = g.derive("accounts", endpoints.accounts, addresses, using(mesh=settings))

    # What clients do: policies towards services, and routes to them
    towards = g.derive("destinations", destinations.destination, all_services, using(mesh=settings, rules=rules))
    routing = using(mesh=settings, virtual=virtual, services=all_services, destinations=towards)
    http = g.derive("routes", routes.http_routes, all_services, routing)
    tcp = g.derive("tcp_routes", routes.tcp_routes, all_services, routing)
    orphans = g.expand("orphans", routes.orphans, virtual, routing)

    # What leads nowhere: problems and no rows
    g.derive(
        "references/virtual_services",
        references.virtual_service,
        virtual,
        using(mesh=settings, gateways=gateway_objects, services=all_services, destinations=towards),
    )
    g.derive("references/service_entries", references.service_entry, service_entries, using(services=all_services))
    g.derive(
        "references/destination_rules",
        references.destination_rule,
        rules,
        using(mesh=settings, services=all_services),
    )

    g.derive("conflicts/proxy_configs", proxy_conflicts.conflicts, proxy_configs, using(configs=proxy_configs))

    # Who asks: classes of proxies, and what each serves
    labels = g.single("client_labels", views.client_labels, using(virtual=virtual, rules=rules, filters=filters))
    scopes = g.derive(
        "scopes",
        sidecar_scopes.scope,
        sidecars,
        using(mesh=settings, virtual=virtual, services=all_services, sidecars=sidecars, destinations=towards),
    )
    egress_proxies = g.single("egress_proxies", sidecar_scopes.egress_proxies, using(scopes=scopes))
    placing = using(mesh=settings, sidecars=sidecars, scopes=scopes, client_labels=labels)
    audiences = g.expand("audiences", views.audiences, proxies, placing)
    bound = g.derive("egress", egress.egress, audiences, using(mesh=settings, sidecars=sidecars, services=all_services))
    placements = g.derive("placements", views.placement, proxies, using(**placing.tables, workloads=instances))
    classes = g.expand("views", views.views, proxies, using(**placing.tables, workloads=instances))
    outward = g.derive("patches/audiences", patches.patches, audiences, using(mesh=settings, filters=filters))
    inward = g.derive("patches/views", patches.patches, classes, using(mesh=settings, filters=filters))
    serving = g.derive(
        "inbound",
        inbound.inbound,
        classes,
        using(
            mesh=settings,
            services=all_services,
            sidecars=sidecars,
            peers=peers,
            policies=policies,
            credentials=secrets,
            destinations=towards,
        ),
    )
    edge = g.derive(
        "gateways",
        gateways.gateway,
        classes,
        using(
            mesh=settings,
            gateways=gateway_objects,
            virtual=virtual,
            services=all_services,
            destinations=towards,
            credentials=secrets,
        ),
    )

    crossed = g.single("crossings", gateways.crossings, using(gateways=edge, views=classes))

    # What Envoy gets
    offers: tuple[Table[Any, Offer], ...] = (
        g.expand("envoy/base", base.base, settings, using(egress_proxies=egress_proxies)),
        g.expand(
            "envoy/clusters",
            clusters.clusters,
            all_services,
            using(mesh=settings, destinations=towards, accounts=accounts, endpoints=addresses),
        ),
        g.expand(
            "envoy/crossings",
            crossings.clusters,
            all_services,
            using(mesh=settings, crossings=crossed, destinations=towards, endpoints=addresses),
        ),
        g.expand("envoy/names", name_table.names, all_services, using(endpoints=addresses)),
        g.expand(
            "envoy/endpoints",
            assignments.load_assignments,
            all_services,
            using(endpoints=addresses, destinations=towards),
        ),
        g.gather(
            "envoy/port_listeners",
            listeners.port_listener,
            all_services,
            "port",
            using(mesh=settings, tcp_routes=tcp, destinations=towards, egress_proxies=egress_proxies),
        ),
        g.expand(
            "envoy/service_listeners",
            listeners.service_listeners,
            all_services,
            using(
                mesh=settings,
                tcp_routes=tcp,
                destinations=towards,
                endpoints=addresses,
                egress_proxies=egress_proxies,
            ),
        ),
        g.gather(
            "envoy/routes",
            route_resources.route_configuration,
            all_services,
            "http_port",
            using(mesh=settings, egress_proxies=egress_proxies),
        ),
        g.expand("envoy/sniffed_routes", route_resources.sniffed, all_services, using(mesh=settings, routes=http)),
        g.expand(
            "envoy/virtual_hosts",
            virtual_hosts.virtual_hosts,
            all_services,
            using(mesh=settings, routes=http, services=all_services),
        ),
        g.expand(
            "envoy/orphan_hosts",
            virtual_hosts.orphan_virtual_hosts,
            orphans,
            using(mesh=settings, services=all_services),
        ),
        g.expand("envoy/http_proxy", http_proxy.listener, settings),
        g.expand(
            "envoy/http_proxy_hosts",
            http_proxy.service_hosts,
            all_services,
            using(mesh=settings, routes=http, services=all_services),
        ),
        g.expand(
            "envoy/http_proxy_orphans", http_proxy.orphan_hosts, orphans, using(mesh=settings, services=all_services)
        ),
        g.expand(
            "envoy/egress",
            egress_listeners.egress,
            bound,
            using(
                mesh=settings,
                audiences=audiences,
                services=all_services,
                routes=http,
                tcp_routes=tcp,
                destinations=towards,
            ),
        ),
        g.expand("envoy/inbound", inbound_resources.inbound, serving, using(mesh=settings, views=classes)),
        g.expand(
            "envoy/gateways",
            gateway_resources.gateway,
            edge,
            using(mesh=settings, views=classes, destinations=towards, inbound=serving),
        ),
    )

    objects = (
        configs, core_services, pods, slices, service_entries, workload_entries, virtual, rules, sidecars,
        proxy_configs, gateway_objects, peers, policies, filters,
    )  # fmt: skip
    by_kind = {table.name: table for table in objects}
    return Pipeline(g, by_kind, secrets, settings, allocated, proxies, placements, audiences, outward, inward, offers)
