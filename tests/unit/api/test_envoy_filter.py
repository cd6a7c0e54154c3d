"""What is told of EnvoyFilters: outcomes of Istio's own validation."""

from __future__ import annotations

import pytest

from meltemi.api.decoding import decode_document
from meltemi.api.validation import validate
from meltemi.api.yaml import load
from meltemi.base.problems import Severity

HEAD = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: x}\nspec:\n"
HCM = "envoy.filters.network.http_connection_manager"
LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
NOT_YET = "spec.configPatches[0].applyTo"
VALUE = "patch: {operation: MERGE, value: {}}"


def told(spec: str) -> list[tuple[Severity, str]]:
    """Severity and path of all that is wrong."""
    (document,) = load(HEAD + "".join(f"  {line}\n" for line in spec.splitlines()), "x.yaml").documents
    decoded = decode_document(document)
    assert decoded.resource is not None, decoded.problems
    return [(problem.severity, problem.path) for problem in validate(decoded.resource)]


@pytest.mark.parametrize(
    "patch",
    [
        "applyTo: CLUSTER, match: {context: SIDECAR_OUTBOUND, cluster: {service: a.b}}, "
        "patch: {operation: MERGE, value: {connect_timeout: 3s}}",
        "applyTo: CLUSTER, patch: {operation: REMOVE}",
        f"applyTo: HTTP_FILTER, match: {{listener: {{filterChain: {{filter: {{name: {HCM}, subFilter: {{name: a}}}}}}}}}}, "
        f'patch: {{operation: INSERT_BEFORE, value: {{name: lua, typed_config: {{"@type": {LUA}, inlineCode: "-- a"}}}}}}',
        "applyTo: BOOTSTRAP, patch: {operation: MERGE, value: {stats_flush_interval: 1s}}",
    ],
)
def test_nothing_is_wrong_with_what_people_write(patch: str) -> None:
    assert {path for _, path in told(f"configPatches: [{{{patch}}}]")} <= {NOT_YET}


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        (VALUE, "applyTo"),
        ("applyTo: CLUSTER", "patch"),
        ("applyTo: CLUSTER, patch: {}", "patch.operation"),
        ("applyTo: CLUSTER, patch: {operation: ADD}", "patch.value"),
        (f"applyTo: CLUSTER, match: {{proxy: {{proxyVersion: '('}}}}, {VALUE}", "match.proxy.proxyVersion"),
        (f"applyTo: CLUSTER, match: {{listener: {{}}}}, {VALUE}", "match.listener"),
        (f"applyTo: HTTP_ROUTE, match: {{cluster: {{}}}}, {VALUE}", "match.cluster"),
        (
            f"applyTo: NETWORK_FILTER, match: {{listener: {{filterChain: {{filter: {{}}}}}}}}, {VALUE}",
            "match.listener.filterChain.filter.name",
        ),
        (
            "applyTo: NETWORK_FILTER, match: {listener: {filterChain: {filter: {name: a, subFilter: {name: b}}}}}, "
            f"{VALUE}",
            "match.listener.filterChain.filter.subFilter",
        ),
        (
            "applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: a, subFilter: {name: b}}}}}, "
            f"{VALUE}",
            "match.listener.filterChain.filter.name",
        ),
        ("applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: soon}}", "patch.value"),
        (
            'applyTo: HTTP_FILTER, patch: {operation: ADD, value: {typed_config: {"@type": type.googleapis.com/a.B}}}',
            "patch.value",
        ),
    ],
)
def test_what_is_wrong_is_told_at_its_path(patch: str, path: str) -> None:
    found = [each for each in told(f"configPatches: [{{{patch}}}]") if each[1] != NOT_YET or path == "applyTo"]
    assert found == [(Severity.ERROR, f"spec.configPatches[0].{path}")]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("workloadSelector: {}", "spec.workloadSelector"),
        (
            "configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {no_such_field: 1}}}]",
            "spec.configPatches[0].patch.value",
        ),
        (
            f"configPatches: [{{applyTo: LISTENER, match: {{listener: {{filterChain: {{filter: {{name: a}}}}}}}}, {VALUE}}}]",
            "spec.configPatches[0].match.listener.filterChain.filter",
        ),
    ],
)
def test_what_has_no_effect_is_warned_of(spec: str, path: str) -> None:
    assert [each for each in told(spec) if each[1] != NOT_YET] == [(Severity.WARNING, path)]


def test_a_selector_and_references_exclude_each_other() -> None:
    spec = "workloadSelector: {labels: {app: a}}\ntargetRefs: [{kind: Service, name: a}]"
    assert told(spec) == [(Severity.ERROR, "spec.targetRefs")]
