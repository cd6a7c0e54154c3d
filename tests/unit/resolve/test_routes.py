"""HTTP routes in the mesh: which VirtualService holds, for whom, and what its rules say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from meltemi.api.networking.virtual_service import HttpMatchRequest, StringMatch
from meltemi.base.durations import Timeout
from meltemi.base.labels import LabelSet
from meltemi.model.clients import ANYONE, Clients
from meltemi.model.routes import (
    Abort,
    ClaimMatch,
    Delay,
    HeaderChange,
    HttpMatch,
    MatchKind,
    NamedMatch,
    PathRewrite,
    Redirect,
    Respond,
    RetryPolicy,
    Target,
    TextMatch,
)
from meltemi.resolve.matches import claim_path, http_match

REVIEWS = "reviews.shop.svc.cluster.local"
RATINGS = "ratings.shop.svc.cluster.local"


def virtual(
    http: str, name: str = "vs", hosts: str = "reviews", more: str = "", created: str = "1", ns: str = "shop"
) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {ns}, creationTimestamp: "2026-01-0{created}T00:00:00Z"}}
spec:
  hosts: ["{hosts}"]
  {more}
  http: {http}
---
"""


def to(host: str, **fields: str) -> str:
    rest = "".join(f", {key}: {value}" for key, value in fields.items())
    return f"{{route: [{{destination: {{host: {host}}}}}]{rest}}}"


def routes(mesh: Any, host: str = "reviews", port: int = 9080) -> Any:
    (variant,) = mesh.row("routes", host).variants
    assert variant.clients == ANYONE
    return variant.routes(port)


def only(mesh: Any, host: str = "reviews", port: int = 9080) -> Any:
    (route,) = routes(mesh, host, port)
    return route


def targets(route: Any) -> list[tuple[str, int, str, int]]:
    return [(each.target.host, each.target.port, each.target.subset, each.weight) for each in route.action.targets]


def test_a_service_nobody_routes_is_routed_to_itself(shop: Any) -> None:
    route = only(shop)
    assert (route.name, route.match) == ("default", HttpMatch())
    assert targets(route) == [(REVIEWS, 9080, "", 1)]
    assert route.action.retries == RetryPolicy()
    assert route.action.timeout == Timeout.off()


def test_a_service_without_http_ports_has_no_http_routes(shop: Any) -> None:
    assert ("bank", "ledger.bank.svc.cluster.local") not in shop.graph.table("routes")


def test_rules_become_routes_in_order_named_after_rule_and_match(shop: Any) -> None:
    shop.apply(
        virtual("""
    - {name: odd, match: [{name: a, uri: {exact: /a}}, {uri: {prefix: /b}}], route: [{destination: {host: ratings, port: {number: 9080}}}]}
    - route: [{destination: {host: reviews}}]
""")
    )
    first, second, third = routes(shop)
    assert [first.name, second.name, third.name] == ["odd.a", "odd.1", "vs-1"]
    assert first.match.path == TextMatch(MatchKind.EXACT, "/a")
    assert second.match.path == TextMatch(MatchKind.PREFIX, "/b")
    assert third.match == HttpMatch()
    assert second.source.path == "spec.http[0].match[1]"
    assert third.source.path == "spec.http[1]"
    assert shop.problems() == {}


def test_the_older_of_two_virtual_services_for_a_host_wins(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews')}]", "young", created="2") + virtual(f"[{to('reviews', timeout='1s')}]", "old"))
    assert only(shop).action.timeout == Timeout.of(timedelta(seconds=1))
    assert shop.problems()["HostConflict"].ref.name == "young"


def test_when_the_older_one_goes_the_younger_holds(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews')}]", "old") + virtual(f"[{to('reviews', timeout='1s')}]", "young", created="2"))
    shop.delete("VirtualService", "old")
    assert only(shop).source.ref.name == "young"
    assert shop.problems() == {}


def test_an_exact_host_goes_before_a_wildcard_and_a_longer_wildcard_before_a_shorter(shop: Any) -> None:
    shop.apply(
        virtual(f"[{to('reviews')}]", "wide", "*.cluster.local")
        + virtual(f"[{to('reviews')}]", "narrow", "*.shop.svc.cluster.local", created="2")
        + virtual(f"[{to('ratings')}]", "exact", "ratings", created="3")
    )
    assert only(shop).source.ref.name == "narrow"
    assert only(shop, "ratings").source.ref.name == "exact"
    assert shop.problems() == {}


def test_a_virtual_service_that_is_not_exported_holds_for_its_namespace(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews')}]", more='exportTo: ["."]'))
    own, others = shop.row("routes", "reviews").variants
    assert own.clients == Clients(namespaces=frozenset({"shop"}))
    assert own.routes(9080)[0].source.ref.name == "vs"
    assert (others.clients, others.routes(9080)[0].name) == (ANYONE, "default")


def test_one_bound_to_a_gateway_only_does_not_hold_in_the_mesh(shop: Any) -> None:
    shop.apply(virtual(f"[{to('ratings')}]", more="gateways: [edge]"))
    assert only(shop).name == "default"


def test_a_match_may_hold_for_a_gateway_only(shop: Any) -> None:
    shop.apply(
        virtual(
            f"[{to('reviews', match='[{gateways: [edge], uri: {prefix: /e}}, {gateways: [mesh], uri: {prefix: /m}}]')}]",
            more="gateways: [edge, mesh]",
        )
    )
    assert only(shop).match.path.value == "/m"


def test_a_match_on_a_port_holds_for_that_port(shop: Any) -> None:
    shop.apply(virtual(f"[{to('ratings', match='[{port: 9090}]')}]", hosts="ratings"))
    assert only(shop, "ratings", 9090).name == "vs-0.0"
    assert only(shop, "ratings", 9080).name == "default"


def test_rules_for_some_clients_leave_the_default_to_the_others(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews', match='[{sourceLabels: {app: web}}]')}]"))
    some, others = shop.row("routes", "reviews").variants
    web = Clients(labels=LabelSet.of({"app": "web"}))
    assert (some.clients, [each.clients for each in some.routes(9080)]) == (web, [web])
    assert (others.clients, others.routes(9080)[0].name) == (ANYONE, "default")


def test_rules_for_some_clients_stand_before_those_for_all(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews', match='[{sourceNamespace: bank}]')}, {to('reviews')}]"))
    first, second = routes(shop)
    assert (first.clients, second.clients) == (Clients(namespaces=frozenset({"bank"})), ANYONE)


def test_what_a_request_must_look_like(shop: Any) -> None:
    shop.apply(
        virtual(f"""
    - match:
      - uri: {{regex: "/a.*"}}
        method: {{exact: GET}}
        headers: {{x-b: {{prefix: p}}, x-a: {{}}, x-c: {{regex: "*"}}}}
        withoutHeaders: {{x-d: {{exact: never}}}}
        queryParams: {{q: {{exact: "1"}}}}
      {to("reviews").strip("{}")}
""")
    )
    match = only(shop).match
    assert match.path == TextMatch(MatchKind.REGEX, "/a.*")
    assert match.headers == (
        NamedMatch(":method", TextMatch(MatchKind.EXACT, "GET")),
        NamedMatch("x-a", TextMatch(MatchKind.PRESENT)),
        NamedMatch("x-b", TextMatch(MatchKind.PREFIX, "p")),
        NamedMatch("x-c", TextMatch(MatchKind.PRESENT)),
        NamedMatch("x-d", TextMatch(MatchKind.EXACT, "never"), invert=True),
    )
    assert match.query == (NamedMatch("q", TextMatch(MatchKind.EXACT, "1")),)


SPLIT = """
    - route:
      - {destination: {host: reviews, subset: v1}, weight: 90, headers: {request: {add: {x-v: one}}}}
      - {destination: {host: reviews, subset: v2}, weight: 10}
      - {destination: {host: reviews, subset: v3}, weight: 0}
"""


def test_weights_share_the_requests_and_zero_gets_none(shop: Any) -> None:
    shop.apply(virtual(SPLIT))
    route = only(shop)
    assert targets(route) == [(REVIEWS, 9080, "v1", 90), (REVIEWS, 9080, "v2", 10)]
    assert route.action.targets[0].request_headers == HeaderChange(add=(("x-v", "one"),))


def test_a_subset_that_no_rule_declares_is_a_problem_until_it_is_declared(shop: Any) -> None:
    shop.apply(virtual("[{route: [{destination: {host: reviews, subset: v1}}]}]"))
    problem = shop.problems()["SubsetNotFound"]
    assert (problem.ref.kind, problem.path) == ("VirtualService", "spec.http[0].route[0].destination.subset")
    assert problem.origin.file == "test.yaml"
    shop.apply("""
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: reviews}
    spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
    """)
    assert shop.problems() == {}
    assert targets(only(shop)) == [(REVIEWS, 9080, "v1", 1)]


def test_a_host_that_does_not_exist_is_a_problem_and_its_requests_fail(shop: Any) -> None:
    shop.apply(virtual(f"[{to('nowhere')}]"))
    problem = shop.problems()["HostNotFound"]
    assert problem.path == "spec.http[0].route[0].destination.host"
    assert only(shop).action.targets[0].target == Target("shop", "nowhere.shop.svc.cluster.local", 0)


def test_a_service_of_another_namespace_is_named_in_full(shop: Any) -> None:
    shop.apply(virtual("[{route: [{destination: {host: ledger.bank.svc.cluster.local}}]}]"))
    assert only(shop).action.targets[0].target == Target("bank", "ledger.bank.svc.cluster.local", 7000)


def test_a_port_may_be_left_out_if_there_is_but_one_or_the_same(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews')}]", "a", "ratings"))
    assert targets(only(shop, "ratings", 9090)) == [(REVIEWS, 9080, "", 1)]
    shop.apply(virtual(f"[{to('ratings')}]", "a", "ratings"))
    assert targets(only(shop, "ratings", 9090)) == [(RATINGS, 9090, "", 1)]
    assert shop.problems() == {}


def test_a_port_left_out_of_several_is_a_problem_where_it_is_not_the_same(shop: Any) -> None:
    shop.apply(virtual(f"[{to('ratings')}]", "a", "elsewhere.example.org"))
    assert shop.problems()["PortRequired"].path == "spec.http[0].route[0].destination"


def test_a_port_that_does_not_exist_is_a_problem(shop: Any) -> None:
    shop.apply(virtual("[{route: [{destination: {host: ratings, port: {number: 1}}}]}]"))
    assert shop.problems()["PortNotFound"].path == "spec.http[0].route[0].destination.port.number"


def test_a_rule_after_one_that_takes_everything_is_told_to_be_unreachable(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews', match='[{uri: {prefix: /}}]')}, {to('reviews', timeout='1s')}]"))
    assert only(shop).name == "vs-0.0"
    assert shop.problems()["UnreachableRule"].path == "spec.http[1]"


def test_timeouts_and_retries(shop: Any) -> None:
    shop.apply(
        virtual(
            f"[{to('reviews', timeout='1s', retries='{attempts: 3, perTryTimeout: 400ms, retryOn: &}')}]".replace(
                "&", "'5xx,reset,429'"
            )
        )
    )
    action = only(shop).action
    assert action.timeout == Timeout.of(timedelta(seconds=1))
    assert action.retries == RetryPolicy(3, timedelta(milliseconds=400), ("5xx", "reset"), (429,))


def test_no_attempts_are_no_retries(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews', retries='{attempts: 0}')}]"))
    assert only(shop).action.retries.attempts == 0


def test_the_mesh_may_have_retries_of_its_own(shop: Any) -> None:
    shop.apply('{defaultHttpRetryPolicy: {attempts: 7, retryOn: "gateway-error"}}')
    assert only(shop).action.retries == RetryPolicy(attempts=7, conditions=("gateway-error",))


def test_a_redirect(shop: Any) -> None:
    shop.apply(virtual("[{redirect: {uri: /new, authority: b, scheme: https, redirectCode: 302}}]"))
    assert only(shop).action == Redirect("b", "https", None, PathRewrite(full="/new"), 302)


def test_a_redirect_may_replace_the_matched_prefix(shop: Any) -> None:
    shop.apply(virtual("[{match: [{uri: {prefix: /old}}], redirect: {prefixRewrite: /new}}]"))
    assert only(shop).action.path == PathRewrite(prefix="/new")


@pytest.mark.parametrize(
    ("said", "port"),
    [
        ("port: 8443", 8443),
        ("scheme: https, derivePort: FROM_PROTOCOL_DEFAULT", 0),
        ("scheme: https, derivePort: FROM_PROTOCOL_DEFAULT, authority: b", None),
        ("derivePort: FROM_REQUEST_PORT", 9080),
        ("scheme: https, port: 443", None),
        ("port: 80", None),
        ("port: 443", 443),
    ],
)
def test_the_port_of_a_redirect(shop: Any, said: str, port: int | None) -> None:
    shop.apply(virtual(f"[{{redirect: {{{said}}}}}]"))
    assert only(shop).action.port == port


def test_the_header_changes_of_a_lone_destination_come_after_the_rules(shop: Any) -> None:
    inner = "headers: {request: {set: {x-a: '2', host: inner}, remove: [x-c]}}"
    outer = "headers: {request: {set: {x-a: '1', host: outer}, remove: [x-b]}}"
    shop.apply(virtual(f"[{{route: [{{destination: {{host: reviews}}, {inner}}}], {outer}}}]"))
    route = only(shop)
    assert route.request_headers == HeaderChange(
        set=(("host", "outer"), ("x-a", "1"), ("x-a", "2")), remove=("x-b", "x-c")
    )
    assert route.action.targets[0].request_headers == HeaderChange()


def test_the_header_changes_of_one_destination_of_several_are_its_own(shop: Any) -> None:
    headers = "headers: {request: {set: {x-a: '1'}}}"
    shop.apply(
        virtual(
            f"[{{route: [{{destination: {{host: reviews}}, weight: 1, {headers}}}, {{destination: {{host: a}}}}]}}]"
        )
    )
    route = only(shop)
    assert route.request_headers == HeaderChange()
    assert route.action.targets[0].request_headers == HeaderChange(set=(("x-a", "1"),))


def test_an_answer_by_the_proxy_itself(shop: Any) -> None:
    shop.apply(virtual("[{directResponse: {status: 418, body: {string: short}}}]"))
    assert only(shop).action == Respond(418, b"short")


def test_rewrites_and_headers(shop: Any) -> None:
    shop.apply(
        virtual(
            f"[{to('reviews', rewrite='{uri: /new, authority: other}', headers='{request: {set: {x: y}, remove: [z]}, response: {add: {a: b}}}')}]"
        )
    )
    route = only(shop)
    assert (route.action.path, route.action.authority) == (PathRewrite(prefix="/new"), "other")
    assert route.request_headers == HeaderChange(set=(("x", "y"),), remove=("z",))
    assert route.response_headers == HeaderChange(add=(("a", "b"),))


def test_the_authority_may_be_set_like_a_header_and_other_pseudo_headers_may_not(shop: Any) -> None:
    shop.apply(
        virtual(
            "[{route: [{destination: {host: reviews}}], headers: {request: {set: {Host: other, x: y, ':path': /z}}}}]"
        )
    )
    route = only(shop)
    assert (route.action.authority, route.request_headers.set) == ("", (("Host", "other"), ("x", "y")))


def test_faults(shop: Any) -> None:
    shop.apply(
        virtual(
            f"[{to('reviews', fault='{delay: {fixedDelay: 250ms, percentage: {value: 50}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}')}]"
        )
    )
    fault = only(shop).fault
    assert fault.delay == Delay(timedelta(milliseconds=250), 50.0)
    assert fault.abort == Abort(grpc=14, percent=1.0)


def test_a_fault_without_a_percentage_meets_nobody_and_that_is_told(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews', fault='{abort: {httpStatus: 503}}')}]"))
    assert only(shop).fault is None
    assert shop.problems()["FaultWithoutEffect"].path == "spec.http[0].fault.abort"


def test_mirrors(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews', mirror='{host: ratings}', mirrorPercentage='{value: 25}')}]"))
    (mirror,) = only(shop).action.mirrors
    assert (mirror.target, mirror.percent) == (Target("shop", RATINGS, 9080), 25.0)


def test_cross_origin_rules(shop: Any) -> None:
    shop.apply(
        virtual(
            f"[{to('reviews', corsPolicy='{allowOrigins: [{exact: https://a.example}], allowMethods: [GET], maxAge: 1h}')}]"
        )
    )
    cors = only(shop).cors
    assert (cors.origins, cors.methods) == ((TextMatch(MatchKind.EXACT, "https://a.example"),), ("GET",))
    assert cors.max_age == timedelta(hours=1)


def test_claims_of_a_token_cannot_be_matched_and_route_nothing(shop: Any) -> None:
    shop.apply(
        virtual(
            f"""
    - match: [{{headers: {{"@request.auth.claims.role": {{exact: a}}}}}}]
      route: [{{destination: {{host: ratings}}}}]
    - {to("reviews")}
"""
        )
    )
    assert targets(only(shop)) == [(REVIEWS, 9080, "", 1)]
    assert shop.problems()["NotSupported"].path == "spec.http[0].match[0]"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("@request.auth.claims.group.role", ("group", "role")),
        ("@request.auth.claims[example.org/group][role]", ("example.org/group", "role")),
        ("@request.auth.claims", ()),
        ("@request.auth.claims[a]b", ()),
        ("@request.auth.claims.a..b", ()),
        ("x-claims", ()),
    ],
)
def test_the_path_of_a_claim(name: str, path: tuple[str, ...]) -> None:
    assert claim_path(name) == path


def test_claims_are_no_headers() -> None:
    wanted = {"@request.auth.claims.role": StringMatch(exact="a"), "x": StringMatch(exact="b")}
    match = http_match(HttpMatchRequest(headers=wanted, without_headers={"@request.auth.claims.old": StringMatch()}))
    assert [header.name for header in match.headers] == ["x"]
    assert match.claims == (
        ClaimMatch(("role",), TextMatch(MatchKind.EXACT, "a")),
        ClaimMatch(("old",), TextMatch(MatchKind.PRESENT), invert=True),
    )


def test_rules_may_be_delegated(shop: Any) -> None:
    shop.apply(
        virtual(f"[{{match: [{{uri: {{prefix: /api}}}}], delegate: {{name: leaf}}, timeout: 1s}}, {to('reviews')}]")
        + f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: leaf}}
spec:
  http:
  - {to("reviews", match="[{uri: {exact: /api/a}}]")}
  - {to("reviews")}
"""
    )
    first, second, third = routes(shop)
    assert (first.match.path.value, second.match.path.value) == ("/api/a", "/api")
    assert first.source.ref.name == "leaf"
    assert first.action.timeout == Timeout.of(timedelta(seconds=1))
    assert third.match == HttpMatch()
    assert shop.problems() == {}


@pytest.mark.parametrize(
    ("root", "leaf", "holds"),
    [
        ("uri: {prefix: /a}", "uri: {prefix: /a/b}", True),
        ("uri: {prefix: /a/b}", "uri: {prefix: /a}", False),
        ("uri: {exact: /a}", "uri: {exact: /a}", True),
        ("uri: {exact: /a}", "uri: {prefix: /a}", False),
        ("uri: {regex: /a}", "uri: {regex: /a}", False),
        ("uri: {prefix: /a}", "uri: {prefix: /a}, ignoreUriCase: true", False),
        ("headers: {x: {prefix: a}}", "headers: {x: {exact: ab}}", True),
        ("headers: {x: {exact: a}}", "headers: {x: {exact: b}}", False),
        ("headers: {x: {exact: a}}", "queryParams: {x: {exact: b}}", True),
        ("port: 9080", "method: {exact: GET}", True),
        ("port: 9080", "port: 80", False),
        ("sourceNamespace: shop", "method: {exact: GET}", False),
        ("sourceLabels: {a: b}", "sourceLabels: {a: c}", False),
        ("gateways: [mesh]", "gateways: [front]", False),
    ],
)
def test_a_rule_of_a_delegate_holds_if_its_match_lies_within_the_delegating_rules(
    shop: Any, root: str, leaf: str, holds: bool
) -> None:
    shop.apply(
        virtual(f"[{{match: [{{{root}}}], delegate: {{name: leaf}}}}]")
        + f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: leaf}}
spec:
  http: [{to("reviews", match=f"[{{{leaf}}}]", name="inner")}]
"""
    )
    assert ("UnreachableRule" not in shop.problems()) == holds


def test_one_match_beyond_the_delegating_rule_undoes_the_rule(shop: Any) -> None:
    shop.apply(
        virtual("[{match: [{uri: {prefix: /api}}], delegate: {name: leaf}}]")
        + f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: leaf}}
spec:
  http: [{to("reviews", match="[{uri: {exact: /api/a}}, {uri: {exact: /other}}]", name="inner")}]
"""
    )
    assert [route.name for route in routes(shop)] == ["default"]
    assert shop.problems()["UnreachableRule"].ref.name == "leaf"


def test_a_delegate_that_is_missing_is_a_problem(shop: Any) -> None:
    shop.apply(virtual("[{delegate: {name: leaf}}]"))
    assert shop.problems()["DelegateNotFound"].path == "spec.http[0].delegate"


def test_hosts_of_no_service_are_routed_on_port_80(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews')}]", hosts="old.example.org"))
    (variant,) = shop.row("orphans", "old.example.org").variants
    assert targets(variant.routes(80)[0]) == [(REVIEWS, 9080, "", 1)]


def test_an_orphan_does_not_exist_for_those_to_whom_it_is_not_exported(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews')}]", hosts="old.example.org", more='exportTo: ["."]'))
    (variant,) = shop.row("orphans", "old.example.org").variants
    assert variant.clients == Clients(namespaces=frozenset({"shop"}))


def test_a_host_is_no_orphan_once_a_service_has_it(shop: Any) -> None:
    shop.apply(virtual(f"[{to('reviews')}]", hosts="new"))
    assert len(shop.graph.table("orphans")) == 1
    shop.apply("""
    apiVersion: v1
    kind: Service
    metadata: {name: new}
    spec: {ports: [{name: http, port: 80}]}
    """)
    assert len(shop.graph.table("orphans")) == 0
    assert only(shop, "new", 80).source.ref.name == "vs"


def test_the_oldest_of_several_for_an_orphan_wins(shop: Any) -> None:
    shop.apply(
        virtual(f"[{to('reviews')}]", "young", "x.example.org", created="2", ns="bank").replace(
            "host: reviews", f"host: {REVIEWS}"
        )
        + virtual(f"[{to('reviews')}]", "old", "x.example.org")
    )
    assert shop.graph.table("orphans").keys() == (("shop", "x.example.org"),)
    assert shop.problems()["HostConflict"].ref.name == "young"


def test_an_external_name_of_a_service_in_the_mesh_leads_to_that_service(shop: Any) -> None:
    shop.apply(f"""
    apiVersion: v1
    kind: Service
    metadata: {{name: critics}}
    spec: {{type: ExternalName, externalName: {REVIEWS}, ports: [{{name: http, port: 9080}}]}}
    """)
    assert targets(only(shop, "critics")) == [(REVIEWS, 9080, "", 1)]


def test_unrelated_changes_leave_routes_alone(shop: Any) -> None:
    before = shop.row("routes", "reviews")
    shop.apply(virtual(f"[{to('ratings')}]", hosts="ratings"))
    assert shop.row("routes", "reviews") is before
