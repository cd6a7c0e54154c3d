"""Headless services: clients choose an endpoint by DNS, and the connection goes to that one."""

from __future__ import annotations

import pytest

from meltemi.testing import workloads

from .town import BOOKS_PORTS, TOWN, Policies, Town


@pytest.fixture
def crew(policies: Policies) -> Policies:
    """The pods of books behind a headless service, too."""
    policies.deploy(
        workloads.service("crew", TOWN, BOOKS_PORTS, selector={"app": "books"}, clusterIP="None"),
    )
    return policies


@pytest.mark.usefixtures("crew")
def test_the_name_stands_for_every_pod(town: Town) -> None:
    pods = {pod.name for pod in town.books}
    for url in ("http://crew:8080/", "tcp://crew:9000", "grpc://crew:7070", "http://crew:8500/"):
        replies = town.caller.many(url, count=20, messages=("hello",))
        assert all(reply.ok for reply in replies), replies
        assert replies.pods.keys() <= pods


@pytest.mark.usefixtures("crew")
def test_a_connection_to_one_pods_address_reaches_that_pod(town: Town) -> None:
    for pod in town.books:
        for url in ("tcp://crew:9000", "tcp://crew:9001"):
            greeted = url.endswith("1")
            replies = town.caller.many(
                url, count=4, to=f"{pod.ip}:{url[-4:]}", messages=("hello",), hear_first=greeted, timeout=3
            )
            assert replies.pods == {pod.name: 4}


@pytest.mark.usefixtures("crew")
def test_mutual_tls_is_spoken_to_headless_endpoints(policies: Policies, town: Town) -> None:
    policies.write("PeerAuthentication", "default", "{mtls: {mode: STRICT}}")
    echo = town.caller.get("http://crew:8080/").echo
    assert "sa/caller" in echo.headers["x-forwarded-client-cert"]
    for pod in town.books:
        assert town.caller.get("tcp://crew:9000", to=f"{pod.ip}:9000", messages=("hello",)).ok
