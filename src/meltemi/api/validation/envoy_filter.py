"""Whether an EnvoyFilter can mean anything: that what it changes, how and into what fit together.

Outcomes are those of Istio's `ValidateEnvoyFilter`: what Istio only warns of is a warning here as well.
"""

from __future__ import annotations

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults, warning
from meltemi.api.networking.envoy_filter import ConfigObjectMatch, ConfigPatch, EnvoyFilter, FilterMatch, Patch
from meltemi.api.support import NOT_ACTED_ON
from meltemi.api.validation import terms
from meltemi.api.validation.regexes import regex

_WHOLE = frozenset({"MERGE", "ADD", "REMOVE"})
_INSERTS = frozenset({"INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"})
_MEANT = {
    "LISTENER": _WHOLE,
    "LISTENER_FILTER": _INSERTS | {"ADD", "REMOVE", "REPLACE"},
    "FILTER_CHAIN": _WHOLE,
    "NETWORK_FILTER": _WHOLE | _INSERTS | {"REPLACE"},
    "HTTP_FILTER": _WHOLE | _INSERTS | {"REPLACE"},
    "ROUTE_CONFIGURATION": frozenset({"MERGE"}),
    "VIRTUAL_HOST": _WHOLE | {"REPLACE"},
    "HTTP_ROUTE": _WHOLE | _INSERTS,
    "CLUSTER": _WHOLE,
}
"""What can be done with each sort of object that is acted on."""

_MANAGERS = frozenset({"envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"})
_IN_LISTENERS = frozenset({"LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"})
_MATCHED_BY = {
    **dict.fromkeys(_IN_LISTENERS, "listener"),
    **dict.fromkeys(("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"), "routeConfiguration"),
    "CLUSTER": "cluster",
}


def envoy_filter(resource: EnvoyFilter) -> Faults:
    """What is wrong with an EnvoyFilter."""
    spec = resource.spec
    selector = spec.workload_selector
    if selector:
        yield from terms.labels("spec.workloadSelector.labels", selector.labels)
        if not selector.labels:
            yield warning(
                "spec.workloadSelector", "it has no labels: all workloads of the namespace are meant", "add labels"
            )
    if selector and spec.target_refs:
        message = "workloadSelector and targetRefs exclude each other"
        yield Fault("spec.targetRefs", message, "keep one of the two", "Conflict")
    for index, patch in enumerate(spec.config_patches):
        yield from _config_patch(paths.item("spec.configPatches", index), patch)


def _config_patch(path: str, config: ConfigPatch) -> Faults:
    """One change; as in Istio, what follows from a missing part is not told."""
    patch = config.patch
    if config.apply_to == "INVALID":
        yield Fault(f"{path}.applyTo", "it is not said what is changed", "add applyTo", "RequiredField")
    elif patch is None:
        yield Fault(f"{path}.patch", "there is no change", "add patch", "RequiredField")
    elif patch.operation == "INVALID":
        yield Fault(f"{path}.patch.operation", "it is not said what is done", "add operation", "RequiredField")
    elif patch.operation != "REMOVE" and patch.value is None:
        message = f"{patch.operation} needs a value"
        yield Fault(f"{path}.patch.value", message, "add what Envoy is to be given", "RequiredField")
    else:
        if config.match:
            yield from _match(f"{path}.match", config.apply_to, config.match)
        yield from _value(f"{path}.patch.value", config.apply_to, patch)
        meant = _MEANT.get(config.apply_to)
        if meant is None:
            message = f"patches of {config.apply_to} are checked but not yet acted on"
            yield warning(f"{path}.applyTo", message, "do not rely on it", NOT_ACTED_ON)
        elif patch.operation not in meant:
            message = f"{patch.operation} means nothing for {config.apply_to}"
            yield warning(f"{path}.patch.operation", message, f"use one of {', '.join(sorted(meant))}")


def _match(path: str, apply_to: str, match: ConfigObjectMatch) -> Faults:
    if match.proxy and match.proxy.proxy_version:
        yield from regex(f"{path}.proxy.proxyVersion", match.proxy.proxy_version)
    given = {
        name
        for name, value in (
            ("listener", match.listener),
            ("routeConfiguration", match.route_configuration),
            ("cluster", match.cluster),
        )
        if value is not None
    }
    wanted = _MATCHED_BY.get(apply_to)
    if wanted is not None:
        for other in sorted(given - {wanted}):
            yield Fault(f"{path}.{other}", f"{apply_to} is matched by {wanted}", f"write {wanted} instead", "Conflict")
    if apply_to in _IN_LISTENERS and match.listener and match.listener.filter_chain:
        filter_ = match.listener.filter_chain.filter
        if filter_ is not None:
            yield from _filter(f"{path}.listener.filterChain.filter", apply_to, filter_)


def _filter(path: str, apply_to: str, filter_: FilterMatch) -> Faults:
    if apply_to in ("LISTENER", "FILTER_CHAIN"):
        yield warning(path, f"it has no effect on {apply_to}", "remove it")
    inner = filter_.sub_filter
    if not filter_.name:
        yield Fault(f"{path}.name", "the filter has no name to match", "add name", "RequiredField")
    elif inner is None:
        return
    elif apply_to != "HTTP_FILTER":
        yield Fault(f"{path}.subFilter", f"{apply_to} has no filters within it", "use applyTo: HTTP_FILTER", "Conflict")
    elif filter_.name not in _MANAGERS:
        message = "only the HTTP connection manager has filters within it"
        yield Fault(f"{path}.name", message, "write envoy.filters.network.http_connection_manager", "Conflict")
    elif not inner.name:
        yield Fault(f"{path}.subFilter.name", "the filter has no name to match", "add name", "RequiredField")


def _value(path: str, apply_to: str, patch: Patch) -> Faults:
    if patch.value is None:
        return
    from meltemi.protos.patches import Unreadable, read  # Few processes meet an EnvoyFilter, and protobuf is large.

    try:
        _, objection = read(apply_to, patch.value)
    except Unreadable as error:
        yield Fault(path, f"it is not what Envoy takes: {error}", "see Envoy's API reference, version 3")
    else:
        if objection:
            yield warning(path, f"a part of it is left out: {objection}", "see Envoy's API reference, version 3")
