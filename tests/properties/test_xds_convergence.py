"""Whatever happens on the way, a proxy ends up with what its shelves hold, and nothing is sent in vain."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meltemi.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST, Resource
from meltemi.xds.shelf import Change, Shelf
from meltemi.xds.stream import Clock, Stream
from meltemi.xds.subscription import Ask, Response

CLUSTERS = ("a", "b", "c")
ROUTE_CONFIGS = ("80", "81")
VERSIONS = ("1", "2", "3", "poison")


class Proxy:
    """What Envoy does, as far as delta xDS is concerned: it refuses poison, and asks for what follows from what it has."""

    def __init__(self, shelf: Shelf, clock: Clock) -> None:
        self.shelf = shelf
        self.clock = clock
        self.held: dict[str, dict[str, str]] = {}
        self.wanted: dict[str, set[str]] = {ENDPOINTS: set(), ROUTES: set()}
        self.inbox: list[Response] = []
        self.connect()

    def connect(self) -> None:
        """Connect, or connect again, telling what is held."""
        self.stream = Stream("p.shop", self.shelf, self.clock)
        self.inbox = []
        for type_url in (CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST):
            names = tuple(sorted(self.wanted.get(type_url, ())))
            held = {
                name: v for name, v in self.held.get(type_url, {}).items() if type_url != ENDPOINTS or name in names
            }
            if names or type_url not in self.wanted:
                self.ask(Ask(type_url=type_url, subscribe=names, initial_versions=held))

    def ask(self, ask: Ask) -> None:
        """Say something, and take in what is said back."""
        outcome = self.stream.on_request(ask)
        self.shelf.accept(outcome.accepted)
        if outcome.refusal is not None and outcome.refusal.certain:
            for resource in outcome.refusal.resources:
                tell(self, self.shelf.reject(resource, outcome.refusal.words))
        self.listen()

    def listen(self) -> None:
        """Put whatever is sent into the inbox; one response of a type is under way at a time."""
        self.inbox += self.stream.responses(0.0)
        under_way = [response.type_url for response in self.inbox]
        assert len(under_way) == len(set(under_way))

    def take(self, which: int) -> None:
        """Take one response from the inbox, and do what follows from it."""
        if not self.inbox:
            return
        response = self.inbox.pop(which % len(self.inbox))
        bad = [resource.name for resource in response.resources if resource.version == "poison"]
        held = self.held.setdefault(response.type_url, {})
        for resource in response.resources:
            if resource.version != "poison" and self.is_wanted(response.type_url, resource.name):
                held[resource.name] = resource.version
        for name in response.removed:
            held.pop(name, None)
        words = f"Error adding/updating {', '.join(f'{name}: it is poison' for name in bad)}" if bad else None
        follow = {CLUSTER: ENDPOINTS, LISTENER: ROUTES}.get(response.type_url)
        self.ask(Ask(type_url=response.type_url, nonce=response.nonce, error=words))
        if follow is not None:
            self.follow(follow, set(held))

    def is_wanted(self, type_url: str, name: str) -> bool:
        """Whether Envoy keeps it: what it did not ask for, or no longer wants, it throws away."""
        if type_url == VIRTUAL_HOST:
            return name.partition("/")[0] in self.wanted[ROUTES]
        return type_url not in self.wanted or name in self.wanted[type_url]

    def follow(self, type_url: str, names: set[str]) -> None:
        """Subscribe to what is newly referred to, and let go of the rest."""
        old = self.wanted[type_url]
        self.wanted[type_url] = set(names)
        new, gone = tuple(sorted(names - old)), tuple(sorted(old - names))
        for name in gone:
            self.held.get(type_url, {}).pop(name, None)
            if type_url == ROUTES:
                hosts = self.held.get(VIRTUAL_HOST, {})
                for host in [host for host in hosts if host.startswith(f"{name}/")]:
                    del hosts[host]
        if new or gone:
            self.ask(Ask(type_url=type_url, subscribe=new, unsubscribe=gone))


def tell(proxy: Proxy, change: Change | None) -> None:
    if change is not None:
        proxy.stream.on_change(change.type_url, change.name, change.old_version, proxy.clock.revision)


NAMES = st.one_of(
    st.tuples(st.sampled_from((CLUSTER, ENDPOINTS)), st.sampled_from(CLUSTERS)),
    st.tuples(st.sampled_from((LISTENER, ROUTES)), st.sampled_from(ROUTE_CONFIGS)),
    st.tuples(st.just(VIRTUAL_HOST), st.sampled_from([f"{rc}/{host}" for rc in ROUTE_CONFIGS for host in "xy"])),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, st.sampled_from((*VERSIONS, None))),
        st.tuples(st.just("take"), st.integers(0, 4), st.none()),
        st.tuples(st.just("connect"), st.none(), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_every_proxy_converges_to_what_its_shelf_holds(steps: list[tuple[str, object, str | None]]) -> None:
    shelf, clock = Shelf("shop"), Clock()
    proxy = Proxy(shelf, clock)
    for kind, what, version in steps:
        if kind == "put":
            assert isinstance(what, tuple)
            clock.revision += 1
            type_url, name = what
            wanted = None if version is None else Resource(type_url, name, version, b"")
            tell(proxy, shelf.put(type_url, name, wanted))
            proxy.listen()
        elif kind == "take":
            assert isinstance(what, int)
            proxy.take(what)
        else:
            proxy.connect()
    for _ in range(500):
        if not proxy.inbox:
            break
        proxy.take(0)
    assert not proxy.inbox, "the conversation does not come to rest"
    assert proxy.stream.settled == clock.revision
    for type_url in (CLUSTER, LISTENER):
        assert held(proxy, shelf, type_url) == versions(shelf, type_url, shelf.names(type_url))
    for type_url, names in proxy.wanted.items():
        assert held(proxy, shelf, type_url) == versions(shelf, type_url, names)
    hosts = [name for rc in proxy.wanted[ROUTES] for name in shelf.hosts_of(rc)]
    assert held(proxy, shelf, VIRTUAL_HOST) == versions(shelf, VIRTUAL_HOST, hosts)

    before = proxy.stream.sent_resources
    proxy.connect()
    assert proxy.stream.sent_resources == 0, f"a reconnect sent something again (before: {before})"


def held(proxy: Proxy, shelf: Shelf, type_url: str) -> dict[str, str]:
    """What the proxy holds, but for names under which there is nothing good: there it keeps what it may have."""
    found: dict[str, str] = proxy.held.get(type_url, {})
    return {name: version for name, version in found.items() if not shelf.is_set_aside(type_url, name)}


def versions(shelf: Shelf, type_url: str, names: object) -> dict[str, str]:
    assert hasattr(names, "__iter__")
    found = {name: shelf.lookup(type_url, name) for name in names}
    return {name: resource.version for name, resource in found.items() if resource is not None}
