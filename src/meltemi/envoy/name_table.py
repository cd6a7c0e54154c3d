"""The addresses of services' hosts, for agents that answer their pods' DNS (Istio's name discovery).

Each host is a resource of its own, so that a change of one service sends one name. A service has its virtual addresses;
a headless one those of its endpoints, and a name for each endpoint that has one. A service whose addresses nobody knows
has none here: others are asked for it.

Source: Istio's `istio.networking.nds.v1.NameTable`, with the host's NameInfo in `name_info`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meltemi.base.discovery import KUBERNETES, NAMES
from meltemi.base.hosts import is_address
from meltemi.base.problems import Problem
from meltemi.base.protobuf import data, text
from meltemi.envoy.resource import Offer, Resource, Seen, offer, sealed
from meltemi.flow import View
from meltemi.model.routes import Source
from meltemi.model.services import Health, Service, ServiceEndpoints

Key = tuple[str, str]  # host, namespace of the service

_EXTERNAL = "External"


def names(
    service: Service, *, endpoints: View[tuple[str, str], ServiceEndpoints]
) -> Iterator[tuple[Key, Offer] | Problem]:
    """Offers of NameTable for a service's host and, where it is headless, for its endpoints' own names."""
    seen = [Seen(service.namespace, service.host, service.visibility)]
    for host, addresses in _addresses(service, endpoints):
        yield (host, service.namespace), offer(_resource(service, host, addresses), seen=seen)


def _addresses(
    service: Service, endpoints: View[tuple[str, str], ServiceEndpoints]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not service.headless:
        if own := tuple(filter(is_address, service.addresses)):
            yield service.host, own
        return
    known = endpoints.get(service.key)
    found: dict[str, set[str]] = {}
    for port in known.ports if known else ():
        for endpoint in port[1]:
            if endpoint.health is Health.HEALTHY and is_address(endpoint.address):
                for host in filter(None, (service.host, endpoint.hostname)):
                    found.setdefault(host, set()).add(endpoint.address)
    for host, addresses in sorted(found.items()):
        yield host, tuple(sorted(addresses))


def _resource(service: Service, host: str, addresses: Iterable[str]) -> Resource:
    info = b"".join(data(1, address) for address in addresses)
    if service.ref.kind == "Service":
        own = host.removesuffix(service.host)  # "db-0." of an endpoint
        info += text(2, KUBERNETES) + text(3, own + service.name) + text(4, service.namespace)
    else:
        info += text(2, _EXTERNAL)
    return sealed(NAMES, host, data(2, info), [Source(service.ref)])
