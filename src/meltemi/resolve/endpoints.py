"""The addresses behind each port of a service, and the identities that answer there.

Kubernetes lists the endpoints of its Services in EndpointSlices; who stands behind an address is known from its pod.
ServiceEntries list endpoints themselves, select workloads by labels, or leave it to DNS. A Kubernetes Service may also
select WorkloadEntries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from meltemi.api.core import EndpointSlice
from meltemi.api.core import services as core
from meltemi.api.networking import ServiceEntry, WorkloadEntrySpec
from meltemi.base.hosts import is_wildcard
from meltemi.base.labels import LabelSet
from meltemi.base.spiffe import SpiffeId
from meltemi.flow import View
from meltemi.model.clients import Locality
from meltemi.model.mesh import Mesh
from meltemi.model.services import (
    Endpoint,
    Health,
    Resolution,
    Service,
    ServiceAccounts,
    ServiceEndpoints,
    ServicePort,
    Workload,
)
from meltemi.resolve.peers import Peers, takes_tls
from meltemi.resolve.workloads import entry_is_meshed, locality_of, names_of

Key = tuple[str, str]
Workloads = View[Key, Workload]

_BY_DNS = (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)


def endpoints(
    service: Service,
    *,
    mesh: View[tuple[()], Mesh],
    slices: View[Key, EndpointSlice],
    workloads: Workloads,
    entries: Workloads,
    service_entries: View[Key, ServiceEntry],
    peers: Peers,
) -> ServiceEndpoints:
    """The endpoints of a service by port, sorted by address."""
    settings = mesh.only()
    ports = []
    for port, found in _found(service, settings, slices, workloads, entries, service_entries):
        offered = [_as_policies_say(each, peers, settings.root_namespace) for each in found]
        unique = {(each.address, each.port): each for each in reversed(offered)}
        ports.append((port.number, tuple(unique[address] for address in sorted(unique))))
    return ServiceEndpoints(service.namespace, service.host, tuple(ports))


def accounts(endpoints: ServiceEndpoints, *, mesh: View[tuple[()], Mesh]) -> ServiceAccounts:
    """The identities of a service's workloads, in the trust domain and in each of its aliases."""
    settings = mesh.only()
    all_ = {each for _, found in endpoints.ports for each in found}
    identities = {each.identity for each in all_ if each.identity is not None and each.meshed}
    named = {
        str(SpiffeId(domain, each.namespace, each.service_account))
        for each in identities
        for domain in (each.trust_domain, *settings.trust_domain_aliases)
    }
    meshed = bool(all_) and all(each.meshed for each in all_)
    return ServiceAccounts(endpoints.namespace, endpoints.host, tuple(sorted(named)), meshed)


def _as_policies_say(endpoint: Endpoint, peers: Peers, root: str) -> Endpoint:
    """An endpoint whose workload was told to take plaintext only (PeerAuthentication DISABLE) is offered no mTLS."""
    if not endpoint.meshed or takes_tls(peers, endpoint.names.namespace, endpoint.labels, root, endpoint.port):
        return endpoint
    return msgspec.structs.replace(endpoint, meshed=False)


def _found(
    service: Service,
    mesh: Mesh,
    slices: View[Key, EndpointSlice],
    workloads: Workloads,
    entries: Workloads,
    service_entries: View[Key, ServiceEntry],
) -> Iterator[tuple[ServicePort, Iterable[Endpoint]]]:
    if service.ref.kind == "ServiceEntry":
        parts = service_entries.by("host", (service.namespace, service.host))
        selected = {part.name: _selected(part, workloads, entries) for part in parts}
        for port in service.ports:
            yield port, [each for part in parts for each in _of_entry(service, port, part, selected[part.name], mesh)]
        return
    if service.external_name:
        for port in service.ports:
            yield port, [Endpoint(service.external_name, port.number)]
        return
    listed = slices.by("service", (service.namespace, service.name))
    outside = select(entries, service.namespace, service.selector) if service.selector else ()
    for port in service.ports:
        yield port, [*_of_slices(service, port, listed, workloads), *(_of_workload(each, port) for each in outside)]


# === Kubernetes' endpoints ===


def _of_slices(
    service: Service, port: ServicePort, slices: Iterable[EndpointSlice], workloads: Workloads
) -> Iterator[Endpoint]:
    for each in slices:
        number = next((found.port for found in each.ports if found.name == port.name and found.port), None)
        if number is None or each.address_type == "FQDN":
            continue
        for endpoint in each.endpoints:
            for address in endpoint.addresses:
                yield _of_slice(service, endpoint, address, number, workloads)


def _of_slice(service: Service, endpoint: core.Endpoint, address: str, port: int, workloads: Workloads) -> Endpoint:
    reference = endpoint.target_ref
    workload = None
    if reference is not None and reference.kind == "Pod":
        workload = workloads.get((reference.namespace or service.namespace, reference.name))
    found = Endpoint(address, port) if workload is None else _of_address(workload, address, port)
    locality = found.locality
    if endpoint.zone and not locality.zone:
        locality = Locality(locality.region, endpoint.zone, locality.subzone)
    return msgspec.structs.replace(
        found,
        locality=locality,
        health=_health(endpoint.conditions),
        hostname=f"{endpoint.hostname}.{service.host}" if endpoint.hostname else "",
    )


def _health(conditions: core.EndpointConditions) -> Health:
    """Absent conditions mean ready; one that terminates but still serves finishes what it has."""
    if conditions.ready is not False and not conditions.terminating:
        return Health.HEALTHY
    if conditions.terminating and (conditions.serving or conditions.ready):
        return Health.DRAINING
    return Health.UNHEALTHY


# === workloads selected by labels ===


def select(workloads: Workloads, namespace: str, selector: LabelSet) -> tuple[Workload, ...]:
    """The workloads of a namespace that carry all labels of a selector that has at least one."""
    key, value = selector.items[0]
    return tuple(each for each in workloads.by("label", (namespace, key, value)) if each.labels.contains(selector))


def _selected(entry: ServiceEntry, workloads: Workloads, entries: Workloads) -> tuple[Workload, ...]:
    selector = LabelSet.of(entry.spec.workload_selector.labels) if entry.spec.workload_selector else LabelSet()
    if not selector:
        return ()
    return (*select(entries, entry.namespace, selector), *select(workloads, entry.namespace, selector))


def _of_workload(workload: Workload, port: ServicePort) -> Endpoint:
    """The endpoint of a workload for a port: as the workload maps the port's name, or else its target."""
    named = dict(workload.ports)
    number = named.get(port.name)
    if number is None:
        number = named.get(port.target) if isinstance(port.target, str) else port.target
    found = _of_address(workload, workload.addresses[0], number or port.number)
    if workload.ready:
        return found
    return msgspec.structs.replace(found, health=Health.DRAINING if workload.terminating else Health.UNHEALTHY)


def _of_address(workload: Workload, address: str, port: int) -> Endpoint:
    return Endpoint(
        address=address,
        port=0 if address.startswith("unix://") else port,
        labels=workload.labels,
        meshed=workload.meshed,
        identity=workload.identity,
        names=workload.names,
        locality=workload.locality,
        network=workload.network,
        weight=workload.weight or 1,
    )


# === ServiceEntries ===


def _of_entry(
    service: Service, port: ServicePort, entry: ServiceEntry, selected: tuple[Workload, ...], mesh: Mesh
) -> Iterator[Endpoint]:
    """What one ServiceEntry knows of a port that it declares."""
    if service.resolution in (Resolution.ORIGINAL, Resolution.DYNAMIC_DNS):
        return
    if port.number not in {each.number for each in entry.spec.ports}:
        return
    for spec in entry.spec.endpoints:
        yield _of_spec(spec, service, port, entry, mesh)
    for workload in selected:
        yield _of_workload(workload, port)
    undecided = not entry.spec.endpoints and entry.spec.workload_selector is None
    if undecided and service.resolution in _BY_DNS and not is_wildcard(service.host):
        yield Endpoint(service.host, _target(port))


def _of_spec(spec: WorkloadEntrySpec, service: Service, port: ServicePort, entry: ServiceEntry, mesh: Mesh) -> Endpoint:
    address = spec.address or service.host
    account = spec.service_account
    return Endpoint(
        address=address,
        port=0 if address.startswith("unix://") else spec.ports.get(port.name, _target(port)),
        labels=LabelSet.of(spec.labels),
        meshed=entry_is_meshed(spec.labels, account),
        identity=SpiffeId(mesh.trust_domain, entry.namespace, account) if account else None,
        names=names_of(spec.labels, entry.name, entry.namespace, mesh.cluster),
        locality=locality_of(spec.locality),
        network=spec.network or mesh.network,
        weight=spec.weight or 1,
    )


def _target(port: ServicePort) -> int:
    return port.target if isinstance(port.target, int) and port.target else port.number
