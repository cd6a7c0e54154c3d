"""Objects that select workloads: none that they select, or two that select the same."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from meltemi.analyze import messages
from meltemi.analyze.messages import Message
from meltemi.analyze.snapshot import Snapshot
from meltemi.api.core import Namespace
from meltemi.api.mesh import MeshConfig
from meltemi.api.meta import Resource
from meltemi.api.networking import Sidecar
from meltemi.api.security import AuthorizationPolicy, PeerAuthentication, RequestAuthentication
from meltemi.api.telemetry import Telemetry
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem


class _Scoped(msgspec.Struct, frozen=True):
    """An object with the labels that it selects by (None: it says nothing), and where it says so."""

    resource: Resource
    labels: dict[str, str] | None
    path: str


def sidecars(snapshot: Snapshot) -> Iterator[Problem]:
    """Sidecars that hold for the same workloads."""
    found = []
    for sidecar in snapshot.of(Sidecar):
        selector = sidecar.spec.workload_selector
        found.append(_Scoped(sidecar, selector.labels if selector else None, "spec.workloadSelector"))
    yield from _conflicts(snapshot, found, messages.SEVERAL_SIDECARS, messages.CONFLICTING_SIDECARS)


def telemetries(snapshot: Snapshot) -> Iterator[Problem]:
    """Telemetries that hold for the same workloads, or that name no provider where one is needed."""
    found = []
    default = _names_providers(snapshot)
    for telemetry in snapshot.of(Telemetry):
        spec = telemetry.spec
        if not (spec.target_ref or spec.target_refs):
            labels = spec.selector.match_labels if spec.selector else None
            found.append(_Scoped(telemetry, labels, "spec.selector"))
        for index, tracing in enumerate(spec.tracing):
            if not tracing.providers and not default:
                yield messages.TELEMETRY_PROVIDER.of(
                    telemetry,
                    f"spec.tracing[{index}]",
                    "it names no provider and the mesh has none by default, so that no span is sent",
                    "add providers, or defaultProviders.tracing to the mesh's configuration",
                )
    yield from _conflicts(snapshot, found, messages.SEVERAL_TELEMETRIES, messages.CONFLICTING_TELEMETRIES)


def _names_providers(snapshot: Snapshot) -> bool:
    """Whether tracing goes somewhere where a Telemetry says nothing: the mesh or its root namespace says where."""
    root = snapshot.mesh.root_namespace
    in_root = (each for each in snapshot.of(Telemetry) if each.namespace == root)
    if any(tracing.providers for each in in_root for tracing in each.spec.tracing):
        return True
    configs = snapshot.of(MeshConfig)
    return any(each.spec.default_providers and each.spec.default_providers.tracing for each in configs)


def _conflicts(snapshot: Snapshot, found: list[_Scoped], whole: Message, some: Message) -> Iterator[Problem]:
    """Pairs of which the older wins: both for a whole namespace, or both for one workload."""
    ranked = sorted(found, key=lambda each: seniority(each.resource))
    for position, younger in enumerate(ranked):
        for senior in ranked[:position]:
            if senior.resource.namespace != younger.resource.namespace:
                continue
            if not senior.labels and not younger.labels:
                yield whole.of(
                    younger.resource,
                    younger.path,
                    f"{senior.resource.ref} is for the whole namespace as well, and is older",
                    "keep one of them, or add a selector",
                )
                break
            if senior.labels and younger.labels:
                both = snapshot.selected(younger.resource.namespace, {**senior.labels, **younger.labels})
                agree = all(younger.labels.get(name, value) == value for name, value in senior.labels.items())
                if both and agree:
                    yield some.of(
                        younger.resource,
                        younger.path,
                        f"{senior.resource.ref} selects {both[0].owner.ref} as well, and is older",
                        "let each workload be selected by one of them",
                    )
                    break


def policies(snapshot: Snapshot) -> Iterator[Problem]:
    """Policies whose selectors select nothing, and namespaces that they name and that do not exist."""
    found: tuple[AuthorizationPolicy | RequestAuthentication | PeerAuthentication, ...] = (
        *snapshot.of(AuthorizationPolicy),
        *snapshot.of(RequestAuthentication),
        *snapshot.of(PeerAuthentication),
    )
    if snapshot.knows_workloads:
        for policy in found:
            selector = policy.spec.selector
            if selector is None or not selector.match_labels:
                continue
            if not snapshot.selected(snapshot.reach(policy.namespace), selector.match_labels):
                labels = ",".join(f"{name}={value}" for name, value in sorted(selector.match_labels.items()))
                yield messages.NO_WORKLOADS.of(
                    policy,
                    "spec.selector",
                    f"no workload has the labels {labels}",
                    "correct the labels: selectors look at pods, not at Deployments or Services",
                )
    yield from _namespaces(snapshot)


def _namespaces(snapshot: Snapshot) -> Iterator[Problem]:
    """Namespaces in rules, where the namespaces are known."""
    known = {namespace.name for namespace in snapshot.of(Namespace)}
    if not known or not snapshot.has_read(Namespace):
        return
    for policy in snapshot.of(AuthorizationPolicy):
        for i, rule in enumerate(policy.spec.rules):
            for j, origin in enumerate(rule.from_):
                for k, name in enumerate(origin.source.namespaces if origin.source else ()):
                    if "*" not in name and name not in known:
                        yield messages.NOT_FOUND.of(
                            policy,
                            f"spec.rules[{i}].from[{j}].source.namespaces[{k}]",
                            f"there is no namespace {name}",
                            "correct the name, or create the namespace",
                        )
