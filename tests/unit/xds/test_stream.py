"""What one proxy is sent, and when: each rule of the stream, told with lists."""

from __future__ import annotations

import pytest

from meltemi.base.discovery import NAMES
from meltemi.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, VIRTUAL_HOST, Resource
from meltemi.xds.shelf import Change, Shelf
from meltemi.xds.stream import PATIENCE, Clock, Stream, named_in
from meltemi.xds.subscription import Ask, Response

NOW = 100.0


class Conversation:
    """A shelf, a stream before it, and a proxy that answers when it is told to."""

    def __init__(self) -> None:
        self.shelf = Shelf("shop")
        self.clock = Clock(1)
        self.stream = Stream("cart.shop", self.shelf, self.clock)

    def put(self, type_url: str, name: str, version: str | None) -> None:
        """Put another content under a name (None: nothing), as one revision, and tell the stream."""
        self.clock.revision += 1
        wanted = None if version is None else Resource(type_url, name, version, version.encode())
        self.tell(self.shelf.put(type_url, name, wanted))

    def tell(self, change: Change | None) -> None:
        """Let the stream hear of a change."""
        if change is not None:
            self.stream.on_change(change.type_url, change.name, change.old_version, self.clock.revision)

    def ask(self, type_url: str, *names: str, held: dict[str, str] | None = None) -> list[str]:
        """Subscribe; returns what is sent."""
        self.stream.on_request(Ask(type_url=type_url, subscribe=names, initial_versions=held or {}))
        return self.hear()

    def let_go(self, type_url: str, *names: str) -> list[str]:
        """Unsubscribe; returns what is sent."""
        self.stream.on_request(Ask(type_url=type_url, unsubscribe=names))
        return self.hear()

    def start(self, type_url: str) -> None:
        """Subscribe to everything of a type, and take what there is."""
        if self.ask(type_url):
            self.acknowledge(type_url)

    def hear(self, now: float = NOW) -> list[str]:
        """What is sent now, as `cds a=1 -b`."""
        return [say(response) for response in self.stream.responses(now)]

    def acknowledge(self, type_url: str) -> list[str]:
        """Take the response under way; returns what is sent next."""
        outcome = self.stream.on_request(Ask(type_url=type_url, nonce=self.nonce(type_url)))
        self.shelf.accept(outcome.accepted)
        return self.hear()

    def refuse(self, type_url: str, words: str) -> list[str]:
        """Refuse the response under way; returns what is sent next."""
        outcome = self.stream.on_request(Ask(type_url=type_url, nonce=self.nonce(type_url), error=words))
        assert outcome.refusal is not None
        if outcome.refusal.certain:
            for resource in outcome.refusal.resources:
                self.tell(self.shelf.reject(resource, words))
        return self.hear()

    def nonce(self, type_url: str) -> str:
        """The nonce of the response under way."""
        flight = self.stream.types[type_url].flight
        assert flight is not None
        return flight.nonce


SHORT = {CLUSTER: "cds", ENDPOINTS: "eds", LISTENER: "lds", ROUTES: "rds", VIRTUAL_HOST: "vhds", NAMES: "nds"}


def say(response: Response) -> str:
    """A response in a few letters."""
    words = [f"{each.name}={each.version}" for each in response.resources] + [f"-{name}" for name in response.removed]
    return " ".join([SHORT[response.type_url], *words])


@pytest.fixture
def talk() -> Conversation:
    return Conversation()


def test_a_wildcard_subscription_gets_everything(talk: Conversation) -> None:
    talk.put(CLUSTER, "a", "1")
    talk.put(CLUSTER, "b", "1")
    assert talk.ask(CLUSTER) == ["cds a=1 b=1"]


def test_a_proxy_that_starts_is_answered_even_if_there_is_nothing(talk: Conversation) -> None:
    assert talk.ask(CLUSTER) == ["cds"]
    assert talk.acknowledge(CLUSTER) == []


def test_what_the_proxy_already_holds_is_not_sent_after_a_reconnect(talk: Conversation) -> None:
    talk.put(CLUSTER, "a", "1")
    talk.put(CLUSTER, "b", "2")
    assert talk.ask(CLUSTER, held={"a": "1", "b": "1", "gone": "7"}) == ["cds b=2 -gone"]


def test_a_reconnect_without_any_change_sends_nothing_at_all(talk: Conversation) -> None:
    talk.put(CLUSTER, "a", "1")
    talk.put(ENDPOINTS, "a", "1")
    talk.put(ROUTES, "80", "1")
    talk.put(VIRTUAL_HOST, "80/cart", "1")
    assert talk.ask(CLUSTER, held={"a": "1"}) == []
    assert talk.ask(ENDPOINTS, "a", held={"a": "1"}) == []
    assert talk.ask(ROUTES, "80", held={"80": "1"}) == []
    assert talk.ask(VIRTUAL_HOST, held={"80/cart": "1"}) == []
    assert talk.stream.settled == talk.clock.revision


def test_two_changes_while_a_response_is_under_way_become_one(talk: Conversation) -> None:
    talk.put(CLUSTER, "a", "1")
    talk.ask(CLUSTER)
    talk.put(CLUSTER, "a", "2")
    talk.put(CLUSTER, "a", "3")
    assert talk.hear() == []
    assert talk.acknowledge(CLUSTER) == ["cds a=3"]


def test_a_change_that_was_undone_in_the_meantime_is_not_sent(talk: Conversation) -> None:
    talk.put(CLUSTER, "a", "1")
    talk.ask(CLUSTER)
    talk.put(CLUSTER, "a", "2")
    talk.put(CLUSTER, "a", "1")
    assert talk.acknowledge(CLUSTER) == []


def test_routes_wait_until_the_clusters_before_them_are_taken(talk: Conversation) -> None:
    talk.put(ROUTES, "80", "1")
    talk.start(CLUSTER)
    talk.ask(ROUTES, "80")
    talk.acknowledge(ROUTES)
    talk.put(CLUSTER, "v2", "1")
    talk.put(ROUTES, "80", "2")
    assert talk.hear() == ["cds v2=1"]
    assert talk.acknowledge(CLUSTER) == ["rds 80=2"]


def test_routes_do_not_wait_for_a_stuck_cluster_for_ever(talk: Conversation) -> None:
    talk.put(ROUTES, "80", "1")
    talk.start(CLUSTER)
    talk.ask(ROUTES, "80")
    talk.acknowledge(ROUTES)
    talk.put(CLUSTER, "v2", "1")
    talk.put(ROUTES, "80", "2")
    assert talk.hear() == ["cds v2=1"]
    assert talk.stream.deadline(NOW) == NOW + PATIENCE
    assert talk.hear(NOW + PATIENCE) == ["rds 80=2"]


def test_a_cluster_is_removed_after_the_routes_that_led_to_it(talk: Conversation) -> None:
    talk.put(CLUSTER, "v1", "1")
    talk.put(ROUTES, "80", "1")
    talk.ask(CLUSTER)
    talk.acknowledge(CLUSTER)
    talk.ask(ROUTES, "80")
    talk.acknowledge(ROUTES)
    talk.put(CLUSTER, "v1", None)
    talk.put(ROUTES, "80", "2")
    assert talk.hear() == ["rds 80=2"]
    assert talk.acknowledge(ROUTES) == ["cds -v1"]


def test_a_removal_does_not_wait_for_a_change_that_turns_out_to_be_none(talk: Conversation) -> None:
    talk.put(CLUSTER, "v1", "1")
    talk.put(ROUTES, "80", "1")
    talk.ask(CLUSTER)
    talk.acknowledge(CLUSTER)
    talk.ask(ROUTES, "80")
    talk.acknowledge(ROUTES)
    talk.put(CLUSTER, "v1", None)
    talk.put(ROUTES, "80", "2")
    talk.put(ROUTES, "80", "1")
    assert talk.hear() == ["cds -v1"]


def test_the_endpoints_of_a_changed_cluster_are_sent_again_unasked(talk: Conversation) -> None:
    talk.put(CLUSTER, "a", "1")
    talk.put(ENDPOINTS, "a", "1")
    talk.put(ENDPOINTS, "b", "1")
    talk.ask(CLUSTER)
    assert talk.ask(ENDPOINTS, "a") == ["eds a=1"]
    talk.acknowledge(ENDPOINTS)
    talk.acknowledge(CLUSTER)
    talk.put(CLUSTER, "a", "2")
    assert talk.hear() == ["cds a=2", "eds a=1"]


def test_virtual_hosts_follow_from_the_route_configurations_asked_for(talk: Conversation) -> None:
    talk.put(VIRTUAL_HOST, "80/cart", "1")
    talk.put(VIRTUAL_HOST, "81/cart", "1")
    talk.put(ROUTES, "80", "1")
    assert talk.ask(ROUTES, "80") == ["rds 80=1"]
    assert talk.ask(VIRTUAL_HOST) == ["vhds 80/cart=1"]
    talk.acknowledge(VIRTUAL_HOST)
    talk.put(VIRTUAL_HOST, "80/pay", "1")
    talk.put(VIRTUAL_HOST, "81/pay", "1")
    assert talk.hear() == ["vhds 80/pay=1"]


def test_a_route_configuration_asked_for_later_brings_its_virtual_hosts(talk: Conversation) -> None:
    talk.put(VIRTUAL_HOST, "81/cart", "1")
    talk.put(ROUTES, "81", "1")
    talk.start(VIRTUAL_HOST)
    assert talk.ask(ROUTES, "81") == ["rds 81=1", "vhds 81/cart=1"]


def test_one_changed_virtual_host_is_all_that_is_sent(talk: Conversation) -> None:
    for host in ("cart", "pay", "ship"):
        talk.put(VIRTUAL_HOST, f"80/{host}", "1")
    talk.put(ROUTES, "80", "1")
    talk.ask(ROUTES, "80")
    talk.acknowledge(ROUTES)
    talk.ask(VIRTUAL_HOST)
    talk.acknowledge(VIRTUAL_HOST)
    talk.put(VIRTUAL_HOST, "80/pay", "2")
    assert talk.hear() == ["vhds 80/pay=2"]
    talk.acknowledge(VIRTUAL_HOST)
    talk.put(VIRTUAL_HOST, "80/pay", None)
    assert talk.hear() == ["vhds -80/pay"]


def test_a_name_that_does_not_exist_is_answered_as_removed(talk: Conversation) -> None:
    assert talk.ask(ROUTES, "99") == ["rds -99"]


def test_a_name_that_is_asked_for_again_is_sent_again(talk: Conversation) -> None:
    talk.put(ROUTES, "80", "1")
    talk.ask(ROUTES, "80")
    talk.acknowledge(ROUTES)
    talk.let_go(ROUTES, "80")
    assert talk.ask(ROUTES, "80") == ["rds 80=1"]


def test_nothing_is_sent_about_what_the_proxy_did_not_ask_for(talk: Conversation) -> None:
    talk.ask(ROUTES, "80")
    talk.acknowledge(ROUTES)
    talk.put(ROUTES, "90", "1")
    talk.put(ENDPOINTS, "a", "1")
    assert talk.hear() == []


def test_new_endpoints_of_a_proxy_that_follows_everything_wait_until_it_asks(talk: Conversation) -> None:
    talk.put(ENDPOINTS, "a", "1")
    talk.ask(ENDPOINTS, "a")
    talk.acknowledge(ENDPOINTS)
    assert talk.stream.types[ENDPOINTS].everything
    talk.put(ENDPOINTS, "b", "1")
    assert talk.hear() == []
    assert talk.ask(ENDPOINTS, "b") == ["eds b=1"]
    talk.acknowledge(ENDPOINTS)
    talk.put(ENDPOINTS, "a", "2")
    assert talk.hear() == ["eds a=2"]


def test_endpoints_let_go_of_are_not_sent_any_more(talk: Conversation) -> None:
    talk.put(ENDPOINTS, "a", "1")
    talk.put(ENDPOINTS, "b", "1")
    talk.ask(ENDPOINTS, "a", "b")
    talk.acknowledge(ENDPOINTS)
    talk.let_go(ENDPOINTS, "b")
    talk.put(ENDPOINTS, "b", "2")
    talk.put(ENDPOINTS, "a", "2")
    assert talk.hear() == ["eds a=2"]


def test_names_wait_for_nothing_and_nothing_waits_for_them(talk: Conversation) -> None:
    talk.put(NAMES, "a.example", "1")
    talk.put(CLUSTER, "a", "1")
    talk.put(LISTENER, "l", "1")
    assert talk.ask(CLUSTER) == ["cds a=1"]
    assert talk.ask(NAMES, "*") == ["nds a.example=1"]
    talk.acknowledge(CLUSTER)
    assert talk.ask(LISTENER) == ["lds l=1"]
    talk.acknowledge(LISTENER)
    talk.put(CLUSTER, "a", None)
    assert talk.hear() == ["cds -a"]
    talk.put(NAMES, "a.example", None)
    assert talk.acknowledge(NAMES) == ["nds -a.example"]


def test_an_agent_that_comes_back_is_sent_the_names_that_it_lacks(talk: Conversation) -> None:
    talk.put(NAMES, "a.example", "1")
    talk.put(NAMES, "b.example", "2")
    assert talk.ask(NAMES, "*", held={"a.example": "1", "c.example": "3"}) == ["nds b.example=2 -c.example"]


class TestWhatEnvoyRefuses:
    def test_falls_back_to_the_last_one_it_took(self, talk: Conversation) -> None:
        talk.put(LISTENER, "in", "good")
        talk.ask(LISTENER)
        talk.acknowledge(LISTENER)
        talk.put(LISTENER, "in", "bad")
        assert talk.hear() == ["lds in=bad"]
        assert talk.refuse(LISTENER, "Error adding/updating listener(s) in: port 0 is not a port") == []
        held = talk.shelf.lookup(LISTENER, "in")
        assert held is not None
        assert held.version == "good"
        assert talk.shelf.rejections[(LISTENER, "in")].words.endswith("port 0 is not a port")

    def test_is_tried_again_when_its_author_changed_it(self, talk: Conversation) -> None:
        talk.put(LISTENER, "in", "good")
        talk.ask(LISTENER)
        talk.acknowledge(LISTENER)
        talk.put(LISTENER, "in", "bad")
        talk.hear()
        talk.refuse(LISTENER, "in: no")
        talk.put(LISTENER, "in", "bad")
        assert talk.hear() == []
        talk.put(LISTENER, "in", "better")
        assert talk.hear() == ["lds in=better"]
        assert not talk.shelf.rejections

    def test_does_not_hold_up_the_others(self, talk: Conversation) -> None:
        talk.start(LISTENER)
        talk.put(LISTENER, "in", "bad")
        talk.put(LISTENER, "out", "1")
        assert talk.hear() == ["lds in=bad out=1"]
        assert talk.refuse(LISTENER, "Error adding/updating listener(s) in: no") == ["lds out=1"]

    def test_is_found_by_trying_one_by_one_where_no_name_is_given(self, talk: Conversation) -> None:
        talk.start(LISTENER)
        for name in ("a", "b", "c"):
            talk.put(LISTENER, name, "1")
        talk.hear()
        assert talk.refuse(LISTENER, "something is wrong") == ["lds a=1"]
        assert talk.acknowledge(LISTENER) == ["lds b=1"]
        assert talk.refuse(LISTENER, "something is wrong") == ["lds c=1"]
        assert talk.acknowledge(LISTENER) == []
        assert list(talk.shelf.rejections) == [(LISTENER, "b")]

    def test_leaves_a_proxy_what_it_has_where_no_last_good_one_is_known(self, talk: Conversation) -> None:
        talk.put(CLUSTER, "a", "bad")
        talk.put(CLUSTER, "b", "1")
        assert talk.ask(CLUSTER, held={"a": "good", "b": "1"}) == ["cds a=bad"]
        assert talk.refuse(CLUSTER, "Error adding/updating cluster(s) a: no") == []
        talk.put(CLUSTER, "a", "better")
        assert talk.hear() == ["cds a=better"]

    def test_is_removed_in_the_end_if_its_author_takes_it_away(self, talk: Conversation) -> None:
        talk.put(CLUSTER, "a", "bad")
        talk.ask(CLUSTER, held={"a": "good"})
        assert talk.refuse(CLUSTER, "Error adding/updating cluster(s) a: no") == []
        talk.put(CLUSTER, "a", None)
        assert talk.hear() == ["cds -a"]

    def test_is_not_given_to_proxies_that_connect_later(self, talk: Conversation) -> None:
        talk.put(LISTENER, "in", "good")
        talk.ask(LISTENER)
        talk.acknowledge(LISTENER)
        talk.put(LISTENER, "in", "bad")
        talk.hear()
        talk.refuse(LISTENER, "in: no")
        late = Stream("late.shop", talk.shelf, talk.clock)
        late.on_request(Ask(type_url=LISTENER))
        assert [say(response) for response in late.responses(NOW)] == ["lds in=good"]


class TestHowFarAProxyHasCome:
    def test_a_revision_that_does_not_concern_it_is_taken_at_once(self, talk: Conversation) -> None:
        talk.start(CLUSTER)
        talk.clock.revision += 1
        assert talk.stream.settled == talk.clock.revision

    def test_it_is_behind_until_it_has_acknowledged(self, talk: Conversation) -> None:
        talk.start(CLUSTER)
        talk.put(CLUSTER, "a", "1")
        assert talk.stream.settled == talk.clock.revision - 1
        talk.hear()
        assert talk.stream.settled == talk.clock.revision - 1
        talk.acknowledge(CLUSTER)
        assert talk.stream.settled == talk.clock.revision


def test_moving_to_another_class_sends_the_difference(talk: Conversation) -> None:
    talk.put(CLUSTER, "a", "1")
    talk.put(CLUSTER, "b", "1")
    talk.ask(CLUSTER)
    talk.acknowledge(CLUSTER)
    other = Shelf("other")
    for name, version in (("b", "1"), ("c", "1")):
        other.put(CLUSTER, name, Resource(CLUSTER, name, version, b""))
    talk.clock.revision += 1
    talk.stream.move(other, talk.clock.revision)
    assert talk.hear() == ["cds c=1 -a"]


@pytest.mark.parametrize(
    ("words", "names", "found"),
    [
        ("Error adding/updating cluster(s) a: no, b: no", {"a", "b", "c"}, {"a", "b"}),
        ("Error adding/updating listener(s) 0.0.0.0_80: bad", {"0.0.0.0_80", "0.0.0.0_8080"}, {"0.0.0.0_80"}),
        ("Error adding/updating cluster(s) ba: no", {"a", "ba"}, {"ba"}),
        ("no such thing", {"a"}, set()),
    ],
)
def test_names_are_read_from_envoys_words(words: str, names: set[str], found: set[str]) -> None:
    assert named_in(words, names) == found
