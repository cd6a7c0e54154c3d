"""PeerAuthentication: who may come without a certificate, and who is told to be calling."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from meltemi.testing.echo.orders import Order
from meltemi.testing.mesh import eventually

from .town import Policies, Town


@pytest.fixture
def strict(policies: Policies) -> Policies:
    """The whole town takes mutual TLS only."""
    policies.write("PeerAuthentication", "default", "{mtls: {mode: STRICT}}")
    return policies


def test_strict_refuses_whoever_comes_without_a_certificate(strict: Policies, town: Town) -> None:
    for url in ("http://books.town:8080/", "h2://books.town:8081/", "tcp://books.town:9000"):
        assert town.caller.get(url, messages=("a",)).ok
        eventually(lambda url=url: town.stranger.get(url, messages=("hello",)), lambda reply: bool(reply.error))


def test_strict_lets_a_server_speak_first_to_those_of_the_mesh(strict: Policies, town: Town) -> None:
    reply = town.caller.get("tcp://books:9001", hear_first=True, messages=("a",), timeout=3)
    assert [line.split()[-1] for line in reply.messages] == ["welcome", "a"]
    eventually(
        lambda: town.stranger.get("tcp://books.town:9001", hear_first=True, timeout=1), lambda reply: bool(reply.error)
    )


def test_permissive_takes_both(town: Town) -> None:
    meshed, plain = (client.get("http://books.town:8080/").echo.headers for client in (town.caller, town.stranger))
    assert "URI=spiffe://cluster.local/ns/town/sa/caller" in meshed["x-forwarded-client-cert"]
    assert "x-forwarded-client-cert" not in plain
    for url in ("tcp://books.town:9000", "grpc://books.town:7070", "h2://books.town:8081/"):
        assert town.stranger.get(url, messages=("hello",)).ok


def test_permissive_lets_a_server_speak_first_to_anybody(town: Town) -> None:
    for client in (town.caller, town.stranger):
        reply = client.get("tcp://books.town:9001", hear_first=True, messages=("a",), timeout=3)
        assert [line.split()[-1] for line in reply.messages] == ["welcome", "a"]


def test_an_identity_that_a_stranger_claims_is_not_passed_on(town: Town) -> None:
    claim = {"x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/town/sa/caller"}
    seen = town.stranger.get("http://books.town:8080/", claim).echo.headers
    assert "sa/caller" not in seen.get("x-forwarded-client-cert", "")


def test_one_port_may_be_taken_out(policies: Policies, town: Town) -> None:
    policies.write(
        "PeerAuthentication",
        "books",
        "{selector: {matchLabels: {app: books}}, mtls: {mode: STRICT}, portLevelMtls: {8081: {mode: PERMISSIVE}}}",
    )
    eventually(lambda: town.stranger.get("http://books.town:8080/"), lambda reply: bool(reply.error))
    assert town.stranger.get("h2://books.town:8081/").ok
    assert town.caller.get("http://books.town:8080/").ok


def test_a_workload_may_be_left_without_tls(policies: Policies, town: Town) -> None:
    policies.write("PeerAuthentication", "books", "{selector: {matchLabels: {app: books}}, mtls: {mode: DISABLE}}")
    reply = eventually(
        lambda: town.caller.get("http://books:8080/"),
        lambda reply: reply.ok and "x-forwarded-client-cert" not in reply.echo.headers,
    )
    assert reply.status == 200
    assert town.caller.get("tcp://books:9000", messages=("a",)).ok


def test_a_client_may_be_told_not_to_use_tls(policies: Policies, town: Town) -> None:
    policies.write("DestinationRule", "books", "{host: books, trafficPolicy: {tls: {mode: DISABLE}}}")
    reply = town.caller.get("http://books:8080/")
    assert "x-forwarded-client-cert" not in reply.echo.headers
    policies.write("PeerAuthentication", "default", "{mtls: {mode: STRICT}}")
    eventually(lambda: town.caller.get("http://books:8080/"), lambda reply: reply.status == 503)


def test_a_client_may_be_told_to_use_mutual_tls_in_any_case(policies: Policies, town: Town) -> None:
    policies.write("DestinationRule", "books", "{host: books, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}")
    policies.write(
        "DestinationRule",
        "away",
        "{host: stranger.abroad.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
    )
    echo = town.caller.get("http://books:8080/").echo
    assert "URI=spiffe://cluster.local/ns/town/sa/caller" in echo.headers["x-forwarded-client-cert"]
    # A server without a sidecar does not understand it.
    assert town.caller.get("http://stranger.abroad:8080/").status == 503


def test_nobody_of_the_mesh_notices_when_it_becomes_strict(policies: Policies, town: Town) -> None:
    with ThreadPoolExecutor() as pool:
        asked = Order(url="http://books:8080/?delay=0.002", count=400, at_once=2, reuse=True)
        calling = [pool.submit(client.order, asked) for client in (town.caller, town.rival)]
        for mode in ("STRICT", "PERMISSIVE", "STRICT"):
            policies.write("PeerAuthentication", "default", f"{{mtls: {{mode: {mode}}}}}")
        assert not any(each.done() for each in calling)
        for each in calling:
            assert each.result().statuses == {200: 400}
