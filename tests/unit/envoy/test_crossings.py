"""Which connections a gateway that mutual TLS crosses takes, and which clusters they may choose."""

from __future__ import annotations

import re

import pytest

from meltemi.envoy import crossings
from meltemi.envoy.resource import CLUSTER
from meltemi.flow import View
from meltemi.model.clients import Audience, Clients, ProxyKind
from meltemi.model.gateways import Crossings, GatewayServer, ServerTls, ServerTlsMode
from meltemi.model.mesh import Mesh
from meltemi.model.services import Protocol, Service, ServiceEndpoints
from meltemi.model.traffic import Destination, DestinationVariant, TrafficPolicy
from meltemi.protos import to_dict, unpack
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import FilterChain
from meltemi.testing.models import endpoint, service

HOST = "pay.default.svc.cluster.local"
CROSSED = Audience("crossed", ProxyKind.GATEWAY, "edge")
OTHER = Audience("other", ProxyKind.GATEWAY, "edge")


def chain(*hosts: str) -> FilterChain:
    tls = ServerTls(mode=ServerTlsMode.AUTO_PASSTHROUGH)
    return crossings.chain(
        GatewayServer(name="tls", port=15443, protocol=Protocol.TLS, hosts=hosts, tls=tls), (), Mesh()
    )


def pattern(*hosts: str) -> str:
    rules = to_dict(unpack(chain(*hosts).filters[0].typed_config))["rules"]
    return str(rules["policies"]["server_names"]["permissions"][0]["requested_server_name"]["safe_regex"]["regex"])


@pytest.mark.parametrize(
    ("host", "name", "let_in"),
    [
        (HOST, f"outbound_.80_._.{HOST}", True),
        (HOST, f"outbound_.80_.v1_.{HOST}", True),
        (HOST, f"outbound_.80_._.other.{HOST}", False),
        ("*.local", f"outbound_.80_._.{HOST}", True),
        ("*.local", f"outbound|80||{HOST}", False),
        ("*.local", "outbound_.80_._.pay.example", False),
        ("*", "outbound_.80_._.pay.example", True),
        ("*", "sds-grpc", False),
        ("*", "BlackHoleCluster", False),
    ],
)
def test_server_names_are_those_of_listed_hosts_and_of_no_other_cluster(host: str, name: str, let_in: bool) -> None:
    assert (re.fullmatch(pattern(host), name) is not None) is let_in


def test_a_chain_takes_only_what_offers_the_meshs_protocols() -> None:
    match = chain(HOST, "*.example").filter_chain_match
    assert match.transport_protocol == "tls"
    assert "istio" in match.application_protocols
    assert "h2" not in match.application_protocols
    assert list(match.server_names) == [f"*.{HOST}", "*.example"]
    assert not chain("*", HOST).filter_chain_match.server_names


def names(
    declared: Service, audiences: frozenset[str], client: Audience = CROSSED, rule: Destination | None = None
) -> list[str]:
    destination = rule or Destination(declared.namespace, declared.host)
    made = crossings.clusters(
        declared,
        mesh=View.of({(): Mesh()}),
        crossings=View.of({(): Crossings(audiences)}),
        destinations=View.of({declared.key: destination}),
        endpoints=View.of({declared.key: ServiceEndpoints(*declared.key, ((80, ENDPOINTS),))}),
    )
    return [offer.name for key, offer in made if key[0] == CLUSTER and offer.choose(client) is not None]


ENDPOINTS = (endpoint("10.244.0.7", 80),)


def test_only_gateways_that_are_crossed_know_services_by_server_name() -> None:
    assert names(service("pay", http=80), frozenset()) == []
    assert names(service("pay", http=80), frozenset({"crossed"})) == [f"outbound_.80_._.{HOST}"]
    assert names(service("pay", http=80), frozenset({"crossed"}), OTHER) == []


def test_what_is_outside_of_the_mesh_is_not_reached_this_way() -> None:
    assert names(service("pay", http=80, external=True), frozenset({"crossed"})) == []


def test_rules_for_other_clients_are_left_out() -> None:
    policies = ((80, TrafficPolicy()),)
    variants = (
        DestinationVariant(Clients(audiences=frozenset({"other"})), policies),
        DestinationVariant(Clients(), policies),
    )
    rule = Destination("default", HOST, variants)
    assert names(service("pay", http=80), frozenset({"crossed"}), rule=rule) == [f"outbound_.80_._.{HOST}"]
