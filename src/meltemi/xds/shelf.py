"""What each class of clients gets, name by name, and what was found to be poison.

The pipeline makes offers; a `Shelf` holds the resources that one audience (or one view) is given under each name. A
change of an offer is compared shelf by shelf, so that only classes of clients for whom something really differs hear
of it. The number of shelves is the number of audiences and views, not of proxies.

A resource that Envoy rejects is put in quarantine: the shelf falls back to the last resource of that name which some
proxy accepted, for proxies that connect later too, until the users' objects give another one. Where there is none (the
control plane has restarted since), proxies keep what they have. A rejection counts for
the shelf it came from only, so that a proxy that lies can harm none but its own class.

Invariant: `Shelf.lookup` is the whole truth about what a proxy of that class should hold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping

import msgspec

from meltemi.base import hosts
from meltemi.envoy.patching.classes import Patching
from meltemi.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST, Offer, Resource, Seen
from meltemi.model.clients import Audience, EgressHost
from meltemi.model.patches import Patches
from meltemi.model.routes import Source

Name = tuple[str, str]  # type URL and resource name
_DESTINATIONS = frozenset({CLUSTER, ENDPOINTS})
_AT_ADDRESSES = frozenset({LISTENER, ROUTES, VIRTUAL_HOST})  # what clients meet at the services' own addresses
_NOTHING: dict[str, Resource] = {}
_NO_PATCHES: Mapping[str, Patches | None] = {}


class Rejection(msgspec.Struct, frozen=True):
    """A resource that Envoy refused, in Envoy's own words."""

    resource: Resource
    words: str


class Change(msgspec.Struct, frozen=True):
    """What one shelf holds under a name has changed. `old_version` is empty where there was nothing."""

    shelf: str
    type_url: str
    name: str
    old_version: str


class Shelf:
    """The resources that one class of clients gets."""

    def __init__(self, key: str) -> None:
        self.key = key
        self._held: dict[str, dict[str, Resource]] = {}
        self._hosts: dict[str, dict[str, None]] = {}  # virtual host names by route configuration
        self._trial: dict[Name, Resource | None] = {}  # not yet accepted by anyone -> what was before it
        self.rejections: dict[Name, Rejection] = {}

    def __repr__(self) -> str:
        counts = ", ".join(f"{url.rpartition('.')[2]} {len(held)}" for url, held in self._held.items())
        return f"<Shelf {self.key}: {counts or 'empty'}, {len(self.rejections)} quarantined>"

    def lookup(self, type_url: str, name: str) -> Resource | None:
        """The resource to be held under that name, if any."""
        held = self._held.get(type_url)
        return None if held is None else held.get(name)

    def finder(self, type_url: str) -> Callable[[str], Resource | None]:
        """`lookup` for many names of one type. Not to be kept."""
        return self._held.get(type_url, _NOTHING).get

    def names(self, type_url: str) -> Collection[str]:
        """All names of a type, in no order that means anything."""
        return self._held.get(type_url, {}).keys()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held under any name."""
        return not any(self._held.values())

    def types(self) -> Collection[str]:
        """The types of which something is or was held."""
        return self._held.keys()

    def hosts_of(self, route_configuration: str) -> Collection[str]:
        """The names of the virtual hosts that belong to a route configuration."""
        return self._hosts.get(route_configuration, {}).keys()

    def is_set_aside(self, type_url: str, name: str) -> bool:
        """Whether nothing is held under that name only because what should be was refused."""
        return (type_url, name) in self.rejections and self.lookup(type_url, name) is None

    def put(self, type_url: str, name: str, wanted: Resource | None) -> Change | None:
        """Hold `wanted` under the name (None: nothing); what is in quarantine is not held again."""
        key = (type_url, name)
        held = self.lookup(type_url, name)
        rejection = self.rejections.get(key)
        if rejection is not None:
            if wanted is not None and wanted.version == rejection.resource.version:
                return None
            del self.rejections[key]
            if wanted is None and held is None:  # Some proxies may still have kept what was before.
                return Change(self.key, type_url, name, rejection.resource.version)
        if (held and held.version) == (wanted and wanted.version):
            return None
        if wanted is None:
            self._trial.pop(key, None)
        elif key not in self._trial:
            self._trial[key] = held
        return self._hold(key, wanted)

    def accept(self, resources: Iterable[Resource]) -> None:
        """Some proxy took them: from now on they are what to fall back to."""
        trial = self._trial
        if not trial:
            return
        for resource in resources:
            key = (resource.type_url, resource.name)
            if key in trial and self._is_held(resource):
                del trial[key]

    def reject(self, resource: Resource, words: str) -> Change | None:
        """Some proxy refused it: fall back to the last good one, unless it has been replaced in the meantime."""
        key = (resource.type_url, resource.name)
        if not self._is_held(resource):
            return None
        self.rejections[key] = Rejection(resource, words)
        return self._hold(key, self._trial.pop(key, None))

    def _is_held(self, resource: Resource) -> bool:
        held = self.lookup(resource.type_url, resource.name)
        return held is not None and held.version == resource.version

    def _hold(self, key: Name, resource: Resource | None) -> Change:
        type_url, name = key
        held = self._held.setdefault(type_url, {})
        old = held.get(name)
        if resource is None:
            held.pop(name, None)
        else:
            held[name] = resource
        if type_url == VIRTUAL_HOST:
            siblings = self._hosts.setdefault(name.partition("/")[0], {})
            if resource is None:
                siblings.pop(name, None)
            else:
                siblings[name] = None
        return Change(self.key, type_url, name, old.version if old else "")


class Catalogue:
    """All shelves, and the offers from which they are filled."""

    def __init__(self) -> None:
        self.shelves: dict[str, Shelf] = {}
        self._sights: dict[str, Sight] = {}
        self._offers: dict[Hashable, Offer] = {}
        self._by_name: dict[Name, tuple[Hashable, ...]] = {}
        self._patching: dict[str, Patching] = {}

    def __repr__(self) -> str:
        return f"<Catalogue: {len(self._offers)} offers on {len(self.shelves)} shelves>"

    def shelf(self, key: str) -> Shelf:
        """The shelf of an audience or a view; an empty one is put up where there was none."""
        if key not in self.shelves:
            self.shelves[key] = Shelf(key)
        return self.shelves[key]

    def update(
        self,
        *,
        audiences: Mapping[str, Audience | None],
        offers: Mapping[Hashable, Offer | None],
        audience_patches: Mapping[str, Patches | None] = _NO_PATCHES,
        view_patches: Mapping[str, Patches | None] = _NO_PATCHES,
    ) -> list[Change]:
        """Take in what one revision changed (None: gone) and tell what that means for each shelf."""
        self._take_in_patches(audience_patches, inbound=False)
        self._take_in_patches(view_patches, inbound=True)
        touched: dict[tuple[Name, str], None] = {}
        for key, offer in offers.items():
            touched.update(dict.fromkeys(self._take_in(key, offer)))
        changes: list[Change | None] = []
        for key, audience in audiences.items():
            if audience is None:
                self._sights.pop(key, None)
                self.shelves.pop(key, None)
            else:
                sight = self._sights[key] = Sight(audience)
                changes += self._fill(self.shelf(key), sight)
        for key in audience_patches.keys() - audiences.keys():
            if (known := self._sights.get(key)) is not None:
                changes += self._fill(self.shelf(key), known)
        touched.update(((name, key), None) for key in sorted(view_patches) for name in self._names_of_view(key))
        for name, view in touched:
            if view:
                changes.append(self.shelf(view).put(*name, self._wanted_by_view(name, view)))
            else:
                changes += [
                    self.shelf(key).put(*name, self._wanted(name, sight))
                    for key, sight in self._sights.items()
                    if key not in audiences
                ]
        return [change for change in changes if change is not None]

    def idle_patches(self) -> frozenset[Source]:
        """The patches of some class of proxies that no class has anything for."""
        known = {source for patching in self._patching.values() for source in patching.sources}
        return frozenset(known.difference(*(patching.used for patching in self._patching.values())))

    def drop_if_empty(self, key: str) -> None:
        """Take down a shelf that nobody stands before, if nothing is left on it."""
        shelf = self.shelves.get(key)
        if shelf is not None and shelf.is_empty:
            del self.shelves[key]

    def _take_in_patches(self, patches: Mapping[str, Patches | None], *, inbound: bool) -> None:
        for key, each in patches.items():
            if each is None:
                self._patching.pop(key, None)
            else:
                self._patching[key] = Patching(each, inbound=inbound)

    def _names_of_view(self, view: str) -> Iterable[Name]:
        """All names under which a view may hold something."""
        for offer in self._offers.values():
            if offer.view == view:
                yield offer.type_url, offer.name
        if (shelf := self.shelves.get(view)) is not None:
            yield from [(type_url, name) for type_url in (CLUSTER, LISTENER) for name in shelf.names(type_url)]
        if (patching := self._patching.get(view)) is not None:
            yield from patching.added

    def _patched(self, shelf: str, name: Name, resource: Resource | None) -> Resource | None:
        patching = self._patching.get(shelf)
        return resource if patching is None else patching.of(*name, resource)

    def _take_in(self, key: Hashable, offer: Offer | None) -> Iterable[tuple[Name, str]]:
        """Replace one offer; yields the names that may have changed by it, and for which view ("": for audiences)."""
        old = self._offers.pop(key, None)
        if old is not None:
            name = (old.type_url, old.name)
            rest = tuple(other for other in self._by_name[name] if other != key)
            if rest:
                self._by_name[name] = rest
            else:
                del self._by_name[name]
            yield name, old.view
        if offer is not None:
            self._offers[key] = offer
            name = (offer.type_url, offer.name)
            self._by_name[name] = (*self._by_name.get(name, ()), key)
            yield name, offer.view

    def _fill(self, shelf: Shelf, sight: Sight) -> Iterable[Change | None]:
        """Bring a whole shelf up to date, for an audience that is new or has changed."""
        held = {(url, name) for url in shelf.types() for name in shelf.names(url)}
        offers = self._offers  # of one name, some may be for a view alone (a gateway's listener) and others for all
        names = dict.fromkeys(name for name, keys in self._by_name.items() if not all(offers[key].view for key in keys))
        if (patching := self._patching.get(shelf.key)) is not None:
            names.update(dict.fromkeys(patching.added))
        names.update(dict.fromkeys(sorted(held - names.keys())))
        return [shelf.put(*name, self._wanted(name, sight)) for name in names]

    def _wanted(self, name: Name, sight: Sight) -> Resource | None:
        """The resource that an audience should get.

        What is made for certain audiences goes first, then its own namespace's offer, then by the offer's key.
        """
        audience = sight.audience
        offers = [(key, self._offers[key]) for key in self._by_name.get(name, ())]
        offers = [(key, offer) for key, offer in offers if not offer.view and sight.sees(offer)]
        if len(offers) > 1:
            offers.sort(key=lambda pair: (not pair[1].is_particular, not _is_own(audience, pair[1]), repr(pair[0])))
        for _, offer in offers:
            if (resource := offer.choose(audience)) is not None:
                return self._patched(audience.key, name, resource)
        return self._patched(audience.key, name, None)

    def _wanted_by_view(self, name: Name, view: str) -> Resource | None:
        for key in self._by_name.get(name, ()):
            offer = self._offers[key]
            if offer.view == view and offer.variants:
                return self._patched(view, name, offer.variants[0].resource)
        return self._patched(view, name, None)


class Sight:
    """What an audience sees: its scope, prepared for being asked about one service after the other.

    Source: Istio `exportTo`, and Sidecar `egress.hosts`.
    """

    __slots__ = ("_hosts", "_imports", "_namespace", "_ports", "audience")

    def __init__(self, audience: Audience) -> None:
        self.audience = audience
        self._namespace = audience.namespace
        scope = audience.scope
        self._hosts: dict[str, list[EgressHost]] | None = None  # by namespace; None: there is no scope
        self._ports = frozenset(entry.port for entry in scope.egress or () if not entry.bound)
        self._imports = frozenset((entry.namespace, entry.host) for entry in scope.imports)
        if scope.egress is not None:
            self._hosts = {}
            for entry in scope.egress:
                self._hosts.setdefault(entry.namespace, []).append(entry)

    def sees(self, offer: Offer) -> bool:
        """Whether the audience sees one of the services that an offer is about: exported to it, and within its scope."""
        return not offer.seen or any(
            service.visibility.includes(self._namespace)
            and (
                self._is_in_scope(service, offer.type_url)
                or (offer.type_url in _DESTINATIONS and self._is_imported(service))
            )
            for service in offer.seen
        )

    def _is_in_scope(self, service: Seen, type_url: str) -> bool:
        if self._hosts is None:
            return True
        entries = (*self._hosts.get(service.namespace, ()), *self._hosts.get("*", ()))
        return any(
            self._is_at(entry, service.port) and hosts.matches(entry.host, service.host)
            for entry in entries
            if not (entry.bound and type_url in _AT_ADDRESSES)
        )

    def _is_at(self, entry: EgressHost, port: int) -> bool:
        return port in (0, entry.port) or (entry.port == 0 and port not in self._ports)

    def _is_imported(self, service: Seen) -> bool:
        """Whether the rules of hosts in scope lead to it, so that it is reached without being called by name."""
        return (service.namespace, service.host) in self._imports


def _is_own(audience: Audience, offer: Offer) -> bool:
    return any(service.namespace == audience.namespace for service in offer.seen)
