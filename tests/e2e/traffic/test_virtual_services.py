"""VirtualService: which requests a rule is about, and what it does with them."""

from __future__ import annotations

import pytest

from meltemi.testing.clients import EchoPod

from .town import Policies, Town

BOOKS = "http://books:8080"

SUBSETS = """
host: books
subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
"""


@pytest.fixture
def subsets(policies: Policies) -> Policies:
    """The versions of books as subsets."""
    policies.write("DestinationRule", "books", SUBSETS)
    return policies


MATCHES = """
hosts: [books]
http:
  - name: exact path
    match: [{uri: {exact: /exact}}]
    route: [{destination: {host: books, subset: v2}}]
  - name: prefix
    match: [{uri: {prefix: /prefix/}}]
    route: [{destination: {host: books, subset: v2}}]
  - name: regex
    match: [{uri: {regex: "/b[0-9]+"}}]
    route: [{destination: {host: books, subset: v2}}]
  - name: path in any case
    match: [{uri: {exact: /CASE}, ignoreUriCase: true}]
    route: [{destination: {host: books, subset: v2}}]
  - name: method
    match: [{method: {exact: DELETE}}]
    route: [{destination: {host: books, subset: v2}}]
  - name: headers together
    match: [{headers: {x-reader: {exact: ada}, x-year: {regex: "18.*"}}}]
    route: [{destination: {host: books, subset: v2}}]
  - name: a header that is there
    match: [{headers: {x-there: {}}}]
    route: [{destination: {host: books, subset: v2}}]
  - name: query
    match: [{queryParams: {page: {exact: "2"}}}]
    route: [{destination: {host: books, subset: v2}}]
  - name: authority
    match: [{authority: {prefix: books.town}}]
    route: [{destination: {host: books, subset: v2}}]
  - name: either of two
    match: [{uri: {exact: /one}}, {uri: {exact: /other}}]
    route: [{destination: {host: books, subset: v2}}]
  - name: without a header
    match: [{uri: {exact: /without}, withoutHeaders: {x-not: {exact: "1"}}}]
    route: [{destination: {host: books, subset: v2}}]
  - route: [{destination: {host: books, subset: v1}}]
"""


def test_rules_match_by_path_method_headers_query_and_authority(subsets: Policies, caller: EchoPod) -> None:
    subsets.write("VirtualService", "books", MATCHES)

    def version(path: str, headers: dict[str, str] | None = None, **more: str) -> str:
        return caller.get(f"{BOOKS}{path}", headers, **more).echo.version

    assert (version("/exact"), version("/exact/er")) == ("v2", "v1")
    assert (version("/prefix/deep"), version("/prefix")) == ("v2", "v1")
    assert (version("/b42"), version("/b42x")) == ("v2", "v1")
    assert (version("/case"), version("/Case"), version("/EXACT")) == ("v2", "v2", "v1")
    assert version("/", method="DELETE") == "v2"
    assert version("/", {"x-reader": "ada", "x-year": "1843"}) == "v2"
    assert version("/", {"x-reader": "ada", "x-year": "1943"}) == "v1"
    assert (version("/", {"x-there": "anything"}), version("/")) == ("v2", "v1")
    assert (version("/?page=2"), version("/?page=3")) == ("v2", "v1")
    assert version("/", {"host": "books.town:8080"}) == "v2"
    assert (version("/one"), version("/other")) == ("v2", "v2")
    assert (version("/without"), version("/without", {"x-not": "1"})) == ("v2", "v1")


def test_rules_match_by_the_callers_labels_and_port(subsets: Policies, town: Town) -> None:
    subsets.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - match: [{sourceLabels: {app: rival}}]
            route: [{destination: {host: books, subset: v2}}]
          - match: [{port: 8081, sourceNamespace: town}]
            route: [{destination: {host: books, subset: v2}}]
          - route: [{destination: {host: books, subset: v1}}]
        """,
    )
    assert town.rival.many(f"{BOOKS}/", count=5).versions == {"v2": 5}
    assert town.caller.many(f"{BOOKS}/", count=5).versions == {"v1": 5}
    assert town.caller.many("h2://books:8081/", count=5).versions == {"v2": 5}


def test_traffic_is_split_by_weight(subsets: Policies, caller: EchoPod) -> None:
    subsets.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - route:
              - {destination: {host: books, subset: v1}, weight: 80}
              - {destination: {host: books, subset: v2}, weight: 20}
        """,
    )
    versions = caller.many(f"{BOOKS}/", count=500, at_once=4, reuse=True).versions
    # 500 draws at 0.2: the mean is 100, and five standard deviations are 45.
    assert versions.total() == 500
    assert 55 < versions["v2"] < 145


def test_a_rewrite_changes_path_and_authority(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - match: [{uri: {prefix: /old/}}]
            rewrite: {uri: /new/, authority: library}
            route: [{destination: {host: books}}]
          - match: [{uri: {prefix: /item/}}]
            rewrite: {uriRegexRewrite: {match: "^/item/([0-9]+)$", rewrite: '/shelf?id=\\1'}}
            route: [{destination: {host: books}}]
        """,
    )
    echo = caller.get(f"{BOOKS}/old/shelf?n=1").echo
    assert (echo.path, echo.host) == ("/new/shelf?n=1", "library")
    assert caller.get(f"{BOOKS}/item/7").echo.path == "/shelf?id=7"


def test_a_redirect_is_answered_by_the_clients_own_sidecar(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - match: [{uri: {prefix: /gone}}]
            redirect: {uri: /here, authority: library.example, scheme: https, redirectCode: 308}
          - route: [{destination: {host: books}}]
        """,
    )
    reply = caller.get(f"{BOOKS}/gone")
    assert (reply.status, reply.headers["location"]) == (308, "https://library.example/here")


def test_a_direct_response_needs_no_server(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - match: [{uri: {exact: /closed}}]
            directResponse: {status: 451, body: {string: "not to be read"}}
          - route: [{destination: {host: books}}]
        """,
    )
    reply = caller.get(f"{BOOKS}/closed")
    assert (reply.status, reply.body) == (451, "not to be read")


def test_headers_are_set_added_and_removed_on_the_way_there_and_back(subsets: Policies, caller: EchoPod) -> None:
    subsets.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - headers:
              request: {set: {x-set: "1"}, add: {x-add: "2"}, remove: [x-gone]}
              response: {set: {x-back: "3"}, remove: [x-secret]}
            route:
              - destination: {host: books, subset: v2}
                headers:
                  request: {set: {x-target: v2}}
                  response: {add: {x-from: v2}}
        """,
    )
    asked = {"x-add": "0", "x-gone": "here", "x-echo-set": "x-secret=42"}
    reply = caller.get(f"{BOOKS}/", asked)
    seen = reply.echo.headers
    assert (seen["x-set"], seen["x-add"], seen["x-target"]) == ("1", "0,2", "v2")
    assert "x-gone" not in seen
    assert (reply.headers["x-back"], reply.headers["x-from"]) == ("3", "v2")
    assert "x-secret" not in reply.headers


def test_cors_preflights_are_answered_and_origins_checked(policies: Policies, caller: EchoPod) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - corsPolicy:
              allowOrigins: [{exact: "https://shop.example"}]
              allowMethods: [GET, PUT]
              maxAge: 60s
            route: [{destination: {host: books}}]
        """,
    )
    ask = {"origin": "https://shop.example", "access-control-request-method": "PUT"}
    reply = caller.get(f"{BOOKS}/", ask, method="OPTIONS")
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "https://shop.example"
    assert (reply.headers["access-control-allow-methods"], reply.headers["access-control-max-age"]) == ("GET,PUT", "60")
    other = caller.get(f"{BOOKS}/", {"origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in other.headers


def test_a_rule_delegates_to_another_object(subsets: Policies, caller: EchoPod) -> None:
    subsets.write(
        "VirtualService",
        "new-shelf",
        """
        http:
          - match: [{uri: {prefix: /shelf/new}}]
            route: [{destination: {host: books, subset: v2}}]
          - route: [{destination: {host: books, subset: v1}}]
        """,
    )
    subsets.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - match: [{uri: {prefix: /shelf}}]
            delegate: {name: new-shelf, namespace: town}
        """,
    )
    assert caller.get(f"{BOOKS}/shelf/new/1").echo.version == "v2"
    assert caller.get(f"{BOOKS}/shelf/old").echo.version == "v1"


def test_tcp_is_split_by_weight_and_matched_by_port(subsets: Policies, caller: EchoPod) -> None:
    subsets.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        tcp:
          - match: [{port: 9000}]
            route:
              - {destination: {host: books, subset: v1, port: {number: 9000}}, weight: 50}
              - {destination: {host: books, subset: v2, port: {number: 9000}}, weight: 50}
          - match: [{port: 9001}]
            route: [{destination: {host: books, subset: v2, port: {number: 9001}}}]
        """,
    )
    versions = caller.many("tcp://books:9000", messages=("a",), count=100).versions
    assert 25 < versions["v2"] < 75
    assert caller.many("tcp://books:9001", hear_first=True, count=5).versions == {"v2": 5}


def test_a_name_that_no_service_has_is_routed_where_a_rule_says(policies: Policies, town: Town) -> None:
    policies.write(
        "VirtualService",
        "alias",
        """
        hosts: [library.example]
        http:
          - route: [{destination: {host: books, port: {number: 8080}}}]
        """,
    )
    reply = town.caller.get("http://library.example/", to=f"{town.stranger.ip}:80")
    assert reply.status == 200
    assert reply.echo.host == "library.example"
