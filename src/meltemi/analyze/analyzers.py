"""THE LIST of analyzers, and how they are run over a snapshot.

Two may find the same (the control plane tells some things as well): a finding is told once for each object, field and
code. Objects say what they do not want to hear of with Istio's annotation `galley.istio.io/analyze-suppress`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from meltemi.analyze import (
    destination_rules,
    gateways,
    injection,
    messages,
    metadata,
    ports,
    selectors,
    verdicts,
    virtual_services,
)
from meltemi.analyze.messages import Message
from meltemi.analyze.snapshot import Snapshot
from meltemi.analyze.suppression import Suppression, of_annotation
from meltemi.base.problems import Problem


class Analyzer(msgspec.Struct, frozen=True):
    """One analyzer: its name, what it looks for, and the messages that it has."""

    name: str
    summary: str
    run: Callable[[Snapshot], Iterator[Problem]]
    messages: tuple[Message, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of its messages."""
        return tuple(message.code for message in self.messages)


SCHEMA = (
    messages.SCHEMA_ERROR,
    messages.SCHEMA_WARNING,
    messages.INVALID_REGEX,
    messages.DEPRECATED,
    messages.UNREACHABLE,
    messages.INEFFECTIVE_MATCH,
)
"""What decoding and validation tell, before there is a snapshot."""

ANALYZERS: tuple[Analyzer, ...] = (
    Analyzer(
        "references",
        "Hosts, ports, subsets and gateways that do not exist, and rules that never take effect",
        verdicts.control_plane,
        (
            messages.NOT_FOUND,
            messages.CONFLICTING_HOSTS,
            messages.PORT_REQUIRED,
            messages.UNREACHABLE,
            messages.HOST_NOT_IN_GATEWAY,
            messages.ADDRESSES_REQUIRED,
            messages.UNKNOWN_HOST,
        ),
    ),
    Analyzer(
        "annotations",
        "Istio's annotations: their names, places, values and stages",
        metadata.annotations_of,
        (
            messages.MISPLACED_ANNOTATION,
            messages.UNKNOWN_ANNOTATION,
            messages.INVALID_ANNOTATION,
            messages.DEPRECATED_ANNOTATION,
            messages.ALPHA_ANNOTATION,
        ),
    ),
    Analyzer(
        "injection.namespaces",
        "Namespaces that do not say whether their pods get a proxy",
        injection.namespaces,
        (messages.NAMESPACE_NOT_INJECTED, messages.SEVERAL_INJECTION_LABELS),
    ),
    Analyzer("injection.pods", "Pods that lack a proxy", injection.pods, (messages.POD_MISSING_PROXY,)),
    Analyzer(
        "injection.proxies",
        "Gateways that are not injected, and applications that run as the proxy's user",
        injection.proxies,
        (messages.APPLICATION_UID, messages.IMAGE_AUTO_WARNING, messages.IMAGE_AUTO_ERROR),
    ),
    Analyzer(
        "sidecars",
        "Sidecars for the same workloads",
        selectors.sidecars,
        (messages.CONFLICTING_SIDECARS, messages.SEVERAL_SIDECARS),
    ),
    Analyzer(
        "telemetries",
        "Telemetries for the same workloads, or without a provider",
        selectors.telemetries,
        (messages.TELEMETRY_PROVIDER, messages.CONFLICTING_TELEMETRIES, messages.SEVERAL_TELEMETRIES),
    ),
    Analyzer(
        "policies",
        "Policies that select no workload or name a namespace that does not exist",
        selectors.policies,
        (messages.NO_WORKLOADS, messages.NOT_FOUND),
    ),
    Analyzer(
        "services.ports",
        "Ports of Services that do not tell their protocol",
        ports.names,
        (messages.PORT_NAME, messages.EXTERNAL_NAME_PORT),
    ),
    Analyzer(
        "services.workloads",
        "Services that disagree about the ports of one workload",
        ports.deployments,
        (messages.MULTIPLE_SERVICES, messages.CONFLICTING_PORTS),
    ),
    Analyzer("services.tokens", "Tokens on ports that are not known to be HTTP", ports.tokens, (messages.JWT_PORT,)),
    Analyzer(
        "destination-rules.certificates",
        "Servers whose certificates are not verified",
        destination_rules.certificates,
        (messages.UNVERIFIED, messages.UNVERIFIED_PORT),
    ),
    Analyzer(
        "destination-rules.subsets",
        "Subsets without workloads",
        destination_rules.subsets,
        (messages.EMPTY_SUBSET,),
    ),
    Analyzer(
        "destination-rules.mutual-tls",
        "Clients and servers that disagree on mutual TLS",
        destination_rules.mutual_tls,
        (messages.MTLS_CONFLICT,),
    ),
    Analyzer(
        "virtual-services.ports",
        "Destinations that do not say which of several ports",
        virtual_services.ports,
        (messages.PORT_REQUIRED,),
    ),
    Analyzer(
        "virtual-services.claims",
        "Rules on claims of tokens that nobody verifies",
        virtual_services.claims,
        (messages.JWT_CLAIMS,),
    ),
    Analyzer(
        "virtual-services.ingress",
        "Routes of gateways that pass by the rules for the mesh",
        virtual_services.ingress,
        (messages.INGRESS_RULES,),
    ),
    Analyzer(
        "gateways.workloads",
        "Gateways that nobody runs, or whose ports no Service leads to",
        gateways.workloads,
        (messages.NOT_FOUND, messages.GATEWAY_PORT),
    ),
    Analyzer(
        "gateways.conflicts",
        "Gateways that serve one host on one port",
        gateways.conflicts,
        (messages.CONFLICTING_GATEWAYS,),
    ),
    Analyzer(
        "gateways.certificates",
        "Certificates of gateways that are missing, unusable or shared",
        gateways.certificates,
        (messages.NOT_FOUND, messages.DUPLICATE_CERTIFICATE, messages.INVALID_CREDENTIAL),
    ),
)


def analyze(
    snapshot: Snapshot, told: Iterable[Problem] = (), suppressions: Iterable[Suppression] = ()
) -> list[Problem]:
    """All findings, by object. `told` are further ones, such as what validation says or a running control plane."""
    found = [*told, *(problem for analyzer in ANALYZERS for problem in analyzer.run(snapshot))]
    rules = [*suppressions, *(rule for resource in snapshot.all() for rule in of_annotation(resource))]
    first: dict[tuple[object, str, str], Problem] = {}
    for problem in found:
        if not any(rule.covers(problem) for rule in rules):
            first.setdefault((problem.ref, problem.path, problem.code), problem)
    return sorted(first.values())
