"""What the translation expects of whoever starts Envoy: the two floors do not know each other, but must agree."""

from __future__ import annotations

import base64
import re

from meltemi.agent.command import proxy_environment
from meltemi.agent.spec import Address, ProxySpec
from meltemi.envoy import http, inbound_chains, names, peer, pools, tcp
from meltemi.model.mesh import Mesh
from meltemi.protos import to_dict, unpack
from meltemi.protos.google.protobuf.struct_pb2 import Value

SPEC = ProxySpec(
    pod="cart-1",
    namespace="shop",
    service_account="cart",
    ip="10.244.0.2",
    sds_socket="/s",
    token="/t",
    roots="/r",
    control_plane=Address("127.0.0.1", 15011),
    authority=Address("127.0.0.1", 15012),
    labels={"app": "cart", "version": "v1"},
)


def loggers() -> bytes:
    mesh = Mesh()
    found = [
        *http.outbound_loggers(mesh),
        *tcp.outbound_loggers(mesh),
        *inbound_chains.http_loggers(mesh, secured=True),
        *inbound_chains.tcp_loggers(mesh, secured=True),
    ]
    return b"".join(each.SerializeToString() for each in found)


def test_every_variable_that_the_configuration_reads_is_set() -> None:
    filters = b"".join(each.SerializeToString() for each in pools.upstream_filters(tell_peer=True))
    read = {name.decode() for name in re.findall(rb"%ENVIRONMENT\((\w+)\)%", loggers() + filters)}
    assert "MELTEMI_PEER_METADATA" in read
    assert read <= proxy_environment(SPEC).keys()


def test_what_metrics_look_for_is_what_peers_are_told() -> None:
    wanted = {key.decode() for key in re.findall(rb"%DYNAMIC_METADATA\(mesh:peer:(\w+)\)%", loggers())}
    told = Value.FromString(base64.b64decode(proxy_environment(SPEC)["MELTEMI_PEER_METADATA"]))
    assert wanted == set(told.struct_value.fields)


def test_what_a_peer_says_is_taken_apart_and_removed() -> None:
    assert to_dict(unpack(peer.believed().typed_config)) == {
        "request_rules": [
            {
                "header": names.PEER_METADATA_HEADER,
                "on_header_present": {
                    "metadata_namespace": "mesh",
                    "key": "peer",
                    "type": "PROTOBUF_VALUE",
                    "encode": "BASE64",
                },
                "remove": True,
            }
        ]
    }
