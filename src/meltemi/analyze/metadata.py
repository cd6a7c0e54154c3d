"""Annotations of Istio's: whether they exist, where they may stand, and whether their values can be understood.

Source: Istio `annotation/annotations.yaml` (names, kinds and stages) and the injection template's checks of values.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

from meltemi.analyze import messages
from meltemi.analyze.messages import Message
from meltemi.analyze.snapshot import SYSTEM_NAMESPACES, Snapshot
from meltemi.api import core, paths, yaml
from meltemi.api.meta import Resource
from meltemi.base.problems import Problem

Check = Callable[[str], str]
"""What is wrong with a value; empty if nothing is."""

_QUANTITY = re.compile(r"\d+(\.\d+)?([EPTGMk]i?|m|e\d+)?")
_LEVEL = re.compile(r"(all|default|trace|debug|info|warning|warn|error|critical|fatal|none|off)")


def _boolean(value: str) -> str:
    return "" if value.lower() in ("true", "false") else "it is neither true nor false"


def _number(value: str) -> str:
    return "" if value.isdigit() else "it is not a number"


def _ports(value: str) -> str:
    wrong = [port for port in _listed(value) if not (port.isdigit() and 1 <= int(port) <= 65535)]
    return f"{wrong[0]!r} is not a port number" if wrong and value.strip() != "*" else ""


def _port(value: str) -> str:
    return "" if value.isdigit() and int(value) <= 65535 else "it is not a port number"


def _ranges(value: str) -> str:
    for each in _listed(value) if value.strip() != "*" else ():
        try:
            ipaddress.ip_network(each, strict=False)
        except ValueError:
            return f"{each!r} is not a range of addresses"
    return ""


def _quantity(value: str) -> str:
    return "" if _QUANTITY.fullmatch(value) else "it is not a quantity such as 100m or 128Mi"


def _level(value: str) -> str:
    names = [each.rpartition(":")[2] for each in _listed(value)]
    return "" if names and all(map(_LEVEL.fullmatch, names)) else "it is not a level such as info or debug"


def _mode(value: str) -> str:
    return "" if value in ("REDIRECT", "TPROXY", "NONE") else "it is none of REDIRECT, TPROXY and NONE"


def _yaml(value: str) -> str:
    loaded = yaml.load(value)
    return loaded.problems[0].message if loaded.problems else ""


def _json(value: str) -> str:
    try:
        msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        return f"it is not JSON: {error}"
    return ""


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _anything(value: str) -> str:
    return ""


class Annotation(msgspec.Struct, frozen=True):
    """An annotation: the kinds that may have it (none: any), its stage, and what its value must be.

    `made` says that software writes it, so that its stage is no concern of the user's.
    """

    kinds: tuple[str, ...] = ("Pod",)
    stage: str = "alpha"
    check: Check = _anything
    made: bool = False


_SIDECAR: dict[str, Annotation] = {
    "inject": Annotation(stage="deprecated", check=_boolean),
    "status": Annotation(made=True),
    "rewriteAppHTTPProbers": Annotation(check=_boolean),
    "controlPlaneAuthPolicy": Annotation(stage="deprecated"),
    "discoveryAddress": Annotation(stage="deprecated"),
    "proxyImage": Annotation(),
    "proxyImageType": Annotation(),
    "proxyCPU": Annotation(check=_quantity),
    "proxyCPULimit": Annotation(check=_quantity),
    "proxyMemory": Annotation(check=_quantity),
    "proxyMemoryLimit": Annotation(check=_quantity),
    "interceptionMode": Annotation(check=_mode),
    "bootstrapOverride": Annotation(),
    "statsInclusionPrefixes": Annotation(stage="deprecated"),
    "statsInclusionSuffixes": Annotation(stage="deprecated"),
    "statsInclusionRegexps": Annotation(stage="deprecated"),
    "statsHistogramBuckets": Annotation(check=_json),
    "statsCompression": Annotation(),
    "statsEvictionInterval": Annotation(),
    "userVolume": Annotation(check=_json),
    "userVolumeMount": Annotation(check=_json),
    "enableCoreDump": Annotation(check=_boolean),
    "logLevel": Annotation(check=_level),
    "componentLogLevel": Annotation(check=_level),
    "agentLogLevel": Annotation(check=_level),
    "extraStatTags": Annotation(),
    "nativeSidecar": Annotation(check=_boolean),
}

_TRAFFIC: dict[str, Annotation] = {
    "includeOutboundIPRanges": Annotation(check=_ranges),
    "excludeOutboundIPRanges": Annotation(check=_ranges),
    "includeInboundPorts": Annotation(check=_ports),
    "excludeInboundPorts": Annotation(check=_ports),
    "includeOutboundPorts": Annotation(check=_ports),
    "excludeOutboundPorts": Annotation(check=_ports),
    "excludeInterfaces": Annotation(),
    "kubevirtInterfaces": Annotation(stage="deprecated"),
}

_ENTRY = Annotation(("WorkloadEntry",), made=True)

ANNOTATIONS: Mapping[str, Annotation] = {
    **{f"sidecar.istio.io/{name}": annotation for name, annotation in _SIDECAR.items()},
    **{f"traffic.sidecar.istio.io/{name}": annotation for name, annotation in _TRAFFIC.items()},
    "prometheus.istio.io/merge-metrics": Annotation(check=_boolean),
    "alpha.istio.io/kubernetes-serviceaccounts": Annotation(("Service",), "deprecated"),
    "alpha.istio.io/canonical-serviceaccounts": Annotation(("Service",), "deprecated"),
    "alpha.istio.io/identity": Annotation(stage="deprecated"),
    "networking.istio.io/exportTo": Annotation(("Service",)),
    "networking.istio.io/traffic-distribution": Annotation(("Service", "ServiceEntry", "Namespace")),
    "networking.istio.io/service-type": Annotation(("Gateway",)),
    "networking.istio.io/address-type": Annotation(("Gateway",)),
    "status.sidecar.istio.io/port": Annotation(check=_port),
    "readiness.status.sidecar.istio.io/initialDelaySeconds": Annotation(check=_number),
    "readiness.status.sidecar.istio.io/periodSeconds": Annotation(check=_number),
    "readiness.status.sidecar.istio.io/failureThreshold": Annotation(check=_number),
    "readiness.status.sidecar.istio.io/applicationPorts": Annotation(check=_ports),
    "install.operator.istio.io/chart-owner": Annotation((), made=True),
    "install.operator.istio.io/owner-generation": Annotation((), made=True),
    "install.operator.istio.io/version": Annotation((), made=True),
    "galley.istio.io/analyze-suppress": Annotation((), "beta"),
    "proxy.istio.io/config": Annotation(stage="beta", check=_yaml),
    "proxy.istio.io/overrides": Annotation(check=_json, made=True),
    "istio.io/dry-run": Annotation(("AuthorizationPolicy",), check=_boolean),
    "istio.io/rev": Annotation((), made=True),
    "istio.io/reroute-virtual-interfaces": Annotation(),
    "inject.istio.io/templates": Annotation(stage="beta"),  # every gateway needs it
    "topology.istio.io/controlPlaneClusters": Annotation(("Namespace",)),
    "ambient.istio.io/redirection": Annotation(made=True),
    "ambient.istio.io/bypass-inbound-capture": Annotation(check=_boolean),
    "ambient.istio.io/waypoint-inbound-binding": Annotation((), made=True),
    "istio.io/autoRegistrationGroup": _ENTRY,
    "istio.io/workloadController": _ENTRY,
    "istio.io/connectedAt": _ENTRY,
    "istio.io/disconnectedAt": _ENTRY,
}


def annotations_of(snapshot: Snapshot) -> Iterator[Problem]:
    """Annotations that do not exist, stand in the wrong place, cannot be understood, or are not here to stay."""
    structs: tuple[type[Resource], ...] = (core.Namespace, core.Service, core.Pod, core.Deployment)
    for struct in structs:
        for resource in snapshot.of(struct):
            if resource.namespace not in SYSTEM_NAMESPACES:
                yield from _checked(resource, resource.kind, resource.annotations, "metadata.annotations")
    for workload in snapshot.workloads:
        if workload.path == "spec.template.metadata":
            yield from _checked(workload.owner, "Pod", workload.metadata.annotations, f"{workload.path}.annotations")


def _checked(resource: Resource, kind: str, values: Mapping[str, str], path: str) -> Iterator[Problem]:
    for name, value in sorted(values.items()):
        domain = name.partition("/")[0]
        if domain != "istio.io" and not domain.endswith(".istio.io"):
            continue
        where = paths.key(path, name)
        annotation = ANNOTATIONS.get(name)
        if annotation is None:
            yield messages.UNKNOWN_ANNOTATION.of(
                resource, where, f"there is no annotation {name}", "check its spelling, or remove it"
            )
        elif annotation.kinds and kind not in annotation.kinds:
            place = "the template's metadata" if "Pod" in annotation.kinds else " or ".join(annotation.kinds)
            yield messages.MISPLACED_ANNOTATION.of(
                resource,
                where,
                f"{name} has no effect on a {kind}: it is for {' and '.join(annotation.kinds)}",
                f"move it to {place}",
            )
        else:
            yield from _valued(resource, where, name, value, annotation)


def _valued(resource: Resource, where: str, name: str, value: str, annotation: Annotation) -> Iterator[Problem]:
    if reason := annotation.check(value):
        yield messages.INVALID_ANNOTATION.of(
            resource, where, f"the value {value!r} of {name} is not understood: {reason}", "correct the value"
        )
    if annotation.made:
        return
    message: Message | None = None
    if annotation.stage == "deprecated":
        message, text = messages.DEPRECATED_ANNOTATION, f"{name} is deprecated"
    elif annotation.stage == "alpha":
        message, text = messages.ALPHA_ANNOTATION, f"{name} is at the stage alpha: its meaning may change"
    if message is not None:
        hint = "write it as a label of the pod" if name == "sidecar.istio.io/inject" else "see whether it is needed"
        yield message.of(resource, where, text, hint)
