"""DestinationRule: subsets and the ways to choose among endpoints."""

from __future__ import annotations

import pytest

from meltemi.testing.clients import EchoPod, Replies
from meltemi.testing.mesh import eventually

from .town import Policies, Town

BOOKS = "http://books:8080"


def test_a_subset_may_have_a_policy_of_its_own(policies: Policies, town: Town) -> None:
    policies.write(
        "DestinationRule",
        "books",
        """
        host: books
        trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
        subsets:
          - name: v1
            labels: {version: v1}
            trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-reader}}}
          - {name: all, labels: {app: books}}
        """,
    )
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - match: [{uri: {exact: /v1}}]
            route: [{destination: {host: books, subset: v1}}]
          - route: [{destination: {host: books, subset: all}}]
        """,
    )
    sticky = town.caller.many(f"{BOOKS}/v1", {"x-reader": "ada"}, count=10)
    assert len(sticky.pods) == 1
    assert sticky.versions.keys() == {"v1"}
    assert town.caller.many(f"{BOOKS}/", count=30).pods.keys() == {pod.name for pod in town.books}


@pytest.mark.parametrize("balancer", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
def test_simple_balancers_use_every_endpoint(policies: Policies, town: Town, balancer: str) -> None:
    policies.write(
        "DestinationRule", "books", f"{{host: books, trafficPolicy: {{loadBalancer: {{simple: {balancer}}}}}}}"
    )
    pods = town.caller.many(f"{BOOKS}/", count=90, reuse=True).pods
    assert pods.keys() == {pod.name for pod in town.books}
    if balancer == "ROUND_ROBIN":
        assert set(pods.values()) == {30}


def test_passthrough_goes_to_the_address_that_the_client_meant(policies: Policies, town: Town) -> None:
    policies.write("DestinationRule", "books", "{host: books, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}")
    for pod in town.books:
        replies = town.caller.many(f"{BOOKS}/", count=3, to=f"{pod.ip}:8080")
        assert replies.pods == {pod.name: 3}


@pytest.mark.parametrize(
    ("hashed", "asks"),
    [
        ("httpHeaderName: x-reader", lambda reader: ("/", {"x-reader": reader})),
        ("httpQueryParameterName: reader", lambda reader: (f"/?reader={reader}", {})),
        ("httpCookie: {name: reader, ttl: 0s}", lambda reader: ("/", {"cookie": f"reader={reader}"})),
    ],
    ids=["header", "query", "cookie"],
)
def test_a_hash_keeps_each_reader_at_one_endpoint(
    policies: Policies, caller: EchoPod, hashed: str, asks: object
) -> None:
    policies.write(
        "DestinationRule",
        "books",
        f"{{host: books, trafficPolicy: {{loadBalancer: {{consistentHash: {{{hashed}}}}}}}}}",
    )
    assert callable(asks)
    homes = set()
    for number in range(12):
        path, headers = asks(f"reader-{number}")
        pods = caller.many(f"{BOOKS}{path}", headers, count=4).pods
        assert len(pods) == 1
        homes.update(pods)
    assert len(homes) > 1


def test_a_hash_of_a_cookie_gives_one_to_who_has_none(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "DestinationRule",
        "books",
        "{host: books, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: seat, path: /, ttl: 60s}}}}}",
    )
    first = caller.get(f"{BOOKS}/")
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert cookie.startswith("seat=")
    assert caller.many(f"{BOOKS}/", {"cookie": cookie}, count=6).pods == {first.echo.pod: 6}


def test_a_hash_of_the_source_address_keeps_a_client_at_one_endpoint(policies: Policies, town: Town) -> None:
    policies.write(
        "DestinationRule",
        "books",
        "{host: books, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}",
    )
    for client in (town.caller, town.rival):
        assert len(client.many(f"{BOOKS}/", count=8).pods) == 1
        assert len(client.many("tcp://books:9000", messages=("a",), count=8).pods) == 1


def test_maglev_is_a_hash_too(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "DestinationRule",
        "books",
        """
        host: books
        trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-reader, maglev: {tableSize: 1009}}}}
        """,
    )
    homes = [caller.many(f"{BOOKS}/", {"x-reader": f"reader-{number}"}, count=3).pods for number in range(10)]
    assert all(len(pods) == 1 for pods in homes)
    assert len({pod for pods in homes for pod in pods}) > 1


def test_endpoints_that_report_more_load_get_less(policies: Policies, town: Town) -> None:
    policies.write(
        "DestinationRule",
        "books",
        """
        host: books
        trafficPolicy: {loadBalancer: {backendUtilization: {blackoutPeriod: 0s, weightUpdatePeriod: 0.1s}}}
        """,
    )
    loads = {town.v2.name: "0.9", **{pod.name: "0.1" for pod in town.v1}}

    def reported() -> Replies:
        for name, load in loads.items():
            report = f"endpoint-load-metrics=TEXT application_utilization={load},rps_fractional=100"
            town.caller.many(f"{BOOKS}/", {"x-echo-only": name, "x-echo-set": report}, count=6)
        return town.caller.many(f"{BOOKS}/", count=40)

    eventually(
        reported, lambda replies: replies.statuses == {200: 40} and 0 < replies.pods[town.v2.name] <= 6, seconds=20
    )


def test_a_port_may_have_a_policy_of_its_own(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "DestinationRule",
        "books",
        """
        host: books
        trafficPolicy:
          loadBalancer: {simple: ROUND_ROBIN}
          portLevelSettings:
            - {port: {number: 8081}, loadBalancer: {consistentHash: {httpHeaderName: x-reader}}}
        """,
    )
    assert len(caller.many("h2://books:8081/", {"x-reader": "ada"}, count=9).pods) == 1
    assert len(caller.many(f"{BOOKS}/", {"x-reader": "ada"}, count=9).pods) == 3
