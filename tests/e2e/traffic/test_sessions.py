"""Sessions that stay at one endpoint, because a cookie or a header says which it was."""

from __future__ import annotations

from meltemi.testing import workloads
from meltemi.testing.workloads import Manifest

from .town import BOOKS_PORTS, TOWN, Policies, Town


def keeping(label: str, value: str) -> Manifest:
    """Another service in front of the books, with sessions."""
    manifest = workloads.service("kept", TOWN, BOOKS_PORTS, selector={"app": "books"})
    manifest["metadata"]["labels"] = {f"istio.io/{label}": value}
    return manifest


def test_a_cookie_keeps_a_client_at_its_endpoint(policies: Policies, town: Town) -> None:
    policies.apply([keeping("persistent-session", "kept-at")])
    first = town.caller.get("http://kept:8080/")
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert cookie.startswith("kept-at=")
    stayed = town.caller.many("http://kept:8080/", {"cookie": cookie}, count=20)
    assert stayed.pods == {first.echo.pod: 20}
    assert len(town.caller.many("http://kept:8080/", count=30).pods) > 1


def test_a_header_keeps_a_client_at_its_endpoint_through_a_rule(policies: Policies, town: Town) -> None:
    policies.apply([keeping("persistent-session-header", "x-kept-at")])
    policies.write("VirtualService", "kept", "{hosts: [kept], http: [{route: [{destination: {host: kept}}]}]}")
    first = town.caller.get("http://kept:8080/")
    shown = {"x-kept-at": first.headers["x-kept-at"]}
    assert town.caller.many("http://kept:8080/", shown, count=20).pods == {first.echo.pod: 20}
