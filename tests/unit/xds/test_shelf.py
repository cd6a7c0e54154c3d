from __future__ import annotations

import pytest

from meltemi.envoy.resource import Offer, Resource, offer
from meltemi.model.clients import Audience, ProxyKind
from meltemi.xds.shelf import Catalogue

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
