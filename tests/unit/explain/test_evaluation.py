"""What the evaluator says of single requests; that Envoy does the same is tested with a real one."""

from __future__ import annotations

import msgspec
import pytest

from meltemi.base.labels import LabelSet
from meltemi.base.refs import Ref
from meltemi.explain.evaluation import Answered, Forwarded, Redirected, answer_headers, explain
from meltemi.explain.names import find
from meltemi.explain.requests import Request
from meltemi.model.clients import Audience, Clients, ProxyKind
from meltemi.model.routes import (
    Action,
    Forward,
    HeaderChange,
    HttpMatch,
    MatchKind,
    NamedMatch,
    PathRewrite,
    Redirect,
    Respond,
    Route,
    Source,
    Target,
    TextMatch,
    VirtualHost,
    WeightedTarget,
)

CLIENT = Audience("a", ProxyKind.SIDECAR, "shop", LabelSet.of({"app": "cart"}))
TARGET = WeightedTarget(Target("shop", "cart", 80))
GET = Request(authority="cart:80", path="/a/b", query="q=sea")
RULE = Source(Ref("VirtualService", "shop", "cart"), "spec.http[0]")


def host(*routes: Route, domains: tuple[str, ...] = ("cart",)) -> VirtualHost:
    return VirtualHost("cart:80", domains, routes)


def route(action: Action | None = None, match: HttpMatch | None = None, **more: object) -> Route:
    made = Route(name="r", match=match or HttpMatch(), action=action or Forward((TARGET,)), source=RULE)
    return msgspec.structs.replace(made, **more)


@pytest.mark.parametrize(
    ("authority", "domain"),
    [
        ("www.example.org", "www.example.org"),
        ("WWW.example.org:8080", "www.example.org"),
        ("x.www.example.org", "*.www.example.org"),
        ("api.example.org", "*.example.org"),
        ("example.org", "example.*"),
        (".example.org", "*"),
        ("[::1]:80", "[::1]"),
    ],
)
def test_the_most_specific_name_of_a_host_decides(authority: str, domain: str) -> None:
    domains = ("*", "example.*", "*.example.org", "*.www.example.org", "www.example.org", "[::1]")
    found = find([host(domains=(each,)) for each in domains], authority)
    assert found is not None
    assert found[1] == domain


def test_the_first_route_that_fits_decides_and_the_others_say_why_they_did_not() -> None:
    others = route(Respond(418), clients=Clients(namespaces=frozenset({"lab"})))
    api = route(Respond(403), HttpMatch(path=TextMatch(MatchKind.PREFIX, "/api")))
    explanation = explain([host(others, api, route(Respond(200)))], CLIENT, GET)
    assert explanation.outcome == Answered(200)
    assert explanation.source == RULE
    assert [step.objection for step in explanation.why] == [
        "it is for other clients",
        "the path '/a/b' is not one that begins with '/api'",
        "",
    ]
    assert str(explanation.why[2]) == "VirtualService shop/cart spec.http[0]: fits"


def test_nothing_happens_where_no_name_or_no_route_fits() -> None:
    nowhere = route(match=HttpMatch(path=TextMatch(MatchKind.EXACT, "/nowhere")))
    assert explain([host(nowhere)], CLIENT, GET).outcome is None
    assert explain([], CLIENT, GET).domain == ""


REGEX_A = TextMatch(MatchKind.REGEX, "a.*")


@pytest.mark.parametrize(
    ("match", "headers", "fits"),
    [
        (NamedMatch("x-a", TextMatch(MatchKind.EXACT, "b")), (("X-A", "a"), ("x-a", "b")), True),
        (NamedMatch("x-a", TextMatch(MatchKind.EXACT, "b"), True), (("X-A", "a"), ("x-a", "b")), False),
        (NamedMatch("x-a", TextMatch(MatchKind.EXACT, "a,b")), (("X-A", "a"), ("x-a", "b")), False),
        (NamedMatch("x-a", TextMatch(MatchKind.EXACT, "")), (), False),
        (NamedMatch("x-a", REGEX_A, True), (), True),
        (NamedMatch("x-a", REGEX_A, True), (("x-a", "ab"),), False),
        (NamedMatch("x-a", TextMatch(MatchKind.REGEX, ".*"), True), (), False),
        (NamedMatch("x-a", TextMatch(MatchKind.PRESENT)), (("x-a", ""),), True),
        (NamedMatch("x-a", TextMatch(MatchKind.PRESENT), True), (("x-a", ""),), False),
        (NamedMatch(":authority", TextMatch(MatchKind.EXACT, "cart:80")), (), True),
    ],
)
def test_headers_are_compared_value_by_value(
    match: NamedMatch, headers: tuple[tuple[str, str], ...], fits: bool
) -> None:
    request = msgspec.structs.replace(GET, headers=headers)
    found = explain([host(route(Respond(200), HttpMatch(headers=(match,))))], CLIENT, request)
    assert (found.outcome is not None) is fits


@pytest.mark.parametrize(
    ("rewrite", "matched", "path"),
    [
        (PathRewrite(prefix="/new"), None, "/newa/b"),
        (PathRewrite(prefix="/new"), TextMatch(MatchKind.PREFIX, "/a"), "/new/b"),
        (PathRewrite(prefix="/new"), TextMatch(MatchKind.EXACT, "/a/b"), "/new"),
        (PathRewrite(prefix="/new"), TextMatch(MatchKind.REGEX, "/a/."), "/new"),
        (PathRewrite(prefix="/"), TextMatch(MatchKind.SEGMENTS, "/a"), "/b"),
        (PathRewrite(regex="^/(.)/(.)", substitution=r"/\2\\\1"), None, "/b\\a"),
        (PathRewrite(full="/all"), None, "/all"),
    ],
)
def test_paths_are_rewritten_by_what_the_route_matched(
    rewrite: PathRewrite, matched: TextMatch | None, path: str
) -> None:
    [share] = forwarded(route(Forward((TARGET,), path=rewrite), HttpMatch(path=matched))).shares
    assert share.request.target == f"{path}?q=sea"


def forwarded(one: Route) -> Forwarded:
    outcome = explain([host(one)], CLIENT, GET).outcome
    assert isinstance(outcome, Forwarded)
    return outcome


def test_the_targets_changes_of_headers_come_before_the_routes() -> None:
    target = msgspec.structs.replace(
        TARGET,
        request_headers=HeaderChange(set=(("x-a", "1"), ("host", "inner"))),
        response_headers=HeaderChange(add=(("x-b", "1"),)),
    )
    change = HeaderChange(set=(("X-A", "2"),), add=(("x-a", "3"),), remove=("x-gone",))
    [share] = forwarded(route(Forward((target,)), request_headers=change, response_headers=change)).shares
    assert share.request.headers == (("X-A", "2"), ("x-a", "3"))
    assert share.request.authority == "inner"
    assert answer_headers((("x-gone", ""),), share.response) == (("x-b", "1"), ("X-A", "2"), ("x-a", "3"))


def test_shares_are_told_in_percent_and_one_alone_gets_all() -> None:
    targets = [WeightedTarget(Target("shop", name, 80), weight) for name, weight in (("a", 1), ("b", 0), ("c", 3))]
    assert [share.percent for share in forwarded(route(Forward(tuple(targets)))).shares] == [25, 75]
    assert [share.percent for share in forwarded(route(Forward((targets[1],)))).shares] == [100]


@pytest.mark.parametrize(
    ("redirect", "location"),
    [
        (Redirect(), "http://cart:80/a/b?q=sea"),
        (Redirect(scheme="https"), "https://cart/a/b?q=sea"),
        (Redirect(scheme="https", port=0), "https://cart:443/a/b?q=sea"),
        (Redirect(port=8443), "http://cart:8443/a/b?q=sea"),
        (Redirect(authority="other", path=PathRewrite(full="/x")), "http://other/x?q=sea"),
        (Redirect(path=PathRewrite(full="/x?y=1")), "http://cart:80/x?y=1"),
        (Redirect(path=PathRewrite(prefix="/p/")), "http://cart:80/p/a/b?q=sea"),
    ],
)
def test_redirects_lead_where_envoy_would_lead(redirect: Redirect, location: str) -> None:
    assert explain([host(route(redirect))], CLIENT, GET).outcome == Redirected(301, location)


def test_an_answer_that_leads_on_names_the_same_url_as_envoy_does() -> None:
    outcome = explain([host(route(Respond(201)))], CLIENT, GET).outcome
    assert outcome == Answered(201, location="http://cart:80/a/b?q=sea")


def test_a_host_that_wants_tls_redirects_to_it() -> None:
    wanting = msgspec.structs.replace(host(route()), require_tls=True)
    assert explain([wanting], CLIENT, GET).outcome == Redirected(301, "https://cart/a/b?q=sea")
