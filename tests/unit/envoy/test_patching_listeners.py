"""Patches of listeners, and of what is in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meltemi.base.refs import Ref
from meltemi.envoy import http
from meltemi.envoy.patching.edits import of_side
from meltemi.envoy.patching.listeners import patched
from meltemi.envoy.resource import finish
from meltemi.model.patches import ChainTarget, Kind, ListenerTarget, Patch, Patches, Side
from meltemi.model.routes import Source
from meltemi.protos import from_dict
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

MANAGER = f"type.googleapis.com/{HttpConnectionManager.DESCRIPTOR.full_name}"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
SOURCE = Source(Ref("EnvoyFilter", "shop", "mine"), "spec.configPatches[0].patch")
ANYWHERE = ListenerTarget()


def chain(port: int, transport: str) -> dict[str, Any]:
    filters = [{"name": "cors"}, {"name": "router", "typed_config": {"@type": ROUTER}}]
    manager = {"@type": MANAGER, "stat_prefix": "x", "http_filters": filters}
    match = {"destination_port": port, "transport_protocol": transport, "application_protocols": ["istio", "istio-h2"]}
    return {
        "name": f"{port}",
        "filter_chain_match": match,
        "filters": [{"name": "first"}, {"name": http.NAME, "typed_config": manager}],
    }


def listener(name: str = "virtualInbound") -> Listener:
    data = {
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15006}},
        "listener_filters": [{"name": "a"}, {"name": "b"}],
        "filter_chains": [chain(80, "tls"), chain(90, "raw_buffer")],
        "default_filter_chain": {"name": "rest", "filters": [{"name": "first"}]},
    }
    return from_dict(Listener, data)


def after(*patches: Patch, message: Listener | None = None) -> Listener:
    """The listener that Envoy gets."""
    message = message or listener()
    made = patched(finish(message.name, message), of_side(Patches(patches), Side.INBOUND), {})
    assert made is not None
    assert (SOURCE in made.sources) is (made.body != message.SerializeToString(deterministic=True))
    return Listener.FromString(made.body)


def patch(kind: Kind, operation: str, value: object = (), target: ListenerTarget = ANYWHERE) -> Patch:
    return Patch(kind, operation, json.dumps(value or {}).encode(), SOURCE, listener=target)


def within(filter_: str = "", inner: str = "", port: int = 0) -> ListenerTarget:
    return ListenerTarget(port=port, chain=ChainTarget(filter=filter_, inner=inner))


def http_filters(message: Listener) -> list[list[str]]:
    """The names of filters of requests, by chain."""
    found = []
    for each in message.filter_chains:
        manager = HttpConnectionManager.FromString(each.filters[-1].typed_config.value)
        found.append([filter_.name for filter_ in manager.http_filters])
    return found


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        ("INSERT_BEFORE", ["cors", "new", "router"]),
        ("INSERT_AFTER", ["cors", "router", "new"]),
        ("INSERT_FIRST", ["new", "cors", "router"]),
        ("ADD", ["cors", "router", "new"]),
        ("REPLACE", ["cors", "new"]),
        ("REMOVE", ["cors"]),
    ],
)
def test_filters_of_requests_are_put_where_the_patch_says(operation: str, wanted: list[str]) -> None:
    change = patch(Kind.HTTP_FILTER, operation, {"name": "new"}, within(http.NAME, "router", port=90))
    assert http_filters(after(change)) == [["cors", "router"], wanted]


@pytest.mark.parametrize("operation", ["INSERT_BEFORE", "INSERT_AFTER", "REPLACE", "REMOVE"])
def test_a_filter_that_is_not_there_changes_nothing(operation: str) -> None:
    change = patch(Kind.HTTP_FILTER, operation, {"name": "new"}, within(http.NAME, "nobody"))
    assert after(change) == listener()


def test_without_a_filter_to_find_before_is_first_and_after_is_last_and_nothing_is_removed() -> None:
    changes = [
        patch(Kind.NETWORK_FILTER, operation, {"name": operation}, within(port=80))
        for operation in ("INSERT_BEFORE", "INSERT_AFTER", "REMOVE", "REPLACE")
    ]
    assert [each.name for each in after(*changes).filter_chains[0].filters] == [
        "INSERT_BEFORE",
        "first",
        http.NAME,
        "INSERT_AFTER",
    ]


def test_configurations_of_one_type_are_merged_and_of_another_left_alone() -> None:
    same = {"typed_config": {"@type": MANAGER, "request_timeout": "7s"}}
    other = {"name": "x", "typed_config": {"@type": ROUTER, "suppress_envoy_headers": True}}
    target = within(http.NAME, port=80)
    made = after(patch(Kind.NETWORK_FILTER, "MERGE", same, target))
    manager = HttpConnectionManager.FromString(made.filter_chains[0].filters[1].typed_config.value)
    assert manager.request_timeout.seconds == 7
    assert manager.stat_prefix == "x"
    assert after(patch(Kind.NETWORK_FILTER, "MERGE", other, target)) == listener()
    inner = {"name": "router", "typed_config": {"@type": ROUTER, "suppress_envoy_headers": True}}
    made = after(patch(Kind.HTTP_FILTER, "MERGE", inner, within(http.NAME, "router")))
    assert made != listener()
    assert http_filters(made) == [["cors", "router"], ["cors", "router"]]


@pytest.mark.parametrize(
    ("target", "removed"),
    [
        (ChainTarget(name="80"), ["90"]),
        (ChainTarget(transport="raw_buffer"), ["80"]),
        (ChainTarget(protocols=("istio", "istio-h2")), []),
        (ChainTarget(protocols=("istio", "h2")), ["80", "90"]),
        (ChainTarget(destination_port=90), ["80"]),
        (ChainTarget(server_name="a.b"), ["80", "90"]),
    ],
)
def test_chains_are_found_by_what_they_match(target: ChainTarget, removed: list[str]) -> None:
    made = after(patch(Kind.FILTER_CHAIN, "REMOVE", target=ListenerTarget(chain=target)))
    assert [each.name for each in made.filter_chains] == removed
    assert made.HasField("default_filter_chain")


def test_a_default_chain_is_a_chain() -> None:
    made = after(patch(Kind.FILTER_CHAIN, "REMOVE", target=ListenerTarget(chain=ChainTarget(name="rest"))))
    assert not made.HasField("default_filter_chain")
    assert len(made.filter_chains) == 2


def test_what_only_has_the_name_of_a_connection_manager_is_none() -> None:
    false = {"name": http.NAME, "typed_config": {"@type": ROUTER, "suppress_envoy_headers": True}}
    made = after(
        patch(Kind.NETWORK_FILTER, "REPLACE", false, within(http.NAME)),
        patch(Kind.HTTP_FILTER, "INSERT_FIRST", {"name": "new"}),
    )
    assert made == after(patch(Kind.NETWORK_FILTER, "REPLACE", false, within(http.NAME)))


def test_a_transport_socket_of_the_same_name_is_merged_with() -> None:
    tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    message = listener()
    socket = {"name": "tls", "typed_config": {"@type": tls, "require_client_certificate": True}}
    base = from_dict(Listener, {"filter_chains": [{"transport_socket": socket}]}).filter_chains[0]
    message.filter_chains[0].MergeFrom(base)
    change = {"transport_socket": {"name": "tls", "typed_config": {"@type": tls, "require_sni": True}}}
    made = after(patch(Kind.FILTER_CHAIN, "MERGE", change, within(port=80)), message=message)
    both = {"@type": tls, "require_client_certificate": True, "require_sni": True}
    wanted = from_dict(Listener, {"filter_chains": [{"transport_socket": {"name": "tls", "typed_config": both}}]})
    assert made.filter_chains[0].transport_socket == wanted.filter_chains[0].transport_socket


def test_listener_filters_and_chains_are_added_and_a_listener_merged_into_or_taken_away() -> None:
    made = after(
        patch(Kind.LISTENER_FILTER, "INSERT_AFTER", {"name": "n"}, ListenerTarget(filter="a")),
        patch(Kind.LISTENER_FILTER, "REMOVE", {}, ListenerTarget(filter="b")),
        patch(Kind.FILTER_CHAIN, "ADD", {"name": "mine", "filters": [{"name": "x"}]}),
        patch(Kind.LISTENER, "MERGE", {"name": "other", "tcp_backlog_size": 7}),
    )
    assert [each.name for each in made.listener_filters] == ["a", "n"]
    assert [each.name for each in made.filter_chains] == ["80", "90", "mine"]
    assert made.name == "virtualInbound"
    assert made.tcp_backlog_size.value == 7
    gone = of_side(Patches((patch(Kind.LISTENER, "REMOVE", target=ListenerTarget(port=15006)),)), Side.INBOUND)
    assert patched(finish("virtualInbound", listener()), gone, {}) is None


def test_a_port_is_that_of_the_listener_unless_the_listener_takes_all_ports() -> None:
    change = patch(Kind.HTTP_FILTER, "INSERT_FIRST", {"name": "new"}, ListenerTarget(port=80))
    assert [names[0] for names in http_filters(after(change))] == ["new", "cors"]
    assert after(change, message=listener("0.0.0.0_15006")) == listener("0.0.0.0_15006")
    own = patch(Kind.HTTP_FILTER, "INSERT_FIRST", {"name": "new"}, ListenerTarget(port=15006))
    assert [names[0] for names in http_filters(after(own, message=listener("0.0.0.0_15006")))] == ["new", "new"]
