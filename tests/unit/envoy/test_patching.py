"""Patches of clusters, and how they reach shelves."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meltemi.base.refs import Ref
from meltemi.envoy.patching.clusters import patched
from meltemi.envoy.patching.merging import merge
from meltemi.envoy.resource import CLUSTER, finish, offer
from meltemi.model.clients import Audience, ProxyKind
from meltemi.model.patches import ClusterTarget, Kind, Patch, Patches, Side
from meltemi.model.routes import Source
from meltemi.protos import from_dict
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.xds.shelf import Catalogue

SOURCE = Source(Ref("EnvoyFilter", "shop", "mine"), "spec.configPatches[0].patch")
NAME = "outbound|80|v1|cart.shop"
RESOURCE = finish(NAME, from_dict(Cluster, {"name": NAME, "connect_timeout": "1.5s"}))


ANY_CLUSTER = ClusterTarget()


def patch(value: object, operation: str = "MERGE", side: Side = Side.ANY, target: ClusterTarget = ANY_CLUSTER) -> Patch:
    return Patch(Kind.CLUSTER, operation, json.dumps(value).encode(), SOURCE, side, target)


def test_a_duration_is_replaced_as_a_whole_and_lists_are_appended_to() -> None:
    cluster = from_dict(Cluster, {"connect_timeout": "1.5s", "filters": [{"name": "a"}]})
    merge(cluster, from_dict(Cluster, {"connect_timeout": "2s", "filters": [{"name": "b"}]}))
    assert cluster == from_dict(Cluster, {"connect_timeout": "2s", "filters": [{"name": "a"}, {"name": "b"}]})


def test_messages_are_merged_field_by_field_and_entries_of_maps_replaced() -> None:
    first = {"upstream_connection_options": {"tcp_keepalive": {"keepalive_probes": 1, "keepalive_time": 2}}}
    cluster = from_dict(Cluster, {**first, "metadata": {"filter_metadata": {"a": {"x": 1}, "b": {"y": 1}}}})
    changes = {"upstream_connection_options": {"tcp_keepalive": {"keepalive_probes": 3}}}
    merge(cluster, from_dict(Cluster, {**changes, "metadata": {"filter_metadata": {"a": {"z": 2}}}}))
    assert cluster.upstream_connection_options.tcp_keepalive.keepalive_probes.value == 3
    assert cluster.upstream_connection_options.tcp_keepalive.keepalive_time.value == 2
    assert set(cluster.metadata.filter_metadata["a"].fields) == {"z"}
    assert set(cluster.metadata.filter_metadata["b"].fields) == {"y"}


@given(st.integers(0, 100), st.integers(0, 999), st.integers(1, 2**20))
def test_merging_scalars_twice_is_merging_them_once(seconds: int, milliseconds: int, limit: int) -> None:
    change = from_dict(
        Cluster, {"connect_timeout": f"{seconds}.{milliseconds:03}s", "per_connection_buffer_limit_bytes": limit}
    )
    once = Cluster.FromString(RESOURCE.body)
    merge(once, change)
    twice = Cluster()
    twice.CopyFrom(once)
    merge(twice, change)
    assert once == twice


def test_a_patch_is_for_the_clusters_that_fit() -> None:
    for target, fits in (
        (ClusterTarget(service="cart.shop", port=80, subset="v1"), True),
        (ClusterTarget(name=NAME), True),
        (ClusterTarget(service="pay.shop"), False),
        (ClusterTarget(port=81), False),
        (ClusterTarget(subset="v2"), False),
    ):
        made = patched(RESOURCE, Patches((patch({"connect_timeout": "9s"}, target=target),)), {})
        assert made is not None
        assert (made.version != RESOURCE.version) is fits
        assert (SOURCE in made.sources) is fits


def test_a_patch_is_for_one_side() -> None:
    inbound = Patches((patch({}, "REMOVE", Side.INBOUND),))
    outbound = Patches((patch({}, "REMOVE", Side.OUTBOUND),))
    assert patched(RESOURCE, inbound, {}) is RESOURCE
    assert patched(RESOURCE, outbound, {}) is None
    assert patched(RESOURCE, Patches(outbound.patches, gateway=True), {}) is RESOURCE


def test_a_shelf_follows_its_patches_and_keeps_what_was_good() -> None:
    catalogue = Catalogue()
    audience = Audience("a", ProxyKind.SIDECAR, "shop")
    catalogue.update(audiences={"a": audience}, offers={"cart": offer(RESOURCE)})
    shelf = catalogue.shelf("a")
    shelf.accept([RESOURCE])
    change = Patches((patch({"connect_timeout": "9s"}), patch({"name": "own"}, "ADD")))
    changes = catalogue.update(audiences={}, offers={}, audience_patches={"a": change})
    assert {each.name for each in changes} == {NAME, "own"}
    made = shelf.lookup(CLUSTER, NAME)
    assert made is not None
    assert made.sources == (SOURCE,)
    shelf.reject(made, "no")
    assert shelf.lookup(CLUSTER, NAME) == RESOURCE
    catalogue.update(audiences={}, offers={}, audience_patches={"a": None})
    assert set(shelf.names(CLUSTER)) == {NAME}
    assert shelf.lookup(CLUSTER, NAME) == RESOURCE


def test_the_patches_of_a_view_reach_what_is_its_own() -> None:
    catalogue = Catalogue()
    mine = finish("inbound|8080||", Cluster(name="inbound|8080||"))
    catalogue.update(audiences={}, offers={"in": offer(mine, view="v")})
    catalogue.update(audiences={}, offers={}, view_patches={"v": Patches((patch({}, "REMOVE", Side.INBOUND),))})
    assert catalogue.shelf("v").lookup(CLUSTER, mine.name) is None
    catalogue.update(audiences={}, offers={}, view_patches={"v": None})
    assert catalogue.shelf("v").lookup(CLUSTER, mine.name) == mine


def test_the_order_of_arrival_does_not_matter() -> None:
    audience = Audience("a", ProxyKind.SIDECAR, "shop")
    change = Patches((patch({"connect_timeout": "9s"}), patch({"name": "own"}, "ADD")))
    own = finish("own", Cluster(name="own"))
    events: list[dict[str, Any]] = [
        {"audiences": {"a": audience}, "offers": {}},
        {"audiences": {}, "offers": {"cart": offer(RESOURCE)}},
        {"audiences": {}, "offers": {"own": offer(own)}},
        {"audiences": {}, "offers": {}, "audience_patches": {"a": change}},
    ]
    outcomes = set()
    for order in itertools.permutations(events):
        catalogue = Catalogue()
        for event in order:
            catalogue.update(**event)
        shelf = catalogue.shelf("a")
        held = {name: shelf.lookup(CLUSTER, name) for name in sorted(shelf.names(CLUSTER))}
        outcomes.add(tuple((name, each.version) for name, each in held.items() if each is not None))
    wanted = [
        patched(RESOURCE, change, {}),
        patched(own, change, {}),
    ]  # the user's own cluster of that name is not added
    assert outcomes == {tuple((each.name, each.version) for each in wanted if each is not None)}


def test_patches_that_have_nothing_to_change_are_known() -> None:
    other = Source(Ref("EnvoyFilter", "shop", "other"), "spec.configPatches[0].patch")
    idle = Patch(Kind.CLUSTER, "REMOVE", b"{}", other, cluster=ClusterTarget(service="pay.shop"))
    catalogue = Catalogue()
    catalogue.update(audiences={"a": Audience("a", ProxyKind.SIDECAR, "shop")}, offers={"cart": offer(RESOURCE)})
    catalogue.update(audiences={}, offers={}, audience_patches={"a": Patches((patch({}), idle))})
    assert catalogue.idle_patches() == {other}
    pay = finish("outbound|80||pay.shop", Cluster(name="outbound|80||pay.shop"))
    catalogue.update(audiences={}, offers={"pay": offer(pay)})
    assert catalogue.idle_patches() == frozenset()
    catalogue.update(audiences={}, offers={"pay": None})
    assert catalogue.idle_patches() == {other}
    catalogue.update(audiences={}, offers={}, audience_patches={"a": None})
    assert catalogue.idle_patches() == frozenset()
