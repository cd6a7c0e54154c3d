"""Which EnvoyFilters hold for a class of proxies, and in which order.

Those of the root namespace come first, then those of the proxy's own; in each by priority, then by age. A filter that
picks proxies in a way that nothing acts on yet (by `targetRefs`, by version or metadata) is left out rather than
given to all; its author is warned by `api.support`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from meltemi.api.networking.envoy_filter import ConfigObjectMatch, EnvoyFilter, ProxyMatch
from meltemi.base.labels import LabelSet
from meltemi.base.ordering import seniority
from meltemi.flow import View as Rows
from meltemi.model.clients import Audience, ProxyKind
from meltemi.model.mesh import Mesh
from meltemi.model.patches import (
    ChainTarget,
    ClusterTarget,
    Kind,
    ListenerTarget,
    Patch,
    Patches,
    RouteTarget,
    Side,
)
from meltemi.model.proxies import View
from meltemi.model.routes import Source

Filters = Rows[tuple[str, str], EnvoyFilter]
_KINDS = frozenset(Kind)
_ANYTHING = ConfigObjectMatch()
_ANY_PROXY = ProxyMatch()


def patches(member: Audience | View, *, mesh: Rows[tuple[()], Mesh], filters: Filters) -> Iterator[Patches]:
    """The patches of an audience or a view, if there are any."""
    root = mesh.only().root_namespace
    namespaces = dict.fromkeys((root, member.namespace))
    found = tuple(
        patch
        for namespace in namespaces
        for each in sorted(filters.by("namespace", namespace), key=lambda each: (each.spec.priority, seniority(each)))
        if _selects(each, member.labels)
        for patch in _patches(each)
    )
    if found:
        yield Patches(found, member.kind is ProxyKind.GATEWAY)


def _selects(filter_: EnvoyFilter, labels: LabelSet) -> bool:
    selector = filter_.spec.workload_selector
    return not filter_.spec.target_refs and (selector is None or labels.contains(LabelSet.of(selector.labels)))


def _patches(filter_: EnvoyFilter) -> Iterator[Patch]:
    for index, config in enumerate(filter_.spec.config_patches):
        patch, match = config.patch, config.match or _ANYTHING
        if config.apply_to not in _KINDS or patch is None or match.proxy not in (None, _ANY_PROXY):
            continue
        value: Any = patch.value or {}
        yield Patch(
            kind=Kind(config.apply_to),
            operation=patch.operation,
            value=msgspec.json.encode(value, order="deterministic"),
            source=Source(filter_.ref, f"spec.configPatches[{index}].patch"),
            side=Side(match.context),
            cluster=_cluster(match),
            listener=_listener(match),
            routes=_routes(match),
        )


def _cluster(match: ConfigObjectMatch) -> ClusterTarget:
    found = match.cluster
    return ClusterTarget(found.name, found.service, found.port_number, found.subset) if found else ClusterTarget()


def _listener(match: ConfigObjectMatch) -> ListenerTarget:
    found = match.listener
    if found is None:
        return ListenerTarget()
    chain = ChainTarget()
    if (asked := found.filter_chain) is not None:
        inner = asked.filter.sub_filter if asked.filter else None
        chain = ChainTarget(
            name=asked.name,
            server_name=asked.sni,
            transport=asked.transport_protocol,
            protocols=tuple(asked.application_protocols.split(",")) if asked.application_protocols else (),
            destination_port=asked.destination_port,
            filter=asked.filter.name if asked.filter else "",
            inner=inner.name if inner else "",
        )
    return ListenerTarget(found.name, found.port_number, found.listener_filter, chain)


def _routes(match: ConfigObjectMatch) -> RouteTarget:
    found = match.route_configuration
    if found is None:
        return RouteTarget()
    host = found.vhost
    route = host.route if host else None
    return RouteTarget(
        name=found.name,
        port=found.port_number,
        port_name=found.port_name,
        gateway=found.gateway,
        host=host.name if host else "",
        domain=host.domain_name if host else "",
        route=route.name if route else "",
        action=route.action if route and route.action != "ANY" else "",
        picks=route is not None,
    )
