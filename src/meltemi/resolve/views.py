"""The classes of proxies that get the same configuration: views by their inbound side, audiences by their outbound side.

A key is readable, and says nothing that may change while the class stays the same: a Sidecar that is edited changes what
its class sees, not which class it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from meltemi.api.networking import DestinationRule, EnvoyFilter, VirtualService
from meltemi.base.labels import PER_POD
from meltemi.flow import View as Rows
from meltemi.model.clients import Audience, ProxyKind, Scope
from meltemi.model.mesh import Mesh
from meltemi.model.proxies import Placement, Proxy, View
from meltemi.model.services import Workload
from meltemi.resolve import sidecars as selection
from meltemi.resolve.indexes import (
    destination_rule_client_labels,
    envoy_filter_client_labels,
    virtual_service_client_labels,
)
from meltemi.resolve.sidecars import Scopes, Sidecars

Key = tuple[str, str]


class ClientLabels(msgspec.Struct, frozen=True):
    """The keys of the labels of clients that some rule looks at."""

    keys: frozenset[str] = frozenset()


def client_labels(
    *,
    virtual: Rows[Key, VirtualService],
    rules: Rows[Key, DestinationRule],
    filters: Rows[Key, EnvoyFilter],
) -> ClientLabels:
    """Which labels tell clients apart. Read are only the rules that look at labels of clients at all."""
    keys: set[str] = set()
    for service in virtual.by("looks_at_clients", True):
        keys |= virtual_service_client_labels(service)
    for rule in rules.by("looks_at_clients", True):
        keys |= destination_rule_client_labels(rule)
    for filter_ in filters.by("looks_at_clients", True):
        keys |= envoy_filter_client_labels(filter_)
    return ClientLabels(frozenset(keys))


def views(
    proxy: Proxy,
    *,
    mesh: Rows[tuple[()], Mesh],
    sidecars: Sidecars,
    scopes: Scopes,
    client_labels: Rows[tuple[()], ClientLabels],
    workloads: Rows[Key, Workload],
) -> Iterator[tuple[str, View]]:
    """The view of a proxy."""
    view = _view(proxy, _audience(proxy, mesh.only(), sidecars, scopes, client_labels.only()), workloads)
    yield view.key, view


def audiences(
    proxy: Proxy,
    *,
    mesh: Rows[tuple[()], Mesh],
    sidecars: Sidecars,
    scopes: Scopes,
    client_labels: Rows[tuple[()], ClientLabels],
) -> Iterator[tuple[str, Audience]]:
    """The audience of a proxy."""
    audience = _audience(proxy, mesh.only(), sidecars, scopes, client_labels.only())
    yield audience.key, audience


def placement(
    proxy: Proxy,
    *,
    mesh: Rows[tuple[()], Mesh],
    sidecars: Sidecars,
    scopes: Scopes,
    client_labels: Rows[tuple[()], ClientLabels],
    workloads: Rows[Key, Workload],
) -> Placement:
    """Where a proxy stands."""
    audience = _audience(proxy, mesh.only(), sidecars, scopes, client_labels.only())
    return Placement(_view(proxy, audience, workloads).key, audience.key)


def _audience(proxy: Proxy, mesh: Mesh, sidecars: Sidecars, scopes: Scopes, client_labels: ClientLabels) -> Audience:
    labels = proxy.labels.only(client_labels.keys)
    sidecar = None
    if proxy.kind is ProxyKind.SIDECAR:
        sidecar = selection.choose(sidecars, proxy.namespace, proxy.labels, mesh)
    found = scopes.get((sidecar.namespace, sidecar.name)) if sidecar is not None else None
    scope = selection.localised(found or Scope(), proxy.namespace)
    place = (proxy.locality, proxy.network, proxy.cluster)
    return Audience(
        key=_key((proxy.kind, proxy.namespace), labels, scope.ref, place),
        kind=proxy.kind,
        namespace=proxy.namespace,
        labels=labels,
        scope=scope,
        locality=proxy.locality,
        network=proxy.network,
        cluster=proxy.cluster,
    )


def _view(proxy: Proxy, audience: Audience, workloads: Rows[Key, Workload]) -> View:
    """The view of a proxy in an audience. Its named ports are those of its pod."""
    labels = proxy.labels.without(PER_POD)
    pod = workloads.get((proxy.namespace, proxy.id.removesuffix(f".{proxy.namespace}")))
    ports = pod.ports if pod else ()
    readable = (proxy.kind, proxy.namespace, proxy.names.workload)
    address = next(iter(proxy.addresses), "") if audience.scope.own_address else ""
    return View(
        key=_key(readable, labels, proxy.identity, proxy.names, audience.key, ports, *((address,) if address else ())),
        kind=proxy.kind,
        namespace=proxy.namespace,
        labels=labels,
        identity=proxy.identity,
        names=proxy.names,
        audience=audience.key,
        scope=audience.scope,
        locality=proxy.locality,
        network=proxy.network,
        ports=ports,
        address=address,
    )


def _key(readable: tuple[str, ...], *distinguishing: object) -> str:
    content = msgspec.json.encode(distinguishing, order="deterministic")
    return "|".join([*(each for each in readable if each), hashlib.blake2b(content, digest_size=5).hexdigest()])
