"""Where connections to a service's port arrive: at the listener of the whole port, or at one of its own.

A service with a virtual address has a listener of its own for ports that are not HTTP, and Envoy prefers the listener
of an address to the one of a port: so an HTTP service and a database may share a port number and never disturb each
other, in whatever order they come. What has no address of its own meets at the listener of the port, told apart by
what the client says first (HTTP, or a TLS server name) or by the block of addresses it calls. The pods of a headless
service are its addresses.

An address that the mesh gave is known to those only who asked the mesh for it. So a server name tells such a service
apart as before, wherever the connection goes; where nothing else does, the address alone counts, from the beginning:
until it stands nobody can mean the service.
"""

from __future__ import annotations

from meltemi.base.hosts import is_address
from meltemi.model.services import Protocol, Service, ServicePort


def own_addresses(service: Service) -> tuple[str, ...]:
    """The single addresses under which a service is called."""
    return tuple(address for address in service.addresses if is_address(address))


def subnets(service: Service) -> tuple[str, ...]:
    """The blocks of addresses under which a service is called."""
    return tuple(address for address in service.addresses if not is_address(address))


def shares_http(service: Service, port: ServicePort) -> bool:
    """Whether requests to this port are routed by the route configuration of the port number."""
    if port.protocol.is_http:
        return True
    return port.protocol is Protocol.AUTO and not has_own_listener(service, port)


def has_own_listener(service: Service, port: ServicePort) -> bool:
    """Whether connections to this port are taken by listeners of the service's own addresses."""
    if port.protocol.is_http or port.protocol is Protocol.UDP:
        return False
    if service.allocated:
        return not port.protocol.is_tls
    return service.headless or bool(own_addresses(service))


def meets_at_port(service: Service, port: ServicePort) -> bool:
    """Whether connections to this port are taken, all or some of them, by the listener of the port number."""
    if port.protocol is Protocol.UDP:
        return False
    return not has_own_listener(service, port) or bool(subnets(service))


def http_ports(service: Service) -> tuple[int, ...]:
    """The port numbers whose route configuration knows the service."""
    return tuple(port.number for port in service.ports if shares_http(service, port))


def listener_ports(service: Service) -> tuple[int, ...]:
    """The port numbers whose listener takes connections to the service."""
    return tuple(port.number for port in service.ports if meets_at_port(service, port))
