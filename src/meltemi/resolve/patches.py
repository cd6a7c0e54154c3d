"""Which EnvoyFilters hold for a class of proxies, and in which order.

Those of the root namespace come first, then those of the proxy's own; in each by priority, then by age. A filter that
picks proxies in a way that nothing acts on yet (by `targetRefs`, by version or metadata) is left out rather than
given to all; its author is warned by `api.support`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from meltemi.api.networking.envoy_filter import ConfigPatch, EnvoyFilter
from meltemi.base.labels import LabelSet
from meltemi.base.ordering import seniority
from meltemi.flow import View as Rows
from meltemi.model.clients import Audience, ProxyKind
from meltemi.model.mesh import Mesh
from meltemi.model.patches import ClusterTarget, Patch, Patches, Side
from meltemi.model.proxies import View
from meltemi.model.routes import Source

Filters = Rows[tuple[str, str], EnvoyFilter]
_OPERATIONS = frozenset({"MERGE", "ADD", "REMOVE"})


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
        patch = config.patch
        if config.apply_to != "CLUSTER" or patch is None or patch.operation not in _OPERATIONS:
            continue
        match = config.match
        if match and match.proxy:
            continue
        value: Any = patch.value or {}
        yield Patch(
            operation=patch.operation,
            value=msgspec.json.encode(value, order="deterministic"),
            source=Source(filter_.ref, f"spec.configPatches[{index}].patch"),
            side=Side(match.context) if match else Side.ANY,
            target=_target(config),
        )


def _target(config: ConfigPatch) -> ClusterTarget:
    found = config.match.cluster if config.match else None
    if found is None:
        return ClusterTarget()
    return ClusterTarget(found.name, found.service, found.port_number, found.subset)
