"""VirtualService: timeouts, retries, faults on purpose, and mirrors."""

from __future__ import annotations

from uuid import uuid4

from meltemi.testing.clients import EchoPod

from .town import Policies, Town

BOOKS = "http://books:8080"


def key() -> dict[str, str]:
    """A header under which servers keep what they see."""
    return {"x-echo-key": uuid4().hex}


def test_a_timeout_bounds_the_whole_request(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - timeout: 0.3s
            route: [{destination: {host: books}}]
        """,
    )
    reply = caller.get(f"{BOOKS}/?delay=5")
    assert reply.status == 504
    assert 0.25 < reply.seconds < 2
    assert caller.get(f"{BOOKS}/").status == 200


def test_a_request_is_tried_again_as_often_as_the_rule_says(policies: Policies, town: Town) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - retries: {attempts: 3, perTryTimeout: 2s, retryOn: 5xx}
            route: [{destination: {host: books}}]
        """,
    )
    asked = key()
    reply = town.caller.get(f"{BOOKS}/", {**asked, "x-echo-status": "503"})
    assert reply.status == 503
    assert sum(len(pod.seen(asked["x-echo-key"])) for pod in town.books) == 4


def test_a_retry_goes_to_another_endpoint_and_succeeds(policies: Policies, town: Town) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - retries: {attempts: 3, retryOn: "gateway-error,connect-failure,reset"}
            route: [{destination: {host: books}}]
        """,
    )
    asked = key()
    # Each server refuses its first request: with three of them, the fourth try at the latest is answered.
    reply = town.caller.get(f"{BOOKS}/", {**asked, "x-echo-fail": "1"})
    seen = {pod.name: len(pod.seen(asked["x-echo-key"])) for pod in town.books}
    assert reply.status == 200
    assert sum(count > 0 for count in seen.values()) >= 2


def test_no_retries_means_one_try(policies: Policies, town: Town) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - retries: {attempts: 0}
            route: [{destination: {host: books}}]
        """,
    )
    asked = key()
    assert town.caller.get(f"{BOOKS}/", {**asked, "x-echo-status": "503"}).status == 503
    assert sum(len(pod.seen(asked["x-echo-key"])) for pod in town.books) == 1


def test_by_default_what_has_reached_the_application_is_not_tried_again(town: Town) -> None:
    for headers in ({"x-echo-status": "503"}, {"x-echo-reset": "9"}):
        asked = key()
        assert town.caller.get(f"{BOOKS}/", {**asked, **headers}).status == 503
        assert sum(len(pod.seen(asked["x-echo-key"])) for pod in town.books) == 1


def test_a_connection_that_is_cut_off_is_tried_again_where_the_rule_says_so(policies: Policies, town: Town) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - retries: {attempts: 2, retryOn: "reset,gateway-error"}
            route: [{destination: {host: books}}]
        """,
    )
    asked = key()
    assert town.caller.get(f"{BOOKS}/", {**asked, "x-echo-reset": "9"}).status == 503
    assert sum(len(pod.seen(asked["x-echo-key"])) for pod in town.books) == 3


def test_each_try_has_a_time_of_its_own(policies: Policies, town: Town) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - timeout: 5s
            retries: {attempts: 1, perTryTimeout: 0.2s, retryOn: gateway-error}
            route: [{destination: {host: books}}]
        """,
    )
    asked = key()
    reply = town.caller.get(f"{BOOKS}/?delay=4", asked)
    assert reply.status == 504
    assert reply.seconds < 3
    assert sum(len(pod.seen(asked["x-echo-key"])) for pod in town.books) == 2


def test_requests_are_aborted_on_purpose(policies: Policies, town: Town) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - match: [{headers: {x-reader: {exact: ada}}}]
            fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
            route: [{destination: {host: books}}]
          - match: [{uri: {exact: /half}}]
            fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
            route: [{destination: {host: books}}]
          - route: [{destination: {host: books}}]
        """,
    )
    asked = key()
    assert town.caller.get(f"{BOOKS}/", {"x-reader": "ada", **asked}).status == 418
    assert not any(pod.seen(asked["x-echo-key"]) for pod in town.books)
    assert town.caller.get(f"{BOOKS}/").status == 200
    statuses = town.caller.many(f"{BOOKS}/half", count=200, reuse=True).statuses
    assert statuses.keys() == {200, 503}
    # 200 draws at one half: five standard deviations are 35.
    assert 65 < statuses[503] < 135


def test_grpc_calls_are_aborted_with_a_grpc_status(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}
            route: [{destination: {host: books}}]
        """,
    )
    assert caller.get("grpc://books:7070").status == 14


def test_requests_are_delayed_on_purpose(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - match: [{uri: {exact: /slow}}]
            fault: {delay: {fixedDelay: 0.4s, percentage: {value: 100}}}
            route: [{destination: {host: books}}]
          - route: [{destination: {host: books}}]
        """,
    )
    slow = caller.get(f"{BOOKS}/slow")
    assert slow.status == 200
    assert slow.seconds > 0.4
    assert caller.get(f"{BOOKS}/").seconds < slow.seconds


def test_a_mirror_gets_a_copy_and_its_answer_is_dropped(policies: Policies, town: Town) -> None:
    policies.write("DestinationRule", "books", "{host: books, subsets: [{name: v1, labels: {version: v1}}]}")
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - match: [{uri: {exact: /some}}]
            route: [{destination: {host: books, subset: v1}}]
            mirrors: [{destination: {host: stranger.abroad.svc.cluster.local, port: {number: 8080}}, percentage: {value: 50}}]
          - route: [{destination: {host: books, subset: v1}}]
            mirror: {host: stranger.abroad.svc.cluster.local, port: {number: 8080}}
        """,
    )
    asked = key()
    replies = town.caller.many(f"{BOOKS}/all", asked, count=10)
    assert replies.versions == {"v1": 10}
    assert not any(reply.echo.pod == town.stranger.name for reply in replies)
    copies = town.stranger.seen(asked["x-echo-key"], count=10)
    assert len(copies) == 10
    # Envoy marks a copy's authority.
    assert {copy.host for copy in copies} == {"books-shadow:8080"}
    some = key()
    town.caller.many(f"{BOOKS}/some", some, count=100, reuse=True)
    assert 20 < len(town.stranger.seen(some["x-echo-key"], count=20)) < 80
