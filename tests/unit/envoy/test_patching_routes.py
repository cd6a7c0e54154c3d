"""Patches of route configurations, of virtual hosts and of routes in them."""

from __future__ import annotations

import json

import pytest

from meltemi.base.refs import Ref
from meltemi.envoy.patching.edits import of_side
from meltemi.envoy.patching.routes import Server, patched, patched_host
from meltemi.envoy.resource import finish
from meltemi.model.patches import Kind, Patch, Patches, RouteTarget, Side
from meltemi.model.routes import Source
from meltemi.protos import from_dict
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import VirtualHost
from meltemi.protos.envoy.config.route.v3.route_pb2 import RouteConfiguration

SOURCE = Source(Ref("EnvoyFilter", "shop", "mine"), "spec.configPatches[0].patch")
NEW = {"name": "new", "match": {"prefix": "/new"}, "route": {"cluster": "new"}}
CART = "cart.shop:80"
ALL = RouteTarget()


def host(name: str) -> VirtualHost:
    routes = [
        {"name": "a", "match": {"prefix": "/a"}, "redirect": {"path_redirect": "/b"}},
        {"name": "b", "match": {"prefix": "/"}, "route": {"cluster": "b"}},
    ]
    return from_dict(VirtualHost, {"name": name, "domains": ["cart"], "routes": routes})


def patch(kind: Kind, operation: str, value: object, target: RouteTarget = ALL) -> Patch:
    return Patch(kind, operation, json.dumps(value).encode(), SOURCE, routes=target)


def host_after(*patches: Patch) -> VirtualHost | None:
    """The virtual host that Envoy gets, as a resource of its own."""
    name = f"80/{CART}"
    made = patched_host(finish(name, host(name)), of_side(Patches(patches), Side.OUTBOUND), {})
    return None if made is None else VirtualHost.FromString(made.body)


@pytest.mark.parametrize(
    ("operation", "target", "wanted"),
    [
        ("ADD", RouteTarget(), "a b new"),
        ("INSERT_FIRST", RouteTarget(), "new a b"),
        ("INSERT_BEFORE", RouteTarget(route="b", picks=True), "a new b"),
        ("INSERT_AFTER", RouteTarget(action="REDIRECT", picks=True), "a new b"),
        ("INSERT_FIRST", RouteTarget(route="b", picks=True), "new a b"),
        ("INSERT_FIRST", RouteTarget(route="c", picks=True), "a b"),
        ("REMOVE", RouteTarget(action="ROUTE", picks=True), "a"),
        ("REMOVE", RouteTarget(action="DIRECT_RESPONSE", picks=True), "a b"),
        ("ADD", RouteTarget(host=CART), "a b new"),
        ("ADD", RouteTarget(host="pay.shop:80"), "a b"),
        ("ADD", RouteTarget(domain="cart"), "a b new"),
        ("ADD", RouteTarget(domain="pay"), "a b"),
        ("ADD", RouteTarget(name="80", port=80), "a b new"),
        ("ADD", RouteTarget(port=81), "a b"),
    ],
)
def test_routes_are_put_where_the_patch_says(operation: str, target: RouteTarget, wanted: str) -> None:
    made = host_after(patch(Kind.HTTP_ROUTE, operation, NEW, target))
    assert made is not None
    assert " ".join(route.name for route in made.routes) == wanted
    assert made.name == f"80/{CART}"


def test_a_route_is_merged_into() -> None:
    change = {"route": {"timeout": "3s"}}
    made = host_after(patch(Kind.HTTP_ROUTE, "MERGE", change, RouteTarget(action="ROUTE", picks=True)))
    assert made is not None
    assert made.routes[1].route.timeout.seconds == 3
    assert made.routes[1].route.cluster == "b"
    assert made.routes[0].WhichOneof("action") == "redirect"


def test_a_virtual_host_is_replaced_or_taken_away_and_keeps_its_name_as_a_resource() -> None:
    made = host_after(patch(Kind.VIRTUAL_HOST, "REPLACE", {"name": CART, "domains": ["x"]}, RouteTarget(host=CART)))
    assert made == VirtualHost(name=f"80/{CART}", domains=["x"])
    assert host_after(patch(Kind.VIRTUAL_HOST, "REMOVE", {}, RouteTarget(host=CART))) is None


def test_a_route_configuration_is_merged_into_and_gets_virtual_hosts() -> None:
    before = RouteConfiguration(name="80", virtual_hosts=[host("x"), host("y")])
    changes = (
        patch(Kind.ROUTE_CONFIGURATION, "MERGE", {"internal_only_headers": ["x-a"]}),
        patch(Kind.VIRTUAL_HOST, "REMOVE", {}, RouteTarget(host="x")),
        patch(Kind.VIRTUAL_HOST, "ADD", {"name": "z", "domains": ["z"]}),
        patch(Kind.ROUTE_CONFIGURATION, "MERGE", {"internal_only_headers": ["x-b"]}, RouteTarget(name="81")),
    )
    made = patched(finish("80", before), of_side(Patches(changes), Side.OUTBOUND), {})
    message = RouteConfiguration.FromString(made.body)
    assert [each.name for each in message.virtual_hosts] == ["y", "z"]
    assert list(message.internal_only_headers) == ["x-a"]
    assert made.sources == (SOURCE,)
    nothing = of_side(Patches(changes[3:]), Side.OUTBOUND)
    resource = finish("80", before)
    assert patched(resource, nothing, {}) is resource


@pytest.mark.parametrize(
    ("name", "server"),
    [
        ("80", Server("80", 80)),
        ("inbound|8080||", Server("inbound|8080||", 8080)),
        ("http.8080", Server("http.8080", 8080)),
        ("https.443.web.front.edge", Server("https.443.web.front.edge", 443, "web", "edge/front")),
        ("cart.shop:80", Server("cart.shop:80")),
    ],
)
def test_a_name_says_whom_a_route_configuration_is_for(name: str, server: Server) -> None:
    assert Server.of(name) == server
