"""Each message that the agent encodes by hand, held against the real one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meltemi.agent import wire
from meltemi.base.protobuf import WireError
from meltemi.protos.envoy.config.core.v3.base_pb2 import Node
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from meltemi.protos.istio.v1.auth.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

names = st.text(max_size=300)
URL = "type.googleapis.com/x"


@given(names, st.binary(), st.binary())
def test_secrets(name: str, chain: bytes, key: bytes) -> None:
    secret = Secret.FromString(wire.tls_certificate(name, chain, key))
    assert secret.name == name
    assert secret.tls_certificate.certificate_chain.inline_bytes == chain
    assert secret.tls_certificate.private_key.inline_bytes == key
    roots = Secret.FromString(wire.validation_context(name, chain))
    assert (roots.name, roots.validation_context.trusted_ca.inline_bytes) == (name, chain)


@given(names, names, st.lists(st.binary()))
def test_responses(version: str, nonce: str, bodies: list[bytes]) -> None:
    response = DiscoveryResponse.FromString(wire.discovery_response(version, URL, nonce, bodies))
    assert (response.version_info, response.nonce, response.type_url) == (version, nonce, URL)
    assert [(any_.type_url, any_.value) for any_ in response.resources] == [(URL, body) for body in bodies]
    resources = [(f"name{place}", version, body) for place, body in enumerate(bodies)]
    delta = DeltaDiscoveryResponse.FromString(wire.delta_discovery_response(URL, nonce, resources))
    assert (delta.nonce, delta.type_url) == (nonce, URL)
    assert [(one.name, one.version, one.resource.value) for one in delta.resources] == resources
    assert all(one.resource.type_url == URL for one in delta.resources)


@given(st.lists(names), names)
def test_requests(wanted: list[str], nonce: str) -> None:
    request = DiscoveryRequest(node=Node(id="n"), resource_names=wanted, response_nonce=nonce, version_info="1")
    parsed = wire.SecretsRequest.parse(request.SerializeToString())
    assert (parsed.names, parsed.nonce, parsed.error) == (tuple(wanted), nonce, "")
    delta = DeltaDiscoveryRequest(
        node=Node(id="n"),
        resource_names_subscribe=wanted,
        resource_names_unsubscribe=wanted[1:],
        initial_resource_versions=dict.fromkeys(wanted, nonce),
    )
    found = wire.DeltaSecretsRequest.parse(delta.SerializeToString())
    assert (found.subscribe, found.unsubscribe) == (tuple(wanted), tuple(wanted[1:]))
    assert found.versions == dict.fromkeys(wanted, nonce)


def test_refusals() -> None:
    request = DiscoveryRequest()
    request.error_detail.message = "bad certificate"
    request.error_detail.code = 13
    assert wire.SecretsRequest.parse(request.SerializeToString()).error == "bad certificate"
    delta = DeltaDiscoveryRequest()
    delta.error_detail.code = 13
    assert wire.DeltaSecretsRequest.parse(delta.SerializeToString()).error == "no reason given"


@given(names, st.integers(0, 2**62), names)
def test_certificate_requests(csr: str, seconds: int, cluster: str) -> None:
    request = IstioCertificateRequest.FromString(wire.certificate_request(csr, seconds, cluster))
    assert (request.csr, request.validity_duration) == (csr, seconds)
    assert dict(request.metadata) == ({"ClusterID": cluster} if cluster else {})


@given(st.lists(names))
def test_certificate_chains(chain: list[str]) -> None:
    message = IstioCertificateResponse(cert_chain=chain).SerializeToString()
    assert wire.certificate_chain(message) == tuple(chain)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@given(
    names, st.dictionaries(names, json_values, max_size=4), st.dictionaries(st.sampled_from(["region", "zone"]), names)
)
def test_nodes(name: str, metadata: dict[str, object], locality: dict[str, str]) -> None:
    given_ = {"id": name, "cluster": name, "metadata": metadata, "locality": locality}
    expected = Node(id=name, cluster=name)
    expected.metadata.update(metadata)
    found = Node.FromString(wire.node(given_))
    assert (found.id, found.cluster, found.metadata) == (expected.id, expected.cluster, expected.metadata)
    assert found.locality.region == locality.get("region", "")
    assert found.locality.zone == locality.get("zone", "")


@given(st.lists(names), st.dictionaries(names, names), names)
def test_requests_of_our_own(wanted: list[str], versions: dict[str, str], nonce: str) -> None:
    written = wire.delta_discovery_request(
        URL, node=wire.node({"id": "n"}), subscribe=wanted, versions=versions, nonce=nonce
    )
    request = DeltaDiscoveryRequest.FromString(written)
    assert (request.node.id, request.type_url, request.response_nonce) == ("n", URL, nonce)
    assert list(request.resource_names_subscribe) == wanted
    assert dict(request.initial_resource_versions) == versions


@given(names, names, st.lists(st.binary()), st.lists(names))
def test_answers_to_our_requests(version: str, nonce: str, bodies: list[bytes], removed: list[str]) -> None:
    response = DeltaDiscoveryResponse(type_url=URL, nonce=nonce, removed_resources=removed)
    for place, body in enumerate(bodies):
        resource = response.resources.add(name=f"name{place}", version=version)
        resource.resource.type_url, resource.resource.value = URL, body
    found = wire.DeltaResponse.parse(response.SerializeToString())
    assert (found.type_url, found.nonce, found.removed) == (URL, nonce, tuple(removed))
    assert found.resources == tuple(wire.Received(f"name{place}", version, body) for place, body in enumerate(bodies))


@given(st.binary(max_size=64))
def test_anything_else_is_an_error_and_nothing_worse(garbage: bytes) -> None:
    for parse in (
        wire.SecretsRequest.parse,
        wire.DeltaSecretsRequest.parse,
        wire.DeltaResponse.parse,
        wire.NameInfo.parse,
        wire.certificate_chain,
    ):
        try:
            parse(garbage)
        except WireError:
            continue


@pytest.mark.parametrize("garbage", [b"\x0a", b"\x0a\x05x", b"\xff" * 11, b"\x0b", b"\x0a\x02\xff\xfe"])
def test_broken_messages_are_named_so(garbage: bytes) -> None:
    with pytest.raises(WireError):
        wire.certificate_chain(garbage)
