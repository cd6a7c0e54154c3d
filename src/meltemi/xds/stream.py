"""What one proxy is sent, and when: the delta xDS protocol as a pure state machine.

A stream is told three things: what the proxy asks (`on_request`), what its shelves changed (`on_change`), and that it
may speak (`responses`). It answers with the responses to be sent now. It keeps no copy of what the proxy holds. It
assumes that the proxy holds what the shelves hold, but for the names in `pending`, each with the version which the proxy
really holds; so its memory is what is under way, not what is known, and a change that was undone in the meantime
is not sent at all.

Rules, each seen on a real Envoy:

1. One response of a type is under way at a time; what changes meanwhile is gathered and goes out as one.
2. Make before break: routes and listeners wait until the clusters and endpoints before them were taken, and
   clusters are removed only when nothing else is under way. Waiting has a deadline, so that one slow cluster stalls nothing.
3. A cluster that changed warms up again and keeps its ACK back until its endpoints are sent again, unasked.
4. Virtual hosts are subscribed to with an empty list. Which ones are meant follows from the route configurations asked for.
5. On a first request, `initial_resource_versions` says what the proxy holds: what is equal is not sent again.
6. What was refused and has no last good one to fall back to is not removed either: a proxy that has one keeps it.
7. A name that was asked for and does not exist is answered as removed, and a first subscription to everything is answered
   even if there is nothing: an Envoy that starts would wait for either (15 seconds).

Source: the xDS protocol ("Incremental xDS"), and Envoy's `DeltaSubscriptionState`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from meltemi.base.discovery import NAMES
from meltemi.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, VIRTUAL_HOST, Resource
from meltemi.xds.subscription import NOTHING, Ask, Flight, Outcome, Pending, Refusal, Response, Shelves, TypeState

# The order in which types are sent. Each type feels those before it.
ORDER = (SECRET, CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST)
_FOUNDATIONS = (CLUSTER, ENDPOINTS)
_BUILT_ON_THEM = frozenset({LISTENER, ROUTES, VIRTUAL_HOST})
_WILDCARD = frozenset({CLUSTER, LISTENER, NAMES})  # names wait for no other type, and none waits for them

# How long, in seconds, later types wait for earlier ones, and removals for everything.
PATIENCE = 5.0


class Clock:
    """The number of the newest revision, shared by all streams."""

    def __init__(self, revision: int = 0) -> None:
        self.revision = revision


class Stream:
    """The conversation with one proxy."""

    def __init__(self, proxy: str, shelves: Shelves, clock: Clock | None = None) -> None:
        self.proxy = proxy
        self.shelves = shelves
        self.clock = clock or Clock()
        self.types: dict[str, TypeState] = {}
        self.sent_resources = 0
        self.refused = 0
        self._nonce = 0

    def __repr__(self) -> str:
        states = ", ".join(
            f"{url.rpartition('.')[2]} {len(state.pending)} pending{' 1 in flight' if state.flight else ''}"
            for url, state in self.types.items()
        )
        return f"<Stream {self.proxy}: {states or 'silent'}>"

    @property
    def revision(self) -> int:
        """The number of the newest revision."""
        return self.clock.revision

    @property
    def settled(self) -> int:
        """The newest revision of which the proxy has taken everything that concerns it."""
        open_ = [
            revision
            for state in self.types.values()
            for revision in (
                *(pending.revision for pending in state.pending.values()),
                *((state.flight.revision,) if state.flight else ()),
            )
        ]
        return min(open_) - 1 if open_ else self.revision

    # === what the proxy says ===

    def on_request(self, ask: Ask) -> Outcome:
        """Take in a request: an answer to a response, a change of subscription, or both."""
        state = self.types.get(ask.type_url)
        first = state is None
        if state is None:
            state = self.types[ask.type_url] = TypeState()
            if ask.type_url == VIRTUAL_HOST:
                state.initial = dict(ask.initial_versions)
        outcome = self._on_answer(state, ask) if ask.nonce else NOTHING
        self._on_subscription(ask, state, first=first)
        return outcome

    def _on_answer(self, state: TypeState, ask: Ask) -> Outcome:
        flight = state.flight
        if flight is None or flight.nonce != ask.nonce:
            return NOTHING
        state.flight = None
        answered = max((each.revision for each in flight.before.values() if each.changed), default=0)
        if ask.error is None:
            accepted = tuple(resource for resource in flight.sent.values() if resource is not None)
            return Outcome(accepted, revision=answered)
        self.refused += 1
        return Outcome(refusal=self._refused(state, flight, ask), revision=answered)

    def _refused(self, state: TypeState, flight: Flight, ask: Ask) -> Refusal:
        """Find who is to blame: those named in Envoy's words, or the only one; else they are tried one by one."""
        words = ask.error or ""
        sent = {name: resource for name, resource in flight.sent.items() if resource is not None}
        blamed = named_in(words, sent) or (set(sent) if len(sent) == 1 else set())
        for name, before in flight.before.items():
            # Envoy may have taken the others, or not: they are sent again. The blamed ones it does not hold.
            held = before.held if name in blamed else ""
            state.pending[name] = Pending(held, before.revision, name not in blamed)
        if not blamed:
            state.suspects = sorted(sent)
        return Refusal(ask.type_url, tuple(sent[name] for name in sorted(blamed or sent)), words, bool(blamed))

    def _on_subscription(self, ask: Ask, state: TypeState, *, first: bool) -> None:
        if first and not ask.initial_versions and (ask.type_url in _WILDCARD or ask.type_url == VIRTUAL_HOST):
            state.awaited = True
        if ask.type_url == VIRTUAL_HOST and first:
            for route_configuration in sorted(self._names_of(ROUTES)):
                self._cover(state, route_configuration)
        if first and ask.type_url in _WILDCARD and not set(ask.subscribe) - {"*"}:
            self._begin_wildcard(ask, state)
        names = ask.subscribe
        if "*" in names:
            names = tuple(name for name in names if name != "*")
            if not state.wildcard:
                self._begin_wildcard(ask, state)
        if names:
            self._subscribe(ask, state, names, first=first)
        if ask.unsubscribe:
            self._unsubscribe(ask, state)
        if ask.subscribe and ask.type_url == ENDPOINTS and not state.everything:
            on_shelf = self.shelves.names(ENDPOINTS)
            if len(state.names) == len(on_shelf) and state.names.issuperset(on_shelf):
                state.everything, state.names = True, set()

    def _begin_wildcard(self, ask: Ask, state: TypeState) -> None:
        state.wildcard = True
        self._compare(ask.type_url, state, self.shelves.names(ask.type_url), ask.initial_versions)

    def _compare(self, type_url: str, state: TypeState, names: Collection[str], initial: Mapping[str, str]) -> None:
        """The proxy is to hold these names, and holds what `initial` says: wait for what differs."""
        find, revision = self.shelves.finder(type_url), self.revision
        for name in names:
            held = initial.get(name, "")
            resource = find(name)
            if resource is None or resource.version != held:
                state.wait(name, held, revision)
        for name, held in initial.items():
            if name not in names:
                state.wait(name, held, revision)

    def _subscribe(self, ask: Ask, state: TypeState, names: tuple[str, ...], *, first: bool) -> None:
        type_url, revision = ask.type_url, self.revision
        find = self.shelves.finder(type_url)
        if state.everything and any(find(name) is None for name in names):
            self._spell_out(type_url, state)
        if not state.everything:
            state.names.update(names)
        initial = ask.initial_versions if first else {}
        for name in names:
            if state.pending:
                state.pending.pop(name, None)
            held = initial.get(name, "")
            if not held:
                state.wait(name, "", revision, forced=True)
            elif (resource := find(name)) is None or resource.version != held:
                state.wait(name, held, revision)
        if type_url == ROUTES and (hosts := self.types.get(VIRTUAL_HOST)) is not None:
            for name in names:
                self._cover(hosts, name)

    def _unsubscribe(self, ask: Ask, state: TypeState) -> None:
        for name in ask.unsubscribe:
            if name == "*":
                state.wildcard = False
                state.pending = {key: pending for key, pending in state.pending.items() if key in state.names}
                continue
            if state.everything and self.shelves.lookup(ask.type_url, name) is not None:
                self._spell_out(ask.type_url, state)
            state.names.discard(name)
            if not state.wildcard:
                state.pending.pop(name, None)
            if ask.type_url == ROUTES and (hosts := self.types.get(VIRTUAL_HOST)) is not None:
                hosts.covered.discard(name)
                prefix = f"{name}/"
                hosts.pending = {key: value for key, value in hosts.pending.items() if not key.startswith(prefix)}

    def _spell_out(self, type_url: str, state: TypeState) -> None:
        state.everything, state.names = False, set(self.shelves.names(type_url))

    def _cover(self, state: TypeState, route_configuration: str) -> None:
        """The proxy asked for a route configuration: it needs all its virtual hosts, whatever it had before."""
        state.covered.add(route_configuration)
        prefix = f"{route_configuration}/"
        initial = {name: version for name, version in state.initial.items() if name.startswith(prefix)}
        if initial:
            # A dict keeps the room it once needed; a new one has what it needs now.
            state.initial = {name: version for name, version in state.initial.items() if name not in initial}
        names = self.shelves.hosts_of(route_configuration)
        if state.pending:
            for name in names:
                state.pending.pop(name, None)
        self._compare(VIRTUAL_HOST, state, names, initial)

    # === what the shelves say ===

    def on_change(self, type_url: str, name: str, old_version: str, revision: int) -> bool:
        """A name on one of the shelves now holds something else; `old_version` is what it held, "" nothing.

        Tells whether that concerns the proxy.
        """
        state = self.types.get(type_url)
        if state is None or not self._wants(type_url, state, name, old_version):
            return False
        state.wait(name, old_version, revision, changed=True)
        return True

    def move(self, shelves: Shelves, revision: int) -> None:
        """The proxy belongs to another class from now on: everything is compared anew."""
        old, self.shelves = self.shelves, shelves
        for type_url, state in self.types.items():
            for name in {*old.names(type_url), *shelves.names(type_url)}:
                before, after = old.lookup(type_url, name), shelves.lookup(type_url, name)
                held = before.version if before else ""
                if held != (after.version if after else "") and self._wants(type_url, state, name, held):
                    state.wait(name, held, revision)

    def _wants(self, type_url: str, state: TypeState, name: str, old_version: str) -> bool:
        if type_url == VIRTUAL_HOST:
            return name.partition("/")[0] in state.covered
        if state.everything:
            # What is new Envoy will ask for by itself, and what is gone it will let go by itself.
            return bool(old_version) and self.shelves.lookup(type_url, name) is not None
        return state.wildcard or name in state.names

    def _names_of(self, type_url: str) -> Collection[str]:
        state = self.types.get(type_url)
        return state.names if state else ()

    # === what is sent ===

    def responses(self, now: float) -> list[Response]:
        """The responses that may be sent now, in order. `now`: seconds on any steady clock."""
        sent: list[Response] = []
        if not any(state.pending or state.awaited for state in self.types.values()):
            return sent
        # Clusters come once more at the end: their removals were waiting for what came in between.
        for type_url in (*ORDER, *(url for url in self.types if url not in ORDER), CLUSTER):
            state = self.types.get(type_url)
            if state is None or state.flight is not None or not (state.pending or state.awaited):
                continue
            if type_url in _BUILT_ON_THEM and self._is_busy(_FOUNDATIONS, now):
                continue
            response = self._compose(type_url, state, now)
            if response is not None:
                sent.append(response)
        return sent

    def deadline(self, now: float) -> float | None:
        """When waiting for others ends at the latest, if something waits."""
        if not any(state.pending for state in self.types.values()):
            return None
        ends = [state.flight.since + PATIENCE for state in self.types.values() if state.flight]
        return min((end for end in ends if end > now), default=None)

    def _is_busy(self, type_urls: Iterable[str], now: float) -> bool:
        for type_url in type_urls:
            state = self.types.get(type_url)
            if state is None:
                continue
            if state.flight is not None and now - state.flight.since < PATIENCE:
                return True
        return False

    def _compose(self, type_url: str, state: TypeState, now: float) -> Response | None:
        removal_waits = type_url == CLUSTER and (
            self._is_busy(_BUILT_ON_THEM, now) or self._has_updates(_BUILT_ON_THEM)
        )
        sent: dict[str, Resource | None] = {}
        before: dict[str, Pending] = {}
        find = self.shelves.finder(type_url)
        single = state.suspects[0] if state.suspects else None
        for name in list(state.pending) if single is None else [single]:
            pending = state.pending.get(name)
            if pending is None:
                continue
            resource = find(name)
            if resource is None and removal_waits and pending.held:
                continue
            del state.pending[name]
            if resource is None and pending.held and self.shelves.is_set_aside(type_url, name):
                continue
            if self._is_news(resource, pending):
                sent[name], before[name] = resource, pending
        if not state.pending:
            state.pending = {}  # a dict keeps the room it once needed
        if single is not None:
            state.suspects.pop(0)
            if not sent and state.pending:
                return self._compose(type_url, state, now)
        if not sent and not state.awaited:
            return None
        state.awaited = False
        if type_url == CLUSTER:
            self._renew_endpoints(sent)
        self._nonce += 1
        nonce = str(self._nonce)
        state.flight = Flight(
            nonce, sent, before, min((each.revision for each in before.values()), default=self.revision), now
        )
        resources = tuple(resource for resource in sent.values() if resource is not None)
        self.sent_resources += len(resources)
        removed = tuple(name for name, resource in sent.items() if resource is None)
        return Response(type_url=type_url, resources=resources, removed=removed, nonce=nonce)

    @staticmethod
    def _is_news(resource: Resource | None, pending: Pending) -> bool:
        if resource is None:
            return bool(pending.held) or pending.forced
        return pending.forced or resource.version != pending.held

    def _has_updates(self, type_urls: Iterable[str]) -> bool:
        return any(state.pending for url in type_urls if (state := self.types.get(url)) is not None)

    def _renew_endpoints(self, clusters: Mapping[str, Resource | None]) -> None:
        """Rule 3: the endpoints of clusters that are sent again must follow, unasked."""
        state = self.types.get(ENDPOINTS)
        if state is None:
            return
        for name, cluster in clusters.items():
            subscribed = state.everything or name in state.names
            if cluster is not None and subscribed and self.shelves.lookup(ENDPOINTS, name) is not None:
                state.wait(name, "", self.revision, forced=True)


def named_in(words: str, names: Collection[str]) -> set[str]:
    """The resources that Envoy's error message names.

    Envoy writes `Error adding/updating listener(s) <name>: <reason>, <name>: <reason>` (clusters alike).
    """
    return {name for name in names if re.search(rf"(?:^|[\s,'\"]){re.escape(name)}(?:['\"\s,:]|$)", words)}
