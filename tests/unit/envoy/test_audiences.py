from __future__ import annotations

from meltemi.base.labels import LabelSet
from meltemi.envoy import audiences
from meltemi.envoy.resource import Resource, Variant
from meltemi.model.clients import ANYONE, LET_THROUGH, REFUSED, Audience, Clients, ProxyKind, Scope

FRONT = Clients(labels=LabelSet.of({"app": "front"}))
BACK = Clients(labels=LabelSet.of({"app": "back"}))
IN_SHOP = Clients(namespaces=frozenset({"shop"}))


def resource(body: bytes) -> Resource:
    return Resource("type", "name", body.decode(), body)


def test_every_set_of_predicates_that_can_hold_together_is_a_situation_and_larger_sets_come_first() -> None:
    found = [held for _, held in audiences.situations([FRONT, BACK, IN_SHOP])]
    assert found == [
        frozenset({FRONT, IN_SHOP}),
        frozenset({BACK, IN_SHOP}),
        frozenset({FRONT}),
        frozenset({BACK}),
        frozenset({IN_SHOP}),
        frozenset(),
    ]


def test_the_last_situation_is_that_of_all_clients() -> None:
    *_, (clients, held) = audiences.situations([FRONT], ANYONE)
    assert clients == ANYONE
    assert held == frozenset()


def test_a_client_gets_the_variant_for_exactly_the_predicates_it_fulfils() -> None:
    def make(applies: audiences.Applies) -> Resource:
        names = [name for name, each in (("front", FRONT), ("shop", IN_SHOP)) if applies(each)]
        return resource("+".join(names).encode())

    variants = audiences.variants([FRONT, IN_SHOP], make)

    def choice(namespace: str, app: str) -> str:
        client = Audience("a", ProxyKind.SIDECAR, namespace, LabelSet.of({"app": app}))
        return next(each.resource.version for each in variants if each.clients.includes(client) and each.resource)

    assert choice("shop", "front") == "front+shop"
    assert choice("shop", "other") == "shop"
    assert choice("lab", "front") == "front"
    assert choice("lab", "other") == ""


def test_no_more_predicates_are_heeded_than_the_limit() -> None:
    many = [Clients(labels=LabelSet.of({f"key{number}": "x"})) for number in range(audiences.MOST_PREDICATES + 2)]
    assert len(list(audiences.situations(many))) == 2**audiences.MOST_PREDICATES


def test_a_variant_that_changes_nothing_is_dropped() -> None:
    same, other = resource(b"same"), resource(b"other")
    kept = audiences.compact([Variant(FRONT, other), Variant(BACK, same), Variant(ANYONE, same)])
    assert kept == (Variant(FRONT, other), Variant(ANYONE, same))


def test_predicates_meet_in_the_clients_that_fulfil_both() -> None:
    assert IN_SHOP.meet(FRONT) == Clients(namespaces=frozenset({"shop"}), labels=FRONT.labels)
    assert ANYONE.meet(FRONT) == FRONT


def test_predicates_that_exclude_each_other_do_not_meet() -> None:
    assert FRONT.meet(BACK) is None
    assert IN_SHOP.meet(Clients(namespaces=frozenset({"lab"}))) is None
    assert Clients(kind=ProxyKind.SIDECAR).meet(Clients(kind=ProxyKind.GATEWAY)) is None
    assert Clients(outbound=REFUSED).meet(Clients(outbound=LET_THROUGH)) is None


def test_clients_with_an_outbound_policy_of_their_own_can_be_meant() -> None:
    strict = Audience("a", ProxyKind.SIDECAR, "shop", scope=Scope(outbound=REFUSED))
    silent = Audience("b", ProxyKind.SIDECAR, "shop")
    assert Clients(outbound=REFUSED).includes(strict)
    assert not Clients(outbound=REFUSED).includes(silent)
    assert not Clients(outbound=LET_THROUGH).includes(silent)
