"""Index functions: by which values the rows of each table are found. One function for one index of one table.

Host names are qualified here as `resolve` does everywhere, with the domain `cluster.local`.
"""

from __future__ import annotations

from collections.abc import Iterator

from meltemi.api.core import EndpointSlice
from meltemi.api.meta import Resource
from meltemi.api.networking import DestinationRule, EnvoyFilter, ServiceEntry, VirtualService
from meltemi.api.networking.virtual_service import HttpMatchRequest, L4MatchAttributes, TlsMatchAttributes
from meltemi.base.hosts import qualify
from meltemi.model.services import Service, Workload
from meltemi.resolve import hosts
from meltemi.resolve.http_rules import MESH, gateways_of, qualified


def namespace(row: Resource) -> str:
    """`namespace` of whatever lives in one."""
    return row.namespace


def slice_service(row: EndpointSlice) -> tuple[tuple[str, str], ...]:
    """EndpointSlice `service`: namespace and name of the Service that it belongs to."""
    return ((row.namespace, row.service_name),) if row.service_name else ()


def virtual_service_hosts(row: VirtualService) -> tuple[str, ...]:
    """VirtualService `host`: its hosts, qualified, if sidecars are to heed it."""
    if MESH not in _all_gateways(row):
        return ()
    return tuple(qualify(host, row.namespace) for host in row.spec.hosts)


def virtual_service_patterns(row: VirtualService) -> tuple[str, ...]:
    """VirtualService `pattern`: every pattern that covers one of its hosts, if sidecars are to heed it."""
    return tuple(dict.fromkeys(pattern for host in virtual_service_hosts(row) for pattern in hosts.patterns(host)))


def virtual_service_gateways(row: VirtualService) -> tuple[str, ...]:
    """VirtualService `gateway`: the gateways it is bound to, as `namespace/name`."""
    return tuple(gateway for gateway in _all_gateways(row) if gateway != MESH)


def virtual_service_looks_at_clients(row: VirtualService) -> bool | None:
    """VirtualService `looks_at_clients`: True for those with a match on labels of clients."""
    return True if virtual_service_client_labels(row) else None


def virtual_service_client_labels(row: VirtualService) -> frozenset[str]:
    """The keys of the labels of clients that a VirtualService looks at."""
    return frozenset(key for match in _matches(row) for key in match.source_labels)


def destination_rule_host(row: DestinationRule) -> str:
    """DestinationRule `host`: its host, qualified."""
    return qualify(row.spec.host, row.namespace)


def destination_rule_looks_at_clients(row: DestinationRule) -> bool | None:
    """DestinationRule `looks_at_clients`: True for those that select the clients they hold for."""
    return True if destination_rule_client_labels(row) else None


def destination_rule_client_labels(row: DestinationRule) -> frozenset[str]:
    """The keys of the labels of clients that a DestinationRule looks at."""
    selector = row.spec.workload_selector
    return frozenset(selector.match_labels) if selector else frozenset()


def envoy_filter_looks_at_clients(row: EnvoyFilter) -> bool | None:
    """EnvoyFilter `looks_at_clients`: True for those that select the proxies they hold for."""
    return True if envoy_filter_client_labels(row) else None


def envoy_filter_client_labels(row: EnvoyFilter) -> frozenset[str]:
    """The keys of the labels by which an EnvoyFilter selects proxies."""
    selector = row.spec.workload_selector
    return frozenset(selector.labels) if selector else frozenset()


def service_entry_hosts(row: ServiceEntry) -> tuple[tuple[str, str], ...]:
    """ServiceEntry `host`: its namespace with each of its hosts."""
    return tuple((row.namespace, host) for host in row.spec.hosts)


def service_host(row: Service) -> str:
    """Service `host`: its host."""
    return row.host


def service_namespace(row: Service) -> str:
    """Service `namespace`: its namespace."""
    return row.namespace


def service_patterns(row: Service) -> tuple[str, ...]:
    """Service `pattern`: every pattern that covers its host, and the host itself."""
    return tuple(hosts.patterns(row.host))


def service_addresses(row: Service) -> tuple[str, ...]:
    """Service `address`: the virtual addresses under which clients reach it."""
    return row.addresses


def service_selector(row: Service) -> tuple[tuple[str, str, str], ...]:
    """Service `selector`: its namespace with the first label that it selects by."""
    return tuple((row.namespace, *label) for label in row.selector.items[:1])


def workload_labels(row: Workload) -> tuple[tuple[str, str, str], ...]:
    """Workload `label`: its namespace with each of its labels."""
    return tuple((row.namespace, *label) for label in row.labels.items)


def _all_gateways(row: VirtualService) -> tuple[str, ...]:
    """The gateways that a VirtualService is bound to, those included that only some match names."""
    named = (gateway for match in _matches(row) for gateway in qualified(match.gateways, row.namespace))
    return tuple(dict.fromkeys((*gateways_of(row), *named)))


def _matches(row: VirtualService) -> Iterator[HttpMatchRequest | TlsMatchAttributes | L4MatchAttributes]:
    for http in row.spec.http:
        yield from http.match
    for tls in row.spec.tls:
        yield from tls.match
    for tcp in row.spec.tcp:
        yield from tcp.match
