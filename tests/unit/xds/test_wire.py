"""Finished bytes laid side by side, and Envoy's words."""

from __future__ import annotations

import pytest

from meltemi.envoy.resource import CLUSTER, Resource
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse
from meltemi.xds.subscription import Response
from meltemi.xds.wire import Composer, words_of


def response(nonce: str, *names: str) -> Response:
    resources = tuple(Resource(CLUSTER, name, "v1", b"\x0a\x01x" * 100) for name in names)
    return Response(type_url=CLUSTER, resources=resources, removed=("gone", "y" * 300), nonce=nonce)


def test_what_is_joined_is_the_message_that_protobuf_would_have_made() -> None:
    message = DeltaDiscoveryResponse.FromString(b"".join(Composer().compose(response("7", "a", "b"))))
    assert message.type_url == CLUSTER
    assert message.nonce == "7"
    assert list(message.removed_resources) == ["gone", "y" * 300]
    assert [(each.name, each.version, each.resource.type_url) for each in message.resources] == [
        ("a", "v1", CLUSTER),
        ("b", "v1", CLUSTER),
    ]
    assert message.resources[0].resource.value == b"\x0a\x01x" * 100


def test_proxies_that_are_due_the_same_share_it() -> None:
    composer = Composer()
    first, second = composer.compose(response("1", "a")), composer.compose(response("2", "a"))
    assert (composer.made, composer.shared) == (1, 1)
    assert first[0] is second[0]
    assert DeltaDiscoveryResponse.FromString(b"".join(second)).nonce == "2"


def test_only_the_latest_are_kept() -> None:
    composer = Composer(most=2 * len(Composer().compose(response("1", "a"))[0]))
    for name in ("a", "b", "c", "a"):
        composer.compose(response("1", name))
    assert composer.made == 4


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("port 0 is not a port", "port 0 is not a port"),
        (
            'cluster(s) a: ALPN is needed: goo.gle/debugstr    \nname: "a"\neds_cluster_config {\n  eds_config {\n  }\n}\n',
            "cluster(s) a: ALPN is needed",
        ),
        (
            'goo.gle/debugonly    \nname: "80/cart"\nroutes {\n  direct_response {\n    status: 99\n  }\n}\n: '
            "Proto constraint validation failed (Status: value must be inside range [200, 600))",
            "Proto constraint validation failed (Status: value must be inside range [200, 600))",
        ),
    ],
)
def test_envoys_words_come_without_its_dumps(message: str, words: str) -> None:
    assert words_of(message) == words
