from __future__ import annotations

from meltemi.base.labels import LabelSet
from meltemi.base.refs import Ref
from meltemi.envoy import audiences
from meltemi.model.clients import ANYONE, LET_THROUGH, REFUSED, Audience, Clients, ProxyKind, Scope
from meltemi.model.mesh import Mesh
from meltemi.model.routes import (
    Forward,
    HostRoutes,
    HttpMatch,
    MatchKind,
    Respond,
    Route,
    RouteVariant,
    Source,
    Target,
    TextMatch,
    WeightedTarget,
)
from meltemi.testing.models import GATEWAY, SIDECAR, Scene, service

REVIEWS = service("reviews", http=80)
NAME = "80/reviews.default.svc.cluster.local:80"
ELSEWHERE = Audience("shop", ProxyKind.SIDECAR, "shop")
TO_REVIEWS = Forward((WeightedTarget(Target("default", REVIEWS.host, 80)),))


def routed(*routes: Route, clients: Clients = ANYONE) -> HostRoutes:
    return HostRoutes("default", REVIEWS.host, (RouteVariant(clients, ((80, routes),)),))


def answer(name: str, *, clients: Clients = ANYONE, path: str = "") -> Route:
    match = HttpMatch(path=TextMatch(MatchKind.PREFIX, path)) if path else HttpMatch()
    return Route(name=name, match=match, action=Respond(200), clients=clients)


def test_a_service_is_called_by_all_its_names_and_its_address() -> None:
    assert list(Scene(services=[REVIEWS]).hosts(ELSEWHERE)[NAME].domains) == [
        "reviews.default.svc.cluster.local",
        "reviews.default.svc.cluster.local.",
        "reviews.default",
        "reviews.default.svc",
        "10.96.0.10",
    ]


def test_only_clients_of_its_namespace_call_it_by_its_name_alone() -> None:
    scene = Scene(services=[REVIEWS])
    assert "reviews" in scene.hosts(SIDECAR)[NAME].domains
    assert "reviews" not in scene.hosts(ELSEWHERE)[NAME].domains


def test_the_virtual_host_is_called_as_its_resource_because_envoy_removes_it_by_that_name() -> None:
    assert Scene(services=[REVIEWS]).hosts()[NAME].name == NAME


def test_gateways_do_not_get_the_virtual_hosts_of_sidecars() -> None:
    assert not Scene(services=[REVIEWS]).hosts(GATEWAY)


def test_without_routes_all_requests_go_to_the_service() -> None:
    (route,) = Scene(services=[REVIEWS]).hosts()[NAME].routes
    assert route.name == "default"
    assert route.match.prefix == "/"
    assert route.route.cluster == "outbound|80||reviews.default.svc.cluster.local"
    assert route.decorator.operation == "reviews.default.svc.cluster.local:80/*"


def test_an_address_of_two_services_belongs_to_the_older() -> None:
    older = service("older", http=80, created="2025-01-01T00:00:00Z")
    hosts = Scene(services=[REVIEWS, older]).hosts()
    assert "10.96.0.10" in hosts["80/older.default.svc.cluster.local:80"].domains
    assert "10.96.0.10" not in hosts[NAME].domains


def test_an_address_may_be_shared_on_different_ports() -> None:
    other = service("other", http=8080, created="2025-01-01T00:00:00Z")
    assert "10.96.0.10" in Scene(services=[REVIEWS, other]).hosts()[NAME].domains


def test_a_host_that_somebody_wrote_goes_before_a_short_name() -> None:
    entry = service("entry", "lab", http=80, host="reviews.default", addresses=())
    hosts = Scene(services=[REVIEWS, entry]).hosts()
    assert "reviews.default" in hosts["80/reviews.default:80"].domains
    assert "reviews.default" not in hosts[NAME].domains


def test_no_domain_stands_in_two_virtual_hosts_of_a_port() -> None:
    services = [
        REVIEWS,
        service("a", "lab", http=80, host="reviews.default"),
        service("b", "lab", http=80, host="*.zk.default.svc.cluster.local", addresses=()),
        service("c", "lab", http=80, host="reviews", addresses=()),
        service("zk", http=80, headless=True),
    ]
    for client in (SIDECAR, ELSEWHERE):
        hosts = Scene(services=services).hosts(client)
        domains = [domain for host in hosts.values() for domain in host.domains]
        assert sorted(domains) == sorted(set(domains))


def test_the_pods_of_a_headless_service_are_called_by_names_below_it() -> None:
    host = Scene(services=[service("zk", http=80, headless=True)]).hosts()["80/zk.default.svc.cluster.local:80"]
    assert "*.zk.default.svc.cluster.local" in host.domains
    assert host.request_headers_to_add[0].header.value == "%DOWNSTREAM_LOCAL_ADDRESS%"


def test_a_wildcard_host_has_no_other_names() -> None:
    entry = service("any", http=80, host="*.example.org", external=True)
    assert list(Scene(services=[entry]).hosts()["80/*.example.org:80"].domains) == ["*.example.org"]


def test_routes_for_some_clients_reach_only_those() -> None:
    front = Clients(labels=LabelSet.of({"app": "front"}))
    scene = Scene(services=[REVIEWS], routes=[routed(answer("special", clients=front), answer("rest"))])
    some = Audience("front", ProxyKind.SIDECAR, "default", LabelSet.of({"app": "front"}))
    assert [route.name for route in scene.hosts(some)[NAME].routes] == ["special"]
    assert [route.name for route in scene.hosts(ELSEWHERE)[NAME].routes] == ["rest"]
    assert [route.name for route in scene.hosts(SIDECAR)[NAME].routes] == ["rest"]


def test_routes_behind_one_that_fits_all_are_left_out() -> None:
    scene = Scene(services=[REVIEWS], routes=[routed(answer("all"), answer("never", path="/x"))])
    assert [route.name for route in scene.hosts()[NAME].routes] == ["all"]


def test_too_many_groups_of_clients_are_reported() -> None:
    source = Source(Ref("VirtualService", "default", "many"), "spec.http[6]")
    groups = [
        Route(
            name=f"r{number}",
            match=HttpMatch(),
            action=Respond(200),
            clients=Clients(labels=LabelSet.of({"app": f"a{number}"})),
            source=source,
        )
        for number in range(audiences.MOST_PREDICATES + 1)
    ]
    (problem,) = Scene(services=[REVIEWS], routes=[routed(*groups)]).problems()
    assert problem.code == "TooManyClientGroups"
    assert problem.path == "spec.http[6]"


def test_a_host_that_no_service_has_is_routed_on_port_80() -> None:
    orphan = HostRoutes("default", "api.example.org", (RouteVariant(ANYONE, ((80, (answer("all"),)),)),))
    hosts = Scene(orphans=[orphan]).hosts()
    assert list(hosts["80/api.example.org:80"].domains) == ["api.example.org"]


def test_a_host_that_is_another_name_of_a_service_is_reported_and_not_claimed() -> None:
    source = Source(Ref("VirtualService", "default", "short"))
    orphan = HostRoutes("default", "reviews.default", (RouteVariant(ANYONE, ((80, (answer("all"),)),), (source,)),))
    scene = Scene(services=[REVIEWS], orphans=[orphan])
    assert [problem.code for problem in scene.problems()] == ["HostConflict"]
    assert "80/reviews.default:80" not in scene.hosts()


def test_a_route_configuration_is_a_shell_with_the_catch_all() -> None:
    shell = Scene(services=[REVIEWS]).configurations()["80"]
    assert shell.vhds.config_source.HasField("ads")
    assert shell.ignore_port_in_host_matching
    (catch_all,) = shell.virtual_hosts
    assert catch_all.name == "allow_any"
    assert list(catch_all.domains) == ["*"]
    assert catch_all.routes[0].route.cluster == "PassthroughCluster"


def test_unknown_hosts_are_refused_where_only_the_registry_may_be_called() -> None:
    shell = Scene(services=[REVIEWS], mesh=Mesh(outbound=REFUSED)).configurations()["80"]
    assert shell.virtual_hosts[0].name == "block_all"
    assert shell.virtual_hosts[0].routes[0].direct_response.status == 502


def test_a_sidecar_resource_may_differ_from_the_mesh_on_unknown_hosts() -> None:
    strict = Audience("strict", ProxyKind.SIDECAR, "default", scope=Scope(outbound=REFUSED))
    lax = Audience("lax", ProxyKind.SIDECAR, "default", scope=Scope(outbound=LET_THROUGH))
    scene = Scene(services=[REVIEWS])
    assert scene.configurations(strict)["80"].virtual_hosts[0].name == "block_all"
    assert scene.configurations(lax)["80"].virtual_hosts[0].name == "allow_any"
    closed = Scene(services=[REVIEWS], mesh=Mesh(outbound=REFUSED))
    assert closed.configurations(lax)["80"].virtual_hosts[0].name == "allow_any"


def test_a_sniffed_port_has_routes_of_its_own_for_any_host() -> None:
    found = Scene(services=[service("auto", auto=9000)]).configurations()
    (host,) = found["auto.default.svc.cluster.local:9000"].virtual_hosts
    assert host.name == "auto.default.svc.cluster.local:9000"
    assert list(host.domains) == ["*"]


def test_what_a_resource_was_made_of_is_known() -> None:
    source = Source(Ref("VirtualService", "default", "v"), "spec.http[0]")
    route = Route(name="r", match=HttpMatch(), action=TO_REVIEWS, source=source)
    scene = Scene(services=[REVIEWS], routes=[routed(route)])
    (resource,) = [each for each in scene.resources() if each.name == NAME]
    assert resource.sources == (Source(REVIEWS.ref), source)
