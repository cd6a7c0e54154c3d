"""What patches make of the resources of one class of proxies.

A class without patches of a sort gets its resources as they are, and each that is patched is made once, until it
changes. As in Istio, clusters and listeners that are added are not patched themselves, and one that would have the name
of another is not added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from meltemi.envoy.patching import clusters, listeners, routes
from meltemi.envoy.patching.edits import Used, message_of, of_side
from meltemi.envoy.resource import CLUSTER, LISTENER, ROUTES, VIRTUAL_HOST, Resource, finish
from meltemi.model.patches import Kind, Patches, Side
from meltemi.model.routes import Source

_WITHIN: dict[str, frozenset[Kind]] = {
    CLUSTER: frozenset({Kind.CLUSTER}),
    LISTENER: frozenset(
        {Kind.LISTENER, Kind.LISTENER_FILTER, Kind.FILTER_CHAIN, Kind.NETWORK_FILTER, Kind.HTTP_FILTER}
    ),
    ROUTES: frozenset({Kind.ROUTE_CONFIGURATION, Kind.VIRTUAL_HOST, Kind.HTTP_ROUTE}),
    VIRTUAL_HOST: frozenset({Kind.VIRTUAL_HOST, Kind.HTTP_ROUTE}),
}
_ADDED = frozenset({Kind.CLUSTER, Kind.LISTENER})

Name = tuple[str, str]  # type URL and resource name


def added(patches: Patches, *, inbound: bool) -> Iterator[Resource]:
    """The resources that patches add on one side of a proxy; those that are for any side are added once, outbound."""
    outbound = Side.GATEWAY if patches.gateway else Side.OUTBOUND
    for patch in patches.patches:
        wanted = patch.side is Side.INBOUND and not patches.gateway if inbound else patch.side in (Side.ANY, outbound)
        if patch.operation != "ADD" or patch.kind not in _ADDED or not wanted:
            continue
        value: Any = message_of(patch)
        if value is not None and value.name:
            yield finish(value.name, value, (patch.source,))


class Patching:
    """What one class of proxies gets, instead of what all get. `inbound`: on the server side of its proxies."""

    def __init__(self, patches: Patches, *, inbound: bool) -> None:
        self._patches = patches
        side = Side.GATEWAY if patches.gateway else Side.INBOUND if inbound else Side.OUTBOUND
        self._by_kind = of_side(patches, side)
        kinds = {patch.kind for patch in patches.patches}
        self._types = frozenset(type_url for type_url, within in _WITHIN.items() if within & kinds)
        self._made: dict[Name, tuple[Resource, Resource | None, Used]] = {}
        self._uses: Counter[Source] = Counter()
        self.sources = frozenset(patch.source for patch in patches.patches)
        self.added: dict[Name, Resource] = {}
        for each in added(patches, inbound=inbound):
            self.added.setdefault((each.type_url, each.name), each)

    @property
    def used(self) -> set[Source]:
        """The patches that have found something, or added something."""
        adding = {source for resource in self.added.values() for source in resource.sources}
        return {source for source, count in self._uses.items() if count} | adding

    def of(self, type_url: str, name: str, resource: Resource | None) -> Resource | None:
        """What the class gets under a name, instead of the resource given."""
        if type_url not in self._types:
            return resource
        key = (type_url, name)
        if resource is None:
            self._forget(key)
            return self.added.get(key)
        made = self._made.get(key)
        if made is None or made[0] != resource:
            self._forget(key)
            used: Used = {}
            made = self._made[key] = (resource, self._patched(resource, used), used)
            self._uses.update(used.keys())
        return self.added.get(key) if made[1] is None else made[1]

    def _forget(self, key: Name) -> None:
        if (made := self._made.pop(key, None)) is not None:
            self._uses.subtract(made[2].keys())

    def _patched(self, resource: Resource, used: Used) -> Resource | None:
        if resource.type_url == CLUSTER:
            return clusters.patched(resource, self._patches, used)
        if resource.type_url == LISTENER:
            return listeners.patched(resource, self._by_kind, used)
        if resource.type_url == ROUTES:
            return routes.patched(resource, self._by_kind, used)
        return routes.patched_host(resource, self._by_kind, used)
