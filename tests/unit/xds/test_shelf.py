from __future__ import annotations

import pytest

from meltemi.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, VIRTUAL_HOST, Offer, Resource, Seen, offer
from meltemi.model.clients import Audience, Clients, EgressHost, ProxyKind, Scope
from meltemi.xds.shelf import Catalogue, Sight

SIDECARS = Audience("sidecars", ProxyKind.SIDECAR, "shop")


def listener(version: str, view: str = "") -> Offer:
    return offer(Resource("type", "0.0.0.0_80", version, version.encode()), view=view)


@pytest.mark.parametrize("gateway_first", [True, False])
@pytest.mark.parametrize("audience_first", [True, False])
def test_a_views_offer_does_not_hide_another_of_the_same_name(gateway_first: bool, audience_first: bool) -> None:
    offers = {"gateway": listener("edge", "edge"), "mesh": listener("mesh")}
    if not gateway_first:
        offers = dict(reversed(offers.items()))
    catalogue = Catalogue()
    if audience_first:
        catalogue.update(audiences={"sidecars": SIDECARS}, offers={})
    for key, each in offers.items():
        catalogue.update(audiences={}, offers={key: each})
    if not audience_first:
        catalogue.update(audiences={"sidecars": SIDECARS}, offers={})

    def version(shelf: str) -> str:
        found = catalogue.shelf(shelf).lookup("type", "0.0.0.0_80")
        return found.version if found else ""

    assert (version("sidecars"), version("edge")) == ("mesh", "edge")


def sees(scope: Scope, seen: Seen, type_url: str = LISTENER) -> bool:
    """Whether a client with that scope sees an offer about that service."""
    return Sight(Audience("a", ProxyKind.SIDECAR, "shop", scope=scope)).sees(Offer(type_url, "n", (), (seen,)))


PORTS = Scope(egress=(EgressHost("shop", "cart.shop", 80), EgressHost("*", "*")))


@pytest.mark.parametrize(
    ("host", "port", "seen"),
    [("cart.shop", 80, True), ("pay.shop", 80, False), ("pay.shop", 81, True), ("pay.shop", 0, True)],
)
def test_a_port_that_a_scope_names_shows_only_the_hosts_named_with_it(host: str, port: int, seen: bool) -> None:
    assert sees(PORTS, Seen("shop", host, port=port)) is seen


def test_a_scope_of_ports_alone_shows_no_other_port() -> None:
    scope = Scope(egress=(EgressHost("shop", "*", 80),))
    assert sees(scope, Seen("shop", "pay.shop", port=80))
    assert not sees(scope, Seen("shop", "pay.shop", port=81))


def test_what_rules_lead_to_is_reached_and_not_called_by_name() -> None:
    scope = Scope(egress=(EgressHost("shop", "*"),), imports=(EgressHost("bank", "ledger.bank"),))
    ledger = Seen("bank", "ledger.bank")
    assert sees(scope, ledger, CLUSTER)
    assert sees(scope, ledger, ENDPOINTS)
    assert not sees(scope, ledger, LISTENER)
    assert not sees(scope, ledger, VIRTUAL_HOST)


def test_what_is_called_at_an_address_of_the_sidecar_is_not_met_at_its_own() -> None:
    scope = Scope(egress=(EgressHost("shop", "*", 80, bound=True), EgressHost("shop", "cart.shop")))
    assert sees(scope, Seen("shop", "pay.shop"), CLUSTER)
    assert not sees(scope, Seen("shop", "pay.shop", port=80), LISTENER)
    assert not sees(scope, Seen("shop", "pay.shop", port=80), VIRTUAL_HOST)
    assert sees(scope, Seen("shop", "cart.shop", port=80), LISTENER)


@pytest.mark.parametrize("first", ["all", "one"])
def test_what_is_made_for_one_audience_goes_before_what_all_get(first: str) -> None:
    name = Resource("type", "0.0.0.0_80", "one", b"one")
    offers = {"all": listener("all"), "one": offer(name, clients=Clients(audiences=frozenset({"sidecars"})))}
    catalogue = Catalogue()
    audiences = {"sidecars": SIDECARS, "others": Audience("others", ProxyKind.SIDECAR, "shop")}
    catalogue.update(audiences=audiences, offers={first: offers[first]})
    catalogue.update(audiences={}, offers=offers)
    found = {key: catalogue.shelf(key).lookup("type", "0.0.0.0_80") for key in audiences}
    assert {key: resource.version for key, resource in found.items() if resource} == {
        "sidecars": "one",
        "others": "all",
    }
