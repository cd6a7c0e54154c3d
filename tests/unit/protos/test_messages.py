"""Packing, type URLs and JSON of messages in the private pool."""

from __future__ import annotations

import pytest
from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError

from meltemi.protos import any_of, from_dict, message_class, to_dict, type_url, unpack
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import Filter
from meltemi.protos.envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from meltemi.protos.google.protobuf.any_pb2 import Any
from meltemi.protos.google.protobuf.duration_pb2 import Duration

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def test_a_message_and_its_class_have_one_type_url() -> None:
    assert type_url(Cluster) == type_url(Cluster()) == CLUSTER


def test_a_class_is_found_by_type_url_and_by_name() -> None:
    assert message_class(CLUSTER) is message_class("envoy.config.cluster.v3.Cluster") is Cluster
    with pytest.raises(KeyError):
        message_class("envoy.config.cluster.v3.Nothing")


def test_what_was_packed_is_unpacked() -> None:
    cluster = Cluster(name="cart")
    assert unpack(any_of(cluster)) == cluster
    assert any_of(cluster).type_url == CLUSTER


def test_equal_messages_give_equal_bytes_in_an_any() -> None:
    forth, back = Cluster(name="a"), Cluster(name="a")
    for name in "abcdefgh":
        forth.metadata.filter_metadata[name].update({})
    for name in reversed("abcdefgh"):
        back.metadata.filter_metadata[name].update({})
    assert any_of(forth).value == any_of(back).value


def test_unpacking_what_is_not_a_message_of_the_api_fails() -> None:
    with pytest.raises(KeyError):
        unpack(Any(type_url="type.googleapis.com/example.Nothing"))
    with pytest.raises(DecodeError):
        unpack(Any(type_url=CLUSTER, value=b"\xff"))


def test_json_uses_envoys_names_and_understands_both() -> None:
    cluster = Cluster(name="cart", connect_timeout=Duration(seconds=2))
    assert to_dict(cluster) == {"name": "cart", "connect_timeout": "2s"}
    assert from_dict(Cluster, {"name": "cart", "connect_timeout": "2s"}) == cluster
    assert from_dict(Cluster, {"name": "cart", "connectTimeout": "2s"}) == cluster


def test_json_opens_what_is_packed() -> None:
    filter_ = Filter(name="tcp", typed_config=any_of(TcpProxy(stat_prefix="a", cluster="cart")))
    data = to_dict(filter_)
    assert data["typed_config"]["cluster"] == "cart"
    assert from_dict(Filter, data) == filter_


def test_json_with_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ParseError, match="conect_timeout"):
        from_dict(Cluster, {"conect_timeout": "2s"})
