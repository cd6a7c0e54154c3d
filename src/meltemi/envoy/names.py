"""Every name that our Envoys see, in one place, as Istio writes them: existing tools and dashboards know them by heart.

A name is a promise to whoever reads stats, logs or configuration dumps, so no other module puts one together by hand.
Source: Istio's naming of listeners, clusters, routes and server names.
"""

from __future__ import annotations

import ipaddress

from meltemi.model.proxies import InboundPort
from meltemi.model.services import Service, ServicePort

PASSTHROUGH = "PassthroughCluster"
BLACK_HOLE = "BlackHoleCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"
SDS_CLUSTER = "sds-grpc"  # the agent's socket; part of the bootstrap
UNKNOWN_SERVICE = "UnknownService"  # the cluster of a destination that does not exist: there is never one of that name

VIRTUAL_OUTBOUND = "virtualOutbound"
VIRTUAL_INBOUND = "virtualInbound"
PASSTHROUGH_CHAIN = "PassthroughFilterChain"
ALLOW_ANY = "allow_any"
BLOCK_ALL = "block_all"

WILDCARD = "0.0.0.0"  # a bind address; what is meant for any destination address
DEFAULT_CERTIFICATE = "default"  # the SDS secret with the workload's certificate
ROOT_CERTIFICATES = "ROOTCA"  # the SDS secret with the roots that peers are checked with

PEER_METADATA_HEADER = "x-envoy-peer-metadata"
ORIGINAL_DESTINATION_HEADER = "x-meltemi-original-destination"


def outbound_cluster(port: int, host: str, subset: str = "") -> str:
    """The cluster of a service port, or of a subset of it: `outbound|<port>|<subset>|<host>`."""
    return f"outbound|{port}|{subset}|{host}"


def inbound_cluster(port: int) -> str:
    """The cluster of a port of the proxy's own workload: `inbound|<port>||`."""
    return f"inbound|{port}||"


def server_name(port: int, host: str, subset: str = "") -> str:
    """The SNI of mTLS connections to a service port: `outbound_.<port>_.<subset>_.<host>`."""
    return f"outbound_.{port}_.{subset}_.{host}"


def stat_name(cluster: str) -> str:
    """A cluster's name in statistics: the semicolon tells the tag extractor where it ends (a host is full of dots)."""
    return f"{cluster};"


def outbound_in_statistics(pattern: str, service: Service, port: ServicePort, subset: str) -> str:
    """A cluster's name in statistics as MeshConfig `outboundClusterStatName` has it; its own name without a pattern."""
    if not pattern:
        return outbound_cluster(port.number, service.host, subset)
    known = f"{service.name}.{service.namespace}"
    return _filled_in(pattern, known, service.host, service.name, port.number, port.name, subset, port.number)


def inbound_in_statistics(pattern: str, port: InboundPort) -> str:
    """A cluster's name in statistics as MeshConfig `inboundClusterStatName` has it; its own name without a pattern."""
    if not pattern or not port.host:
        return inbound_cluster(port.port)
    known = f"{port.service_name}.{port.service_namespace}"
    return _filled_in(pattern, known, port.host, port.service_name, port.service_port, "", "", port.port)


def _filled_in(
    pattern: str, known: str, host: str, name: str, number: int, port_name: str, subset: str, target: int
) -> str:
    values = {
        "%SERVICE%": known,
        "%SERVICE_FQDN%": host,
        "%SERVICE_NAME%": name,
        "%SERVICE_PORT%": str(number),
        "%SERVICE_PORT_NAME%": port_name,
        "%SUBSET_NAME%": subset,
        "%TARGET_PORT%": str(target),
    }
    for placeholder, value in values.items():
        pattern = pattern.replace(placeholder, value)
    return pattern


def listener(bind: str, port: int) -> str:
    """The listener of an address and port: `<address>_<port>`."""
    return f"{bind}_{port}"


def udp_listener(bind: str, port: int) -> str:
    """The listener of an address and a port of UDP: `udp_<address>_<port>`."""
    return f"udp_{bind}_{port}"


def shared_routes(port: int) -> str:
    """The route configuration of all HTTP services on a port: the port number."""
    return str(port)


def own_routes(host: str, port: int) -> str:
    """The route configuration of one service port that has a listener of its own: `<host>:<port>`."""
    return f"{host}:{port}"


def virtual_host(host: str, port: int) -> str:
    """The virtual host of a service port inside a route configuration: `<host>:<port>`."""
    return f"{host}:{port}"


def virtual_host_resource(routes: str, host: str, port: int) -> str:
    """A virtual host as an xDS resource: the route configuration's name, a slash, the virtual host's.

    Envoy removes virtual hosts by the name inside the message, so that name must be this one too.
    """
    return f"{routes}/{virtual_host(host, port)}"


def authority(address: str) -> str:
    """An address as it stands in a `Host` header: an IPv6 address in brackets, anything else as it is."""
    try:
        return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    except ValueError:
        return address


def short_names(service: Service, domain: str) -> tuple[str, ...]:
    """What clients of every namespace may call a cluster-local service by, besides its full name.

    `name.namespace` and `name.namespace.svc`; nothing for hosts from outside the cluster's domain.
    """
    bare = bare_name(service, domain)
    return (f"{bare}.{service.namespace}", f"{bare}.{service.namespace}.svc") if bare else ()


def bare_name(service: Service, domain: str) -> str:
    """What clients of the service's own namespace may call it by: its name alone. Empty for other hosts."""
    name, _, rest = service.host.partition(".")
    return name if rest == f"{service.namespace}.svc.{domain}" else ""
