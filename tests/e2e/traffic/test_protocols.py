"""Every protocol crosses two sidecars, and which one a port speaks is found as Istio finds it."""

from __future__ import annotations

import pytest

from meltemi.testing.clients import EchoPod

from .town import Town

CALLER = "URI=spiffe://cluster.local/ns/town/sa/caller"


def test_http_1_requests_arrive_as_they_were_sent(caller: EchoPod) -> None:
    reply = caller.get("http://books:8080/shelf?n=1", {"x-reader": "ada"}, method="POST", body="words")
    assert reply.status == 200
    echo = reply.echo
    assert (echo.protocol, echo.method, echo.path) == ("HTTP/1.1", "POST", "/shelf?n=1")
    assert (echo.host, echo.body, echo.headers["x-reader"]) == ("books:8080", "words", "ada")
    assert CALLER in echo.headers["x-forwarded-client-cert"]


def test_http_2_with_prior_knowledge_stays_http_2(caller: EchoPod) -> None:
    reply = caller.get("h2://books:8081/shelf")
    assert (reply.status, reply.protocol, reply.echo.protocol) == (200, "HTTP/2", "HTTP/2")
    assert CALLER in reply.echo.headers["x-forwarded-client-cert"]


@pytest.mark.parametrize("kind", ["unary", "server", "client", "bidi"])
def test_grpc_of_every_kind(caller: EchoPod, kind: str) -> None:
    reply = caller.get("grpc://books:7070", kind=kind, messages=("one", "two"))
    assert (reply.status, reply.error) == (0, "")
    if kind == "unary":
        assert reply.echo.body == "one"
        assert CALLER in reply.echo.headers["x-forwarded-client-cert"]
    elif kind == "server":
        assert len(reply.messages) == 3
    elif kind == "client":
        assert [line.split()[-1] for line in reply.body.splitlines()] == ["one", "two"]
    else:
        assert [line.split()[-1] for line in reply.messages] == ["one", "two"]


def test_a_grpc_refusal_keeps_its_code(caller: EchoPod) -> None:
    reply = caller.get("grpc://books:7070", {"x-echo-status": "9"})
    assert (reply.status, reply.body) == (9, "as it was asked")


def test_a_websocket_stays_open_for_messages_both_ways(caller: EchoPod) -> None:
    reply = caller.get("ws://books:8080/chat", messages=("a", "b", "c"))
    assert reply.status == 101
    assert [line.split()[-1] for line in reply.messages] == ["a", "b", "c"]


def test_tcp_is_carried_both_ways(caller: EchoPod) -> None:
    reply = caller.get("tcp://books:9000", messages=("a", "b"))
    assert [line.split()[-1] for line in reply.messages] == ["a", "b"]


def test_a_server_may_speak_first_on_a_tcp_port(caller: EchoPod) -> None:
    reply = caller.get("tcp://books:9001", hear_first=True, messages=("a",), timeout=3)
    assert [line.split()[-1] for line in reply.messages] == ["welcome", "a"]


@pytest.mark.parametrize("url", ["http://books:8080/", "h2://books:8081/", "http://books:8602/"])
def test_large_bodies_arrive_whole_in_both_directions(caller: EchoPod, url: str) -> None:
    body = "0123456789abcdef" * 20_000
    assert caller.get(url, method="POST", body=body).echo.body == body


def test_many_requests_at_once_share_connections_and_none_is_lost(town: Town) -> None:
    assert town.caller.many("h2://books:8081/", count=400, at_once=40).statuses == {200: 400}
    assert town.caller.many("grpc://books:7070", count=100, at_once=20).statuses == {0: 100}


# === which protocol a port speaks ===


@pytest.mark.parametrize(
    ("url", "protocol"),
    [("http://books:8500/", "HTTP/1.1"), ("h2://books:8500/", "HTTP/2"), ("grpc://books:8500", "gRPC")],
)
def test_an_unnamed_port_is_sniffed_and_http_is_treated_as_http(caller: EchoPod, url: str, protocol: str) -> None:
    reply = caller.get(url)
    assert reply.ok
    assert reply.echo.protocol == protocol
    assert CALLER in reply.echo.headers["x-forwarded-client-cert"]


def test_an_unnamed_port_that_speaks_something_else_is_carried_as_tcp(caller: EchoPod) -> None:
    reply = caller.get("tcp://books:8501", messages=("plain words",))
    assert reply.messages[0].endswith("plain words")


def test_app_protocol_says_http_whatever_the_name_says(caller: EchoPod) -> None:
    reply = caller.get("http://books:8600/")
    assert "x-envoy-upstream-service-time" in reply.headers
    assert CALLER in reply.echo.headers["x-forwarded-client-cert"]


def test_app_protocol_says_http_2(caller: EchoPod) -> None:
    reply = caller.get("h2://books:8601/")
    assert reply.echo.protocol == "HTTP/2"
    assert CALLER in reply.echo.headers["x-forwarded-client-cert"]


def test_app_protocol_says_tcp_and_nobody_looks_inside(caller: EchoPod) -> None:
    reply = caller.get("http://books:8602/")
    assert reply.status == 200
    assert "x-envoy-upstream-service-time" not in reply.headers
    assert "x-forwarded-client-cert" not in reply.echo.headers


def test_connections_without_a_sidecar_on_the_other_side_are_plain(town: Town) -> None:
    reply = town.caller.get("http://stranger.abroad:8080/")
    assert reply.status == 200
    assert "x-forwarded-client-cert" not in reply.echo.headers
    assert town.caller.get("tcp://stranger.abroad:9000", messages=("a",)).messages[0].endswith(" a")


def test_a_workload_calls_itself_through_its_service(town: Town) -> None:
    replies = town.v2.many("http://books:8080/", count=40)
    assert replies.statuses == {200: 40}
    assert replies.pods.keys() == {pod.name for pod in town.books}
