from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from meltemi.base.durations import Timeout
from meltemi.envoy import cors, faults, routing
from meltemi.model.mesh import Mesh
from meltemi.model.routes import (
    Abort,
    Action,
    Cors,
    Delay,
    Fault,
    Forward,
    HeaderChange,
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
    Target,
    TextMatch,
    WeightedTarget,
)
from meltemi.protos import unpack
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import RedirectAction
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import Route as RouteMessage

HERE = Target("default", "here.example", 80)
THERE = Target("default", "there.example", 80, "v2")
TO_HERE = Forward((WeightedTarget(HERE),))


def made(action: Action = TO_HERE, match: HttpMatch = HttpMatch(), **settings: Any) -> RouteMessage:  # noqa: B008
    return routing.route(Route(name="r", match=match, action=action, **settings), Mesh(), "")


def path(kind: MatchKind, value: str, *, ignore_case: bool = False) -> HttpMatch:
    return HttpMatch(path=TextMatch(kind, value, ignore_case))


@pytest.mark.parametrize(
    ("match", "field", "value"),
    [
        (HttpMatch(), "prefix", "/"),
        (path(MatchKind.EXACT, "/a"), "path", "/a"),
        (path(MatchKind.PREFIX, "/a"), "prefix", "/a"),
        (path(MatchKind.SEGMENTS, "/a/"), "path_separated_prefix", "/a"),
        (path(MatchKind.SEGMENTS, "/"), "prefix", "/"),
    ],
)
def test_paths_are_matched_as_asked(match: HttpMatch, field: str, value: str) -> None:
    assert getattr(made(match=match).match, field) == value


def test_paths_may_be_matched_without_regard_to_case() -> None:
    message = made(match=path(MatchKind.PREFIX, "/a", ignore_case=True)).match
    assert message.HasField("case_sensitive")
    assert not message.case_sensitive.value
    assert made(match=path(MatchKind.REGEX, "/a+", ignore_case=True)).match.safe_regex.regex == "(?i)/a+"


def test_headers_and_query_parameters_are_matched() -> None:
    match = HttpMatch(
        headers=(
            NamedMatch("x-user", TextMatch(MatchKind.EXACT, "jason")),
            NamedMatch(":method", TextMatch(MatchKind.EXACT, "GET")),
            NamedMatch("x-any", TextMatch(MatchKind.PRESENT)),
        ),
        query=(NamedMatch("q", TextMatch(MatchKind.PREFIX, "a")),),
    )
    message = made(match=match).match
    assert [header.name for header in message.headers] == ["x-user", ":method", "x-any"]
    assert message.headers[0].string_match.exact == "jason"
    assert message.headers[2].present_match
    assert message.query_parameters[0].string_match.prefix == "a"


def test_a_header_that_must_not_match_may_be_missing() -> None:
    match = HttpMatch(headers=(NamedMatch("x", TextMatch(MatchKind.EXACT, "1"), invert=True),))
    (header,) = made(match=match).match.headers
    assert header.invert_match
    assert header.treat_missing_header_as_empty


def test_requests_are_split_by_weight_and_a_share_of_nothing_is_left_out() -> None:
    action = Forward((WeightedTarget(HERE, 75), WeightedTarget(THERE, 25), WeightedTarget(HERE, 0)))
    shares = made(action).route.weighted_clusters.clusters
    assert [(share.name, share.weight.value) for share in shares] == [
        ("outbound|80||here.example", 75),
        ("outbound|80|v2|there.example", 25),
    ]


def test_headers_of_one_destination_are_changed_for_it_alone() -> None:
    action = Forward(
        (WeightedTarget(HERE, 1, request_headers=HeaderChange(set=(("x-a", "1"),))), WeightedTarget(THERE))
    )
    first, second = made(action).route.weighted_clusters.clusters
    assert first.request_headers_to_add[0].header.key == "x-a"
    assert not second.request_headers_to_add


def test_a_destination_that_does_not_exist_keeps_its_host_and_has_no_cluster() -> None:
    action = Forward((WeightedTarget(Target("default", "gone.example", 0)),))
    assert made(action).route.cluster == "outbound|0||gone.example"


def test_there_is_no_timeout_unless_asked_for() -> None:
    unset, off = made(TO_HERE).route, made(Forward(TO_HERE.targets, timeout=Timeout.default())).route
    assert unset.HasField("timeout")
    assert unset.timeout.ToTimedelta() == timedelta()
    assert off.timeout == unset.timeout
    set_ = made(Forward(TO_HERE.targets, timeout=Timeout.of(timedelta(seconds=5)))).route
    assert set_.timeout.seconds == 5
    assert not set_.HasField("max_stream_duration")


def test_what_cannot_have_reached_the_application_is_retried_twice() -> None:
    policy = made(TO_HERE).route.retry_policy
    assert policy.retry_on == "connect-failure,refused-stream,unavailable,cancelled"
    assert policy.num_retries.value == 2
    assert policy.host_selection_retry_max_attempts == 5


def test_retries_are_as_asked_for() -> None:
    retries = RetryPolicy(
        attempts=3,
        per_try_timeout=timedelta(seconds=2),
        conditions=("5xx",),
        status_codes=(429,),
        backoff=timedelta(milliseconds=50),
        other_localities=True,
    )
    policy = made(Forward(TO_HERE.targets, retries=retries)).route.retry_policy
    assert policy.retry_on == "5xx,retriable-status-codes"
    assert list(policy.retriable_status_codes) == [429]
    assert policy.per_try_timeout.seconds == 2
    assert policy.retry_back_off.base_interval.ToTimedelta() == timedelta(milliseconds=50)
    assert policy.retry_priority.name == "envoy.retry_priorities.previous_priorities"


def test_no_attempts_means_no_retries() -> None:
    assert not made(Forward(TO_HERE.targets, retries=RetryPolicy(attempts=0))).route.HasField("retry_policy")


def test_a_prefix_is_rewritten() -> None:
    message = made(Forward(TO_HERE.targets, path=PathRewrite(prefix="/new")), path(MatchKind.PREFIX, "/old"))
    assert message.route.prefix_rewrite == "/new"


def test_rewriting_segments_to_the_root_leaves_no_double_slash() -> None:
    message = made(Forward(TO_HERE.targets, path=PathRewrite(prefix="/")), path(MatchKind.SEGMENTS, "/a.b"))
    assert message.route.regex_rewrite.pattern.regex == r"^/a\.b(/?)(.*)"
    assert message.route.regex_rewrite.substitution == r"/\2"


def test_a_whole_path_is_rewritten_letter_for_letter() -> None:
    rewrite = made(Forward(TO_HERE.targets, path=PathRewrite(full=r"/a\1"))).route.regex_rewrite
    assert rewrite.pattern.regex == ".*"
    assert rewrite.substitution == r"/a\\1"


def test_the_authority_is_rewritten_and_the_old_one_told() -> None:
    message = made(Forward(TO_HERE.targets, authority="other.example")).route
    assert message.host_rewrite_literal == "other.example"
    assert message.append_x_forwarded_host


def test_setting_the_authority_as_a_header_rewrites_it() -> None:
    message = made(request_headers=HeaderChange(set=((":authority", "other.example"), ("x-a", "1"))))
    assert message.route.host_rewrite_literal == "other.example"
    assert [option.header.key for option in message.request_headers_to_add] == ["x-a"]


def test_requests_are_mirrored_in_part() -> None:
    (mirror,) = made(Forward(TO_HERE.targets, mirrors=(Mirror(THERE, 12.5),))).route.request_mirror_policies
    assert mirror.cluster == "outbound|80|v2|there.example"
    assert mirror.runtime_fraction.default_value.numerator == 125_000


def test_a_redirect_goes_where_it_says() -> None:
    message = made(Redirect(authority="new.example", scheme="https", port=0, path=PathRewrite(full="/x"), status=308))
    assert message.redirect.host_redirect == "new.example"
    assert message.redirect.scheme_redirect == "https"
    assert message.redirect.port_redirect == 443
    assert message.redirect.path_redirect == "/x"
    assert message.redirect.response_code == RedirectAction.PERMANENT_REDIRECT


def test_the_proxy_answers_by_itself() -> None:
    message = made(Respond(418, b"teapot"))
    assert message.direct_response.status == 418
    assert message.direct_response.body.inline_bytes == b"teapot"


def test_requests_pass_to_where_the_client_was_going() -> None:
    assert made(Passthrough()).route.cluster == "PassthroughCluster"


def test_faults_enable_the_filter_for_their_route() -> None:
    fault = Fault(Delay(timedelta(seconds=3), 50), Abort(status=503, percent=0.1))
    message: Any = unpack(made(fault=fault).typed_per_filter_config[faults.NAME])
    assert message.delay.fixed_delay.seconds == 3
    assert message.delay.percentage.numerator == 500_000
    assert message.abort.http_status == 503
    assert message.abort.percentage.numerator == 1_000


def test_a_fault_may_be_a_status_of_grpc() -> None:
    message: Any = unpack(made(fault=Fault(abort=Abort(grpc=14))).typed_per_filter_config[faults.NAME])
    assert message.abort.grpc_status == 14


def test_cross_origin_rules_enable_the_filter_for_their_route() -> None:
    rules = Cors(
        origins=(TextMatch(MatchKind.EXACT, "https://a.example"),),
        methods=("GET", "POST"),
        max_age=timedelta(hours=24),
        credentials=True,
    )
    message: Any = unpack(made(cors=rules).typed_per_filter_config[cors.NAME])
    assert message.allow_origin_string_match[0].exact == "https://a.example"
    assert message.allow_methods == "GET,POST"
    assert message.max_age == "86400"
    assert message.allow_credentials.value
