"""Which connections of a pod go through its sidecar: from Istio's annotations to a list of packet rules.

The rules are Istio's (its four chains and their order), with one change: one uid is mapped on a laptop, so Envoy's own
connections are told apart by a socket mark instead of Envoy's uid. Only TCP is captured, and IPv4; and what the pod asks
its own resolvers, over UDP too, where the agent answers its DNS. Everything here is a pure function; `nftables` writes the
rules into the kernel.

Invariant: a connection that Envoy makes is never sent back to the outbound listener, and the ports on which Envoy and
the agent serve the mesh itself are never captured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network

import msgspec

from meltemi.api.core import Pod
from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Ref
from meltemi.inject.policy import Template, injected
from meltemi.resolve.allocation import IPV4

ENVOY_MARK = 1337
OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
NAMES_PORT = 15053
MESH_PORTS = (15008, 15020, 15021, 15090)

PREROUTING, OUTPUT = "prerouting", "output"
INBOUND, REDIRECT, IN_REDIRECT, OUTBOUND = "istio-inbound", "istio-redirect", "istio-in-redirect", "istio-output"

_DNS_PORT = 53
_PREFIX = "traffic.sidecar.istio.io/"
_ENVOY_AS_CLIENT = IPv4Network("127.0.0.6/32")
_LOCALHOST = IPv4Network("127.0.0.1/32")
_EVERYWHERE = IPv4Network("0.0.0.0/0")


class CaptureSettings(msgspec.Struct, frozen=True):
    """What a pod asked for. None for ports or ranges to include means all ("*")."""

    include_inbound_ports: tuple[int, ...] | None = None
    exclude_inbound_ports: tuple[int, ...] = ()
    include_outbound_ports: tuple[int, ...] = ()
    exclude_outbound_ports: tuple[int, ...] = ()
    include_outbound_ranges: tuple[IPv4Network, ...] | None = None
    exclude_outbound_ranges: tuple[IPv4Network, ...] = ()


class Match(msgspec.Struct, frozen=True):
    """The connections that a rule is about: over TCP, or over UDP. What is not said does not matter."""

    udp: bool = False
    output_loopback: bool = False
    source: IPv4Network | None = None
    destination: IPv4Network | None = None
    destination_is_not: IPv4Network | None = None
    port: int | None = None
    port_is_not: int | None = None
    marked: bool | None = None


class Return(msgspec.Struct, frozen=True):
    """Leave this chain; at the end of the last one the connection goes where it was going."""


class Jump(msgspec.Struct, frozen=True):
    """Continue in another chain."""

    chain: str


class Redirect(msgspec.Struct, frozen=True):
    """Hand the connection to a port of this machine; SO_ORIGINAL_DST tells there where it was going."""

    port: int


Verdict = Return | Jump | Redirect


class Rule(msgspec.Struct, frozen=True):
    """One rule of one chain; the order of a list of rules is the order in which the kernel tries them."""

    chain: str
    match: Match
    verdict: Verdict


def capture_settings(annotations: Mapping[str, str], pod: Ref) -> tuple[CaptureSettings | None, tuple[Problem, ...]]:
    """What a pod's annotations ask for, or None for no capture at all; and what is wrong with them.

    An annotation that cannot be read is left out of effect, with a Problem, as if it were not there.
    """
    reader = _Reader(annotations, pod)
    mode = annotations.get("sidecar.istio.io/interceptionMode", "REDIRECT")
    if mode == "NONE":
        return None, ()
    if mode != "REDIRECT":
        reader.complain(
            "sidecar.istio.io/interceptionMode",
            f"interception mode {mode} is not available on one machine; REDIRECT is used",
            "remove the annotation, or set it to REDIRECT or NONE",
        )
    settings = CaptureSettings(
        include_inbound_ports=reader.ports_or_all("includeInboundPorts"),
        exclude_inbound_ports=reader.ports("excludeInboundPorts"),
        include_outbound_ports=reader.ports("includeOutboundPorts"),
        exclude_outbound_ports=reader.ports("excludeOutboundPorts"),
        include_outbound_ranges=reader.ranges_or_all("includeOutboundIPRanges"),
        exclude_outbound_ranges=reader.ranges("excludeOutboundIPRanges"),
    )
    return settings, tuple(reader.problems)


def capture_rules(settings: CaptureSettings, resolvers: Iterable[IPv4Address] = ()) -> tuple[Rule, ...]:
    """The rules of a pod's network namespace, chain by chain. What it asks these resolvers, the agent answers."""
    tcp = Match()
    return (
        Rule(PREROUTING, tcp, Jump(INBOUND)),
        *_names(resolvers),
        Rule(OUTPUT, tcp, Jump(OUTBOUND)),
        Rule(REDIRECT, tcp, Redirect(OUTBOUND_PORT)),
        Rule(IN_REDIRECT, tcp, Redirect(INBOUND_PORT)),
        *_inbound(settings),
        *_outbound(settings),
    )


def _names(resolvers: Iterable[IPv4Address]) -> Iterator[Rule]:
    for resolver in resolvers:
        for udp in (True, False):
            asked = Match(udp=udp, destination=IPv4Network(resolver), port=_DNS_PORT, marked=False)
            yield Rule(OUTPUT, asked, Redirect(NAMES_PORT))


def _inbound(settings: CaptureSettings) -> Iterator[Rule]:
    for port in MESH_PORTS:
        yield Rule(INBOUND, Match(port=port), Return())
    if settings.include_inbound_ports is None:
        for port in settings.exclude_inbound_ports:
            yield Rule(INBOUND, Match(port=port), Return())
        yield Rule(INBOUND, Match(), Jump(IN_REDIRECT))
        return
    for port in settings.include_inbound_ports:
        yield Rule(INBOUND, Match(port=port), Jump(IN_REDIRECT))


def _outbound(settings: CaptureSettings) -> Iterator[Rule]:
    # Envoy hands a request to the application: from 127.0.0.6, so that it is known here.
    yield Rule(OUTBOUND, Match(output_loopback=True, source=_ENVOY_AS_CLIENT), Return())
    # Envoy calls its own pod by its address, because the application called a service that it is part of itself: such
    # a request enters by the inbound listener, as it would from another pod.
    own_pod = Match(output_loopback=True, destination_is_not=_LOCALHOST, port_is_not=MESH_PORTS[0], marked=True)
    yield Rule(OUTBOUND, own_pod, Jump(IN_REDIRECT))
    # The application calls its own pod by its address or by localhost: that stays between the two.
    yield Rule(OUTBOUND, Match(output_loopback=True, marked=False), Return())
    yield Rule(OUTBOUND, Match(marked=True), Return())
    yield Rule(OUTBOUND, Match(destination=_LOCALHOST), Return())
    for port in settings.exclude_outbound_ports:
        yield Rule(OUTBOUND, Match(port=port), Return())
    for port in settings.include_outbound_ports:
        yield Rule(OUTBOUND, Match(port=port), Jump(REDIRECT))
    for network in settings.exclude_outbound_ranges:
        yield Rule(OUTBOUND, Match(destination=network), Return())
    if settings.include_outbound_ranges is None:
        yield Rule(OUTBOUND, Match(), Jump(REDIRECT))
        return
    for network in settings.include_outbound_ranges:
        yield Rule(OUTBOUND, Match(destination=network), Jump(REDIRECT))


def reaches_given_addresses(pod: Pod) -> bool:
    """Whether a pod's connections to the addresses that the mesh gives hosts are captured, whatever is said of ports."""
    settings, _ = capture_settings(pod.annotations, pod.ref)
    if settings is None or injected(pod.annotations) is not Template.SIDECAR:
        return False
    included = settings.include_outbound_ranges
    return (included is None or any(IPV4.subnet_of(each) for each in included)) and not any(
        IPV4.overlaps(each) for each in settings.exclude_outbound_ranges
    )


class _Reader:
    """Reads annotations and gathers what is wrong with them."""

    def __init__(self, annotations: Mapping[str, str], pod: Ref) -> None:
        self._annotations = annotations
        self._pod = pod
        self.problems: list[Problem] = []

    def complain(self, annotation: str, message: str, hint: str) -> None:
        self.problems.append(
            Problem(
                ref=self._pod,
                path=f"metadata.annotations[{annotation}]",
                message=message,
                hint=hint,
                code="InvalidAnnotation",
                severity=Severity.WARNING,
            )
        )

    def ports_or_all(self, name: str) -> tuple[int, ...] | None:
        text = self._annotations.get(_PREFIX + name, "*").strip()
        return None if text == "*" else self.ports(name)

    def ranges_or_all(self, name: str) -> tuple[IPv4Network, ...] | None:
        text = self._annotations.get(_PREFIX + name, "*").strip()
        return None if text == "*" else self.ranges(name)

    def ports(self, name: str) -> tuple[int, ...]:
        found = []
        for part in self._parts(name):
            if part.isdecimal() and 0 < int(part) < 65536:
                found.append(int(part))
            else:
                self.complain(_PREFIX + name, f"{part!r} is not a port", "write port numbers separated by commas")
        return tuple(found)

    def ranges(self, name: str) -> tuple[IPv4Network, ...]:
        found = []
        for part in self._parts(name):
            try:
                found.append(IPv4Network(part, strict=False))
            except ValueError:
                hint = "write ranges such as 10.1.0.0/16, separated by commas"
                self.complain(_PREFIX + name, f"{part!r} is not a range of IPv4 addresses", hint)
        return tuple(found)

    def _parts(self, name: str) -> list[str]:
        text = self._annotations.get(_PREFIX + name, "")
        return [part.strip() for part in text.split(",") if part.strip()]
