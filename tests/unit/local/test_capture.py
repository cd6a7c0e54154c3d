"""From a pod's annotations to packet rules, decided as the kernel would."""

from __future__ import annotations

from ipaddress import IPv4Address

import msgspec
import pytest

from meltemi.base.refs import Ref
from meltemi.local.capture import (
    INBOUND_PORT,
    NAMES_PORT,
    OUTBOUND_PORT,
    OUTPUT,
    PREROUTING,
    CaptureSettings,
    Jump,
    Match,
    Redirect,
    Return,
    Rule,
    capture_rules,
    capture_settings,
)

POD = Ref("Pod", "default", "shop")
SELF = "10.244.1.7"


class Call(msgspec.Struct, frozen=True):
    """A connection: its ends, and whether it leaves by the loopback link, carries Envoy's mark and is one of UDP."""

    to: str
    port: int = 80
    source: str = SELF
    loopback: bool = False
    marked: bool = False
    udp: bool = False


def holds(match: Match, call: Call) -> bool:
    """Whether a rule is about a connection."""
    source, destination = IPv4Address(call.source), IPv4Address(call.to)
    return (
        match.udp == call.udp
        and (not match.output_loopback or call.loopback)
        and (match.source is None or source in match.source)
        and (match.destination is None or destination in match.destination)
        and (match.destination_is_not is None or destination not in match.destination_is_not)
        and (match.port is None or call.port == match.port)
        and (match.port_is_not is None or call.port != match.port_is_not)
        and (match.marked is None or call.marked == match.marked)
    )


def decide(rules: tuple[Rule, ...], chain: str, call: Call) -> int | None:
    """The port to which a connection is redirected, or None if it goes its way."""
    for rule in rules:
        if rule.chain != chain or not holds(rule.match, call):
            continue
        match rule.verdict:
            case Redirect(port):
                return port
            case Return():
                return None
            case Jump(other):
                port_or_none = decide(rules, other, call)
                if port_or_none is not None:
                    return port_or_none
    return None


def settings(**annotations: str) -> CaptureSettings:
    """The settings for annotations given by their last part."""
    given = {f"traffic.sidecar.istio.io/{name}": value for name, value in annotations.items()}
    found, problems = capture_settings(given, POD)
    assert found is not None
    assert not problems
    return found


def outbound(call: Call, **annotations: str) -> int | None:
    """Where a connection that leaves the pod goes."""
    return decide(capture_rules(settings(**annotations)), OUTPUT, call)


def inbound(port: int, **annotations: str) -> int | None:
    """Where a connection that enters the pod goes."""
    return decide(capture_rules(settings(**annotations)), PREROUTING, Call(SELF, port, source="10.244.1.9"))


def test_what_the_application_calls_goes_to_the_outbound_listener() -> None:
    assert outbound(Call("10.96.0.20")) == OUTBOUND_PORT
    assert outbound(Call("192.0.2.1", 443)) == OUTBOUND_PORT


def test_what_envoy_calls_goes_its_way() -> None:
    assert outbound(Call("10.96.0.20", marked=True)) is None


def asked(call: Call) -> int | None:
    """Where a connection goes that leaves a pod whose DNS the agent answers."""
    return decide(capture_rules(settings(), [IPv4Address("10.96.0.10")]), OUTPUT, call)


@pytest.mark.parametrize("udp", [True, False])
def test_what_the_application_asks_its_resolver_goes_to_the_agent_if_it_is_to(udp: bool) -> None:
    query = Call("10.96.0.10", 53, udp=udp)
    assert asked(query) == NAMES_PORT
    assert outbound(query) == (None if udp else OUTBOUND_PORT)
    assert asked(msgspec.structs.replace(query, marked=True)) is None


def test_other_resolvers_and_other_services_of_the_resolver_are_not_the_agents_business() -> None:
    assert asked(Call("192.0.2.53", 53, udp=True)) is None
    assert asked(Call("192.0.2.53", 53)) == OUTBOUND_PORT
    assert asked(Call("10.96.0.10", 80, udp=True)) is None
    assert asked(Call("10.96.0.10", 5353)) == OUTBOUND_PORT


def test_what_others_call_goes_to_the_inbound_listener() -> None:
    assert inbound(8080) == INBOUND_PORT
    assert inbound(15001) == INBOUND_PORT


@pytest.mark.parametrize("port", [15008, 15020, 15021, 15090])
def test_the_ports_of_the_mesh_are_not_captured(port: int) -> None:
    assert inbound(port) is None


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(Call("127.0.0.1", 8080, source="127.0.0.6", loopback=True), None, id="Envoy to the application"),
        pytest.param(Call(SELF, 8080, source="127.0.0.6", loopback=True), None, id="Envoy to the pod's address"),
        pytest.param(Call(SELF, 8080, loopback=True, marked=True), INBOUND_PORT, id="Envoy to its own service"),
        pytest.param(Call(SELF, 15008, loopback=True, marked=True), None, id="Envoy to its own tunnel"),
        pytest.param(Call(SELF, 8080, loopback=True), None, id="the application to itself by address"),
        pytest.param(Call("127.0.0.1", 8080, loopback=True), None, id="the application to itself by localhost"),
        pytest.param(Call("127.0.0.1", 8080, loopback=True, marked=True), None, id="Envoy to localhost"),
    ],
)
def test_loopback_follows_istios_rules(call: Call, expected: int | None) -> None:
    assert outbound(call) == expected


def test_inbound_ports_can_be_left_out_or_named() -> None:
    assert inbound(7000, excludeInboundPorts="7000, 7001") is None
    assert inbound(7002, excludeInboundPorts="7000,7001") == INBOUND_PORT
    assert inbound(7000, includeInboundPorts="7000") == INBOUND_PORT
    assert inbound(7001, includeInboundPorts="7000") is None
    assert inbound(7000, includeInboundPorts="") is None


def test_outbound_ports_and_ranges_can_be_left_out_or_named() -> None:
    assert outbound(Call("10.1.2.3", 5432), excludeOutboundPorts="5432") is None
    assert outbound(Call("10.1.2.3"), excludeOutboundIPRanges="10.1.0.0/16") is None
    assert outbound(Call("10.2.2.3"), excludeOutboundIPRanges="10.1.0.0/16") == OUTBOUND_PORT
    assert outbound(Call("10.2.2.3"), includeOutboundIPRanges="10.1.0.0/16") is None
    assert outbound(Call("10.1.2.3"), includeOutboundIPRanges="10.1.0.0/16") == OUTBOUND_PORT
    assert outbound(Call("10.2.2.3", 99), includeOutboundIPRanges="", includeOutboundPorts="99") == OUTBOUND_PORT


def test_interception_mode_none_captures_nothing() -> None:
    assert capture_settings({"sidecar.istio.io/interceptionMode": "NONE"}, POD) == (None, ())


def test_an_annotation_that_cannot_be_read_is_a_problem_and_has_no_effect() -> None:
    annotations = {
        "traffic.sidecar.istio.io/excludeOutboundPorts": "80,http,99999",
        "traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.0.0.0/33",
        "sidecar.istio.io/interceptionMode": "TPROXY",
    }
    found, problems = capture_settings(annotations, POD)
    assert found == CaptureSettings(exclude_outbound_ports=(80,))
    assert [problem.message for problem in problems] == [
        "interception mode TPROXY is not available on one machine; REDIRECT is used",
        "'http' is not a port",
        "'99999' is not a port",
        "'10.0.0.0/33' is not a range of IPv4 addresses",
    ]
    assert all(problem.path.startswith("metadata.annotations[") and problem.hint for problem in problems)
