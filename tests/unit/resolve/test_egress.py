"""Addresses that a Sidecar gives to services for its workloads alone."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.model.egress import BoundListener, Reached

REVIEWS = Reached("shop", "reviews.shop.svc.cluster.local", 9080)
RATINGS = Reached("shop", "ratings.shop.svc.cluster.local", 9080)


def listeners(mesh: Any, egress: str) -> tuple[BoundListener, ...]:
    mesh.apply(f"""
    apiVersion: networking.istio.io/v1
    kind: Sidecar
    metadata: {{name: s}}
    spec: {{egress: {egress}}}
    """)
    mesh.connect()
    found = list(mesh.graph.table("egress").all())
    return found[0].listeners if found else ()


def test_a_proxy_listens_at_the_loopback_address_where_nothing_is_captured(shop: Any) -> None:
    found = listeners(shop, "[{port: {number: 9080, protocol: HTTP, name: p}, captureMode: NONE, hosts: [./*]}]")
    assert found == (BoundListener("127.0.0.1", 9080, True, False, (REVIEWS, RATINGS)),)


def test_what_is_captured_for_any_address_has_no_listener_of_its_own(shop: Any) -> None:
    assert listeners(shop, "[{port: {number: 9080, protocol: HTTP, name: p}, hosts: [./*]}]") == ()


def test_an_address_of_its_own_may_be_captured(shop: Any) -> None:
    (found,) = listeners(shop, "[{port: {number: 9080, protocol: HTTP, name: p}, bind: 10.1.2.3, hosts: [./*]}]")
    assert (found.bind, found.captured) == ("10.1.2.3", True)


def test_a_service_with_one_port_is_reached_at_any(shop: Any) -> None:
    (found,) = listeners(
        shop,
        "[{port: {number: 1, protocol: HTTP, name: p}, captureMode: NONE, hosts: [./reviews.shop.svc.cluster.local]}]",
    )
    assert found == BoundListener("127.0.0.1", 1, True, False, (REVIEWS,), sole=True)


def test_a_listener_without_a_port_stands_for_one_on_each_port(shop: Any) -> None:
    found = listeners(shop, "[{captureMode: NONE, hosts: [shop/*]}]")
    assert [(each.bind, each.port, len(each.targets)) for each in found] == [
        ("127.0.0.1", 9080, 2),
        ("127.0.0.1", 9090, 1),
    ]


def test_a_port_that_nobody_has_is_told_to_the_author(shop: Any) -> None:
    egress = "[{port: {number: 1, protocol: HTTP, name: p}, captureMode: NONE, hosts: [nobody/*]}]"
    assert listeners(shop, egress) == ()
    assert shop.problems()["PortNotFound"].path == "spec.egress[0].port.number"


def test_a_proxy_that_is_to_listen_everywhere_listens_on_localhost_and_says_so(shop: Any) -> None:
    egress = "[{port: {number: 9080, protocol: HTTP, name: p}, captureMode: NONE, bind: 0.0.0.0, hosts: [./*]}]"
    (found,) = listeners(shop, egress)
    assert found.bind == "127.0.0.1"
    assert shop.problems()["BindNarrowed"].path == "spec.egress[0].bind"


def test_connections_that_nothing_tells_apart_go_to_the_oldest(shop: Any) -> None:
    (found,) = listeners(shop, "[{port: {number: 9080, protocol: TCP, name: p}, captureMode: NONE, hosts: [./*]}]")
    assert not found.http
    assert shop.problems()["PortConflict"].path == "spec.egress[0].port"


@pytest.mark.parametrize(("egress", "bound"), [("captureMode: NONE", True), ("bind: 0.0.0.0", False)])
def test_a_host_of_such_a_listener_is_not_called_at_its_own_addresses(shop: Any, egress: str, bound: bool) -> None:
    listeners(shop, f"[{{port: {{number: 9080, protocol: HTTP, name: p}}, {egress}, hosts: [./*]}}]")
    (entry,) = shop.only("audiences").scope.egress
    assert entry.bound is bound
