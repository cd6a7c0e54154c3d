"""Route configurations: a shell for each port on which HTTP is shared, and a whole one for each sniffed service port.

A shell holds nothing but the catch-all; the services' virtual hosts come to it one by one (VHDS). The catch-all stands
inside it, so that it is there before any of them and changes in one step when the outbound policy does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meltemi.base.problems import Problem
from meltemi.envoy import audiences, names, routing
from meltemi.envoy.binding import has_own_listener, http_ports
from meltemi.envoy.resource import ROUTES, Offer, Resource, Seen, Variant, finish
from meltemi.envoy.unknown import EgressProxies, outbound_policies
from meltemi.envoy.values import ads
from meltemi.envoy.virtual_hosts import SIDECARS, of_service, too_many, variants
from meltemi.flow import View
from meltemi.model.clients import OutboundPolicy
from meltemi.model.mesh import Mesh
from meltemi.model.routes import HostRoutes, Source
from meltemi.model.services import Protocol, Service
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import VirtualHost

Key = tuple[str, str]  # resource name, namespace of the service


def route_configuration(
    port: int, services: tuple[Service, ...], *, mesh: View[tuple[()], Mesh], egress_proxies: EgressProxies
) -> Offer | None:
    """The shell `<port>` for the services that share HTTP on a port; None if none of these does."""
    members = [service for service in services if port in http_ports(service)]
    if not members:
        return None
    name = names.shared_routes(port)
    choices = [
        Variant(clients, _shell(name, policy))
        for clients, policy in outbound_policies(mesh.only(), egress_proxies.only())
    ]
    return Offer(ROUTES, name, tuple(choices), seen_by(members, port))


def _shell(name: str, policy: OutboundPolicy) -> Resource:
    message = routing.configuration(name, [routing.catch_all(policy)])
    message.vhds.config_source.CopyFrom(ads())
    return finish(name, message)


def seen_by(services: Iterable[Service], port: int) -> tuple[Seen, ...]:
    """Whoever sees one of the services at that port."""
    return tuple(Seen(service.namespace, service.host, service.visibility, port) for service in services)


def sniffed(
    service: Service,
    *,
    mesh: View[tuple[()], Mesh],
    routes: View[tuple[str, str], HostRoutes],
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of RouteConfiguration `<host>:<port>` for ports whose protocol is found out.

    The listener is the service's own, so whatever host a request names, it is for this service.
    """
    for port in service.ports:
        if port.protocol is not Protocol.AUTO or not has_own_listener(service, port):
            continue
        name = names.own_routes(service.host, port.number)
        host = of_service(service, port.number, routes.get(service.key))
        yield from too_many(host)

        def whole(message: VirtualHost, sources: Iterable[Source], name: str = name) -> Resource:
            return finish(name, routing.configuration(name, [message]), sources)

        virtual_host = names.virtual_host(service.host, port.number)
        made = variants(host, virtual_host, ["*"], mesh.only(), SIDECARS, whole)
        yield (name, service.namespace), Offer(ROUTES, name, audiences.compact(made), seen_by([service], port.number))
