"""Model values with little writing: services, endpoints and routes as tests mention them, and what Envoy gets of them.

    scene = Scene(services=[service("reviews", http=80)])
    cluster = scene.clusters()["outbound|80||reviews.default.svc.cluster.local"]

A `Scene` is a small mesh as the model knows it. Asked for resources, it calls the transforms of `envoy` as the pipeline
does, and chooses for one client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message

from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.envoy import base, binding, clusters, endpoints, listeners, routes, virtual_hosts
from meltemi.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST, Offer, Resource
from meltemi.envoy.unknown import EgressProxies
from meltemi.flow import View
from meltemi.model.clients import Audience, ProxyKind
from meltemi.model.mesh import Mesh
from meltemi.model.routes import HostRoutes, HostTcpRoutes
from meltemi.model.services import (
    Endpoint,
    Protocol,
    Service,
    ServiceAccounts,
    ServiceEndpoints,
    ServicePort,
)
from meltemi.model.traffic import Destination
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import VirtualHost
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration

M = TypeVar("M", bound=Message)

SIDECAR = Audience("default", ProxyKind.SIDECAR, "default")
GATEWAY = Audience("gateway", ProxyKind.GATEWAY, "default")

_PROTOCOLS = {protocol.name.lower(): protocol for protocol in Protocol}


def service(name: str, namespace: str = "default", /, **settings: Any) -> Service:
    """A Kubernetes service. Ports are named by protocol: `http=80`, `tcp=(5432, 5433)`; the rest as in `Service`.

    It has a virtual address unless `addresses` or `headless` say otherwise.
    """
    ports = []
    for key in list(settings):
        if key in _PROTOCOLS:
            numbers = settings.pop(key)
            for number in [numbers] if isinstance(numbers, int) else numbers:
                ports.append(ServicePort(number, f"{key}-{number}", _PROTOCOLS[key], number))
    defaults: dict[str, Any] = {
        "host": f"{name}.{namespace}.svc.cluster.local",
        "namespace": namespace,
        "name": name,
        "ports": tuple(ports),
        "addresses": () if settings.get("headless") or settings.get("external") else ("10.96.0.10",),
        "created": "2026-01-01T00:00:00Z",
        "ref": Ref("Service", namespace, name),
    }
    return Service(**(defaults | settings))


def endpoint(address: str, port: int, /, *, labels: Mapping[str, str] | None = None, **settings: Any) -> Endpoint:
    """An endpoint; of the mesh unless `meshed` says otherwise."""
    return Endpoint(address, port, LabelSet.of(labels or {}), **({"meshed": True} | settings))


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """A mesh as the model knows it: whatever is not said is empty or the default."""

    services: Sequence[Service] = ()
    endpoints: Sequence[ServiceEndpoints] = ()
    accounts: Sequence[ServiceAccounts] = ()
    destinations: Sequence[Destination] = ()
    routes: Sequence[HostRoutes] = ()
    tcp_routes: Sequence[HostTcpRoutes] = ()
    orphans: Sequence[HostRoutes] = ()
    mesh: Mesh = Mesh()

    def everything(self) -> Iterator[tuple[Any, Offer] | Problem]:
        """All offers, with their keys, and problems."""
        views = _Views(self)
        for each in self.services:
            yield from views.of_service(each)
        yield from views.of_ports(
            routes.route_configuration, binding.http_ports, mesh=views.mesh, egress_proxies=views.egress_proxies
        )
        yield from views.of_ports(
            listeners.port_listener,
            binding.listener_ports,
            mesh=views.mesh,
            tcp_routes=views.tcp_routes,
            destinations=views.destinations,
            egress_proxies=views.egress_proxies,
        )
        for row in self.orphans:
            yield from virtual_hosts.orphan_virtual_hosts(row, mesh=views.mesh, services=views.services)
        yield from base.base(self.mesh, egress_proxies=views.egress_proxies)

    def offers(self) -> list[Offer]:
        """All offers."""
        return [item[1] for item in self.everything() if isinstance(item, tuple)]

    def problems(self) -> list[Problem]:
        """All problems."""
        return [item for item in self.everything() if isinstance(item, Problem)]

    def resources(self, client: Audience = SIDECAR) -> list[Resource]:
        """What a client gets, leaving aside whether it sees the services."""
        found = [offer.choose(client) for offer in self.offers()]
        return [resource for resource in found if resource is not None]

    def clusters(self, client: Audience = SIDECAR) -> dict[str, Cluster]:
        """The clusters of a client by name."""
        return self._messages(CLUSTER, Cluster, client)

    def assignments(self, client: Audience = SIDECAR) -> dict[str, ClusterLoadAssignment]:
        """The load assignments of a client by name."""
        return self._messages(ENDPOINTS, ClusterLoadAssignment, client)

    def listeners(self, client: Audience = SIDECAR) -> dict[str, Listener]:
        """The listeners of a client by name."""
        return self._messages(LISTENER, Listener, client)

    def configurations(self, client: Audience = SIDECAR) -> dict[str, RouteConfiguration]:
        """The route configurations of a client by name."""
        return self._messages(ROUTES, RouteConfiguration, client)

    def hosts(self, client: Audience = SIDECAR) -> dict[str, VirtualHost]:
        """The virtual hosts that are resources of their own, of a client, by name."""
        return self._messages(VIRTUAL_HOST, VirtualHost, client)

    def _messages(self, type_url: str, kind: type[M], client: Audience) -> dict[str, M]:
        found = (resource for resource in self.resources(client) if resource.type_url == type_url)
        return {resource.name: kind.FromString(resource.body) for resource in found}


class _Views:
    """The scene as the views that transforms read."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.mesh: View[tuple[()], Mesh] = View.of({(): scene.mesh})
        self.egress_proxies: EgressProxies = View.of({(): ()})
        self.services: View[tuple[str, str], Service] = View.of(
            {each.key: each for each in scene.services}, host=lambda row: row.host, address=lambda row: row.addresses
        )
        self.endpoints = _by_host(scene.endpoints)
        self.accounts = _by_host(scene.accounts)
        self.destinations = _by_host(scene.destinations)
        self.routes = _by_host(scene.routes)
        self.tcp_routes = _by_host(scene.tcp_routes)

    def of_service(self, each: Service) -> Iterator[tuple[Any, Offer] | Problem]:
        """What the transforms with a service as their row make of it."""
        mesh, destinations, endpoints_ = self.mesh, self.destinations, self.endpoints
        yield from clusters.clusters(
            each, mesh=mesh, destinations=destinations, accounts=self.accounts, endpoints=endpoints_
        )
        yield from endpoints.load_assignments(each, endpoints=endpoints_, destinations=destinations)
        yield from virtual_hosts.virtual_hosts(each, mesh=mesh, routes=self.routes, services=self.services)
        yield from routes.sniffed(each, mesh=mesh, routes=self.routes)
        yield from listeners.service_listeners(
            each,
            mesh=mesh,
            tcp_routes=self.tcp_routes,
            destinations=destinations,
            endpoints=endpoints_,
            egress_proxies=self.egress_proxies,
        )

    def of_ports(
        self, transform: Callable[..., Any], index: Callable[[Service], Iterable[int]], **views: Any
    ) -> Iterator[tuple[Any, Offer] | Problem]:
        """What a transform that gathers services by port makes of all ports."""
        for port in sorted({number for each in self.scene.services for number in index(each)}):
            members = tuple(
                sorted((each for each in self.scene.services if port in index(each)), key=lambda each: each.key)
            )
            made = transform(port, members, **views)
            for item in [made] if isinstance(made, Offer) else made or ():
                yield (port, item) if isinstance(item, Offer) else item


def _by_host(rows: Iterable[Any]) -> View[tuple[str, str], Any]:
    found = {(row.namespace, row.host): row for row in rows}
    return View.of(found or {("", ""): None})
