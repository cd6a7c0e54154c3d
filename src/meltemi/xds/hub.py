"""All conversations at once: which stream must hear of which change, and how far each has come.

A revision of the pipeline becomes changes on shelves; an index leads from a shelf to the streams that stand before it,
and only they are told. Answers of proxies come back here: what was accepted becomes something to fall back to, what was
refused goes into quarantine, and whoever waits for a revision to be live is woken.

Everything here is synchronous; the server carries what is decided.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping

from meltemi.base.problems import Problem, Severity
from meltemi.envoy.resource import SECRET, Offer, Resource
from meltemi.model.clients import Audience
from meltemi.model.patches import Patches
from meltemi.model.proxies import Placement, Proxy
from meltemi.model.routes import Source
from meltemi.xds.metrics import METRICS
from meltemi.xds.shelf import Catalogue, Change, Rejection, Shelf
from meltemi.xds.stream import Clock, Stream
from meltemi.xds.subscription import Ask, Outcome
from meltemi.xds.vault import Vault

# Of how many revisions the time is known, for the metric of convergence.
_REMEMBERED = 1000

_NO_PATCHES: Mapping[str, Patches | None] = {}


class Layers:
    """The shelves of one class of proxies, laid over one another: the view's own, the audience's, and secrets."""

    __slots__ = ("_audience", "_namespace", "_vault", "_view")

    def __init__(self, view: Shelf, audience: Shelf, vault: Vault, namespace: str) -> None:
        self._view = view
        self._audience = audience
        self._vault = vault
        self._namespace = namespace

    def lookup(self, type_url: str, name: str) -> Resource | None:
        """The resource of that name; the view's own goes before the audience's."""
        if type_url == SECRET:
            return self._vault.lookup(name, self._namespace)
        return self._view.lookup(type_url, name) or self._audience.lookup(type_url, name)

    def finder(self, type_url: str) -> Callable[[str], Resource | None]:
        """`lookup` for many names of one type. Not to be kept."""
        if type_url == SECRET:
            return lambda name: self._vault.lookup(name, self._namespace)
        shared = self._audience.finder(type_url)
        if not self._view.names(type_url):
            return shared
        own = self._view.finder(type_url)
        return lambda name: own(name) or shared(name)

    def names(self, type_url: str) -> Collection[str]:
        """All names of a type."""
        own = self._view.names(type_url)
        return {*own, *self._audience.names(type_url)} if own else self._audience.names(type_url)

    def hosts_of(self, route_configuration: str) -> Collection[str]:
        """The virtual hosts of a route configuration."""
        own = self._view.hosts_of(route_configuration)
        shared = self._audience.hosts_of(route_configuration)
        return {*own, *shared} if own else shared

    def is_set_aside(self, type_url: str, name: str) -> bool:
        """Whether nothing is held under that name only because what should be was refused."""
        if self.lookup(type_url, name) is not None:
            return False
        return self._view.is_set_aside(type_url, name) or self._audience.is_set_aside(type_url, name)


class Connection:
    """One proxy's stream, where it stands, and how to wake whoever writes to it."""

    __slots__ = ("connected", "placement", "proxy", "stream", "wake")

    def __init__(self, proxy: Proxy, placement: Placement, stream: Stream, wake: Callable[[], None]) -> None:
        self.proxy = proxy
        self.placement = placement
        self.stream = stream
        self.wake = wake
        self.connected = time.time()

    def __repr__(self) -> str:
        return f"<Connection {self.proxy.id} in {self.placement.view}: {self.stream!r}>"


class Hub:
    """The meeting place of revisions and proxies."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.vault = Vault(self._on_secret)
        self.clock = Clock()
        self.connections: set[Connection] = set()
        self.companions: set[Connection] = set()  # of agents, which speak for a proxy that has a connection of its own
        self.rejections: dict[tuple[str, str], Rejection] = {}
        self.idle_patches: frozenset[Source] = frozenset()
        self.on_rejection: Callable[[], None] = lambda: None
        self.on_progress: Callable[[], None] = lambda: None
        self._made: OrderedDict[int, float] = OrderedDict()  # when the latest revisions were made, monotonic seconds
        self._before: dict[str, set[Connection]] = {}  # shelf -> the connections that stand before it

    def __repr__(self) -> str:
        return f"<Hub at revision {self.clock.revision}: {len(self.connections)} proxies, {self.catalogue!r}>"

    # === proxies come and go ===

    def join(
        self, proxy: Proxy, placement: Placement, wake: Callable[[], None], *, is_companion: bool = False
    ) -> Connection:
        """A proxy has connected, or its agent has."""
        stream = Stream(proxy.id, self._layers(proxy, placement), self.clock)
        connection = Connection(proxy, placement, stream, wake)
        (self.companions if is_companion else self.connections).add(connection)
        self._stand(connection)
        return connection

    def leave(self, connection: Connection) -> None:
        """A proxy has gone."""
        self.connections.discard(connection)
        self.companions.discard(connection)
        self._step_away(connection)
        self.on_progress()

    def _layers(self, proxy: Proxy, placement: Placement) -> Layers:
        shelf = self.catalogue.shelf
        return Layers(shelf(placement.view), shelf(placement.audience), self.vault, proxy.namespace)

    def _stand(self, connection: Connection) -> None:
        for key in (connection.placement.view, connection.placement.audience):
            self._before.setdefault(key, set()).add(connection)

    def _step_away(self, connection: Connection) -> None:
        for key in (connection.placement.view, connection.placement.audience):
            standing = self._before.get(key)
            if standing is not None:
                standing.discard(connection)
                if not standing:
                    del self._before[key]

    # === revisions ===

    def on_revision(
        self,
        number: int,
        *,
        audiences: Mapping[str, Audience | None],
        offers: Mapping[Hashable, Offer | None],
        placements: Mapping[str, Placement],
        audience_patches: Mapping[str, Patches | None] = _NO_PATCHES,
        view_patches: Mapping[str, Patches | None] = _NO_PATCHES,
    ) -> None:
        """Take in a revision: what changed in audiences and offers, and proxies (by id) that changed their class."""
        self.clock.revision = number
        self._made[number] = time.monotonic()
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)
        changes = self.catalogue.update(
            audiences=audiences, offers=offers, audience_patches=audience_patches, view_patches=view_patches
        )
        self.idle_patches = self.catalogue.idle_patches()
        for key in {change.shelf for change in changes} - self._before.keys():
            self.catalogue.drop_if_empty(key)
        dirty = self._tell(changes)
        if placements:
            dirty |= self._move(placements)
        self._wake(dirty)
        self.on_progress()

    def _move(self, placements: Mapping[str, Placement]) -> set[Connection]:
        moved = set()
        for connection in (*self.connections, *self.companions):
            placement = placements.get(connection.proxy.id)
            if placement is not None and placement != connection.placement:
                self._step_away(connection)
                connection.placement = placement
                self._stand(connection)
                connection.stream.move(self._layers(connection.proxy, placement), self.clock.revision)
                moved.add(connection)
        return moved

    def _tell(self, changes: Iterable[Change]) -> set[Connection]:
        dirty: set[Connection] = set()
        revision = self.clock.revision
        for change in changes:
            for connection in self._before.get(change.shelf, ()):
                if connection.stream.on_change(change.type_url, change.name, change.old_version, revision):
                    dirty.add(connection)
        return dirty

    def _on_secret(self, name: str, old_version: str) -> None:
        """A secret has changed. Few proxies (gateways) hold any, so each is asked."""
        dirty = set()
        for connection in self.connections:
            if connection.stream.on_change(SECRET, name, old_version, self.clock.revision):
                dirty.add(connection)
        self._wake(dirty)

    @staticmethod
    def _wake(connections: Iterable[Connection]) -> None:
        for connection in connections:
            connection.wake()

    # === what proxies say ===

    def on_request(self, connection: Connection, ask: Ask) -> None:
        """Take in a request of a proxy. Whoever writes to it asks its stream what is to be said."""
        outcome = connection.stream.on_request(ask)
        made = self._made.get(outcome.revision)
        if made is not None:
            METRICS.convergence.observe(time.monotonic() - made)
        self._on_outcome(connection, outcome)
        self.on_progress()

    def _on_outcome(self, connection: Connection, outcome: Outcome) -> None:
        shelves = (
            self.catalogue.shelf(connection.placement.view),
            self.catalogue.shelf(connection.placement.audience),
        )
        for shelf in shelves:
            shelf.accept(outcome.accepted)
        refusal = outcome.refusal
        if refusal is None or not refusal.certain:
            return
        changes = []
        for resource in refusal.resources:
            for shelf in shelves:
                change = shelf.reject(resource, refusal.words)
                if change is not None:
                    changes.append(change)
        self._wake(self._tell(changes) - {connection})
        self.on_rejection()

    # === what others want to know ===

    def problems(self) -> list[Problem]:
        """What Envoy refused and what changes nothing, as problems on the objects of those who wrote it."""
        found = {
            Problem(
                ref=source.ref,
                path=source.path,
                message=f"Envoy refused {rejection.resource.name}: {rejection.words}",
                hint="the last accepted configuration stays in force; correct the field and apply again",
                code="RejectedByProxy",
                severity=Severity.ERROR,
            )
            for shelf in self.catalogue.shelves.values()
            for rejection in shelf.rejections.values()
            for source in rejection.resource.sources
        }
        found |= {
            Problem(
                ref=source.ref,
                path=source.path,
                message="no proxy that is connected has anything that this patch is for",
                hint="compare its match with what meltemi proxy-config shows of the proxies that are meant",
                code="NothingToPatch",
                severity=Severity.WARNING,
            )
            for source in self.idle_patches
        }
        return sorted(found)

    def behind(self, revision: int) -> list[Connection]:
        """The proxies that have not yet taken all that concerns them up to a revision, their agents included."""
        late = {each.proxy.id for each in (*self.connections, *self.companions) if each.stream.settled < revision}
        return [connection for connection in self.connections if connection.proxy.id in late]
