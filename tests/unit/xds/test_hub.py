"""All conversations at once."""

from __future__ import annotations

from meltemi.base.discovery import NAMES
from meltemi.base.labels import LabelSet
from meltemi.base.refs import Ref
from meltemi.base.spiffe import SpiffeId
from meltemi.envoy.resource import CLUSTER, LISTENER, Offer, Resource, Seen, Variant, offer
from meltemi.model.clients import ANYONE, Audience, Clients, EgressHost, ProxyKind, Scope, Visibility
from meltemi.model.proxies import Placement, Proxy
from meltemi.model.routes import Source
from meltemi.xds.hub import Connection, Hub
from meltemi.xds.subscription import Ask

SOURCE = Source(Ref("Service", "shop", "cart"), "spec")


def audience(namespace: str, **scope: object) -> Audience:
    return Audience(key=f"of {namespace}", kind=ProxyKind.SIDECAR, namespace=namespace, **scope)  # type: ignore[arg-type]


def cluster(name: str, version: str, *variants: tuple[Clients, str], seen: tuple[Seen, ...] = ()) -> Offer:
    """An offer of a cluster, with variants for some clients before the one for all."""
    return Offer(
        CLUSTER,
        name,
        tuple(
            Variant(clients, Resource(CLUSTER, name, each, b"", (SOURCE,)))
            for clients, each in (*variants, (ANYONE, version))
        ),
        seen,
    )


class World:
    """A hub with two namespaces, and proxies in them."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.woken: list[str] = []
        self.number = 0
        self.publish(audiences={"of shop": audience("shop"), "of lab": audience("lab")})

    def publish(self, *offers: Offer, audiences: dict[str, Audience | None] | None = None, gone: str = "") -> None:
        self.number += 1
        changed: dict[object, Offer | None] = {each.name: each for each in offers}
        if gone:
            changed[gone] = None
        self.woken.clear()
        self.hub.on_revision(self.number, audiences=audiences or {}, offers=changed, placements={})  # type: ignore[arg-type]

    def join(self, name: str, namespace: str) -> Connection:
        identity = SpiffeId("cluster.local", namespace, "default")
        proxy = Proxy(
            id=f"{name}.{namespace}",
            kind=ProxyKind.SIDECAR,
            namespace=namespace,
            labels=LabelSet(),
            identity=identity,
        )
        placement = Placement(view=f"view {name}", audience=f"of {namespace}")
        connection = self.hub.join(proxy, placement, lambda: self.woken.append(proxy.id))
        self.hub.on_request(connection, Ask(type_url=CLUSTER))
        self.take(connection)
        return connection

    def take(self, connection: Connection, error: str | None = None) -> dict[str, str]:
        """Take what is due, acknowledge it (or refuse it), and tell it."""
        got: dict[str, str] = {}
        for response in connection.stream.responses(0.0):
            got |= {each.name: each.version for each in response.resources} | dict.fromkeys(response.removed, "-")
            self.hub.on_request(connection, Ask(type_url=response.type_url, nonce=response.nonce, error=error))
        return got


def test_a_change_wakes_those_whom_it_concerns_and_nobody_else() -> None:
    world = World()
    cart, lab = world.join("cart", "shop"), world.join("bench", "lab")
    private = (Seen("shop", "cart.shop", Visibility(frozenset({"shop"}))),)
    world.publish(cluster("cart", "1", seen=private))
    assert world.woken == ["cart.shop"]
    assert world.take(cart) == {"cart": "1"}
    assert world.take(lab) == {}


def test_clients_get_the_first_variant_that_is_meant_for_them() -> None:
    world = World()
    cart, lab = world.join("cart", "shop"), world.join("bench", "lab")
    world.publish(cluster("cart", "all", (Clients(namespaces=frozenset({"lab"})), "lab's own")))
    assert world.take(cart) == {"cart": "all"}
    assert world.take(lab) == {"cart": "lab's own"}


def test_the_scope_of_a_client_hides_what_is_not_in_it() -> None:
    world = World()
    cart = world.join("cart", "shop")
    seen = (Seen("pay", "pay.local"),)
    world.publish(cluster("pay", "1", seen=seen))
    assert world.take(cart) == {"pay": "1"}
    narrow = Scope(egress=(EgressHost("shop", "*"),))
    world.publish(audiences={"of shop": audience("shop", scope=narrow)})
    assert world.take(cart) == {"pay": "-"}


def test_the_author_hears_what_envoy_refused_and_others_get_the_last_good_one() -> None:
    world = World()
    cart, other = world.join("cart", "shop"), world.join("other", "shop")
    world.publish(cluster("pay", "good"))
    world.take(cart)
    world.take(other)
    world.publish(cluster("pay", "bad"))
    world.take(cart, error="pay: it is bad")
    [problem] = world.hub.problems()
    assert problem.ref == SOURCE.ref
    assert "it is bad" in problem.message
    assert world.take(other) == {}
    late = world.hub.join(other.proxy, other.placement, lambda: None)
    world.hub.on_request(late, Ask(type_url=CLUSTER))
    assert world.take(late) == {"pay": "good"}


def test_who_is_behind_is_known_until_it_has_acknowledged() -> None:
    world = World()
    cart = world.join("cart", "shop")
    world.publish(cluster("pay", "1"))
    assert world.hub.behind(world.number) == [cart]
    world.take(cart)
    assert world.hub.behind(world.number) == []


def test_a_view_gets_its_own_before_what_all_get() -> None:
    world = World()
    cart = world.join("cart", "shop")
    world.hub.on_request(cart, Ask(type_url=LISTENER))
    world.take(cart)
    own = Offer(LISTENER, "in", (Variant(ANYONE, Resource(LISTENER, "in", "own", b"")),), view="view cart")
    shared = Offer(LISTENER, "in", (Variant(ANYONE, Resource(LISTENER, "in", "shared", b"")),))
    world.number += 1
    world.hub.on_revision(world.number, audiences={}, offers={"own": own, "shared": shared}, placements={})
    assert world.take(cart) == {"in": "own"}


def test_a_proxy_that_changes_its_class_is_sent_the_difference() -> None:
    world = World()
    cart = world.join("cart", "shop")
    world.publish(cluster("pay", "all", (Clients(namespaces=frozenset({"lab"})), "lab's own")), cluster("same", "1"))
    world.take(cart)
    world.number += 1
    moved = {cart.proxy.id: Placement(view="view cart", audience="of lab")}
    world.hub.on_revision(world.number, audiences={}, offers={}, placements=moved)
    assert world.take(cart) == {"pay": "lab's own"}


def test_shelves_of_classes_that_are_gone_are_taken_down() -> None:
    world = World()
    own = Offer(LISTENER, "in", (Variant(ANYONE, Resource(LISTENER, "in", "1", b"")),), view="view x")
    world.publish(own)
    assert "view x" in world.hub.catalogue.shelves
    world.publish(gone="in")
    assert "view x" not in world.hub.catalogue.shelves
    world.publish(audiences={"of lab": None})
    assert "of lab" not in world.hub.catalogue.shelves


def test_a_proxy_is_behind_while_its_agent_is_and_counts_once() -> None:
    world = World()
    cart = world.join("cart", "shop")
    agent = world.hub.join(cart.proxy, cart.placement, lambda: world.woken.append("agent"), is_companion=True)
    world.hub.on_request(agent, Ask(type_url=NAMES, subscribe=("*",)))
    world.take(agent)
    world.publish(offer(Resource(NAMES, "a.example", "1", b"")))
    assert world.woken == ["agent"]
    assert world.hub.behind(world.number) == [cart]
    assert world.take(agent) == {"a.example": "1"}
    assert world.hub.behind(world.number) == []
    world.hub.leave(agent)
    assert world.hub.connections == {cart}
