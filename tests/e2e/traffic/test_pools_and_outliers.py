"""DestinationRule: bounded pools that refuse what is too much, and endpoints that fail and are left out."""

from __future__ import annotations

import pytest

from meltemi.testing.clients import EchoPod
from meltemi.testing.mesh import eventually

from .town import Policies, Town

BOOKS = "http://books:8080"


def test_requests_beyond_the_pool_are_refused_at_once(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "DestinationRule",
        "books",
        """
        host: books
        trafficPolicy:
          connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, http2MaxRequests: 1}}
        """,
    )
    policies.write(
        "VirtualService",
        "books",
        "{hosts: [books], http: [{retries: {attempts: 0}, route: [{destination: {host: books}}]}]}",
    )
    replies = caller.many(f"{BOOKS}/?delay=0.5", count=8, at_once=8)
    assert replies.statuses.keys() == {200, 503}
    assert replies.statuses[200] <= 3
    refused = next(reply for reply in replies if reply.status == 503)
    assert refused.headers["x-envoy-overloaded"] == "true"
    assert refused.seconds < 0.4
    assert caller.get(f"{BOOKS}/").status == 200


def test_a_server_is_protected_from_clients_that_have_no_sidecar(policies: Policies, town: Town) -> None:
    policies.write(
        "DestinationRule",
        "books",
        """
        host: books
        trafficPolicy:
          connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}
        """,
    )
    url, server = f"{BOOKS}/?delay=0.5", f"{town.v2.ip}:8080"
    replies = town.stranger.many(url, count=8, at_once=8, to=server)
    assert replies.statuses.keys() == {200, 503}
    assert replies.statuses[200] <= 3


def test_tcp_connections_beyond_the_pool_are_closed(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "DestinationRule",
        "books",
        "{host: books, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}",
    )
    # A call that hears nothing first holds its connection until its time is up.
    replies = caller.many("tcp://books:9000", hear_first=True, count=4, at_once=4, timeout=1.0)
    cut = [error for error in replies.errors if "no answer within" not in error]
    assert len(cut) >= 2
    assert caller.get("tcp://books:9000", messages=("a",)).ok


@pytest.mark.parametrize(("status", "named"), [("500", ""), ("429", ", outlierDetectionHttpErrorCodes: [429]")])
def test_an_endpoint_that_keeps_failing_is_left_out_for_a_while(
    policies: Policies, town: Town, status: str, named: str
) -> None:
    policies.write(
        "VirtualService",
        "books",
        "{hosts: [books], http: [{retries: {attempts: 0}, route: [{destination: {host: books}}]}]}",
    )
    policies.write(
        "DestinationRule",
        "books",
        f"""
        host: books
        trafficPolicy:
          loadBalancer: {{simple: ROUND_ROBIN}}
          outlierDetection:
            {{consecutive5xxErrors: 3, interval: 0.1s, baseEjectionTime: 60s, maxEjectionPercent: 100{named}}}
        """,
    )
    victim = town.v2.name
    headers = {"x-echo-only": victim, "x-echo-status": status}
    eventually(
        lambda: town.caller.many(f"{BOOKS}/", headers, count=9),
        lambda replies: victim not in replies.pods and replies.statuses == {200: 9},
        seconds=15,
    )
