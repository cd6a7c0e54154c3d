"""Schemas are structural, say what the structs say, and accept what decodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from meltemi.api import registry
from meltemi.api.registry import KINDS, Kind, find, kind_of, kinds_called
from meltemi.api.schema import crd, schema_of
from meltemi.api.yaml import load

MESH_KINDS = [kind for kind in KINDS if kind.mesh]


def schemas_within(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all schemas of fields and items within it."""
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from schemas_within(inner)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from schemas_within(schema[name])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_field_is_typed_and_nothing_is_referred_to(kind: Kind) -> None:
    for schema in schemas_within(schema_of(kind)):
        assert "$ref" not in schema
        typed = "type" in schema or "x-kubernetes-int-or-string" in schema
        assert typed or "x-kubernetes-preserve-unknown-fields" in schema
        assert not ("properties" in schema and "additionalProperties" in schema)
        for alternative in [*schema.get("oneOf", ()), *schema.get("allOf", ())]:
            assert "type" not in alternative


def virtual_service(rule: str) -> dict[str, Any]:
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n"
    return load(f"{head}spec: {{hosts: [a], http: [{rule}]}}").documents[0].data


@pytest.mark.parametrize(
    ("rule", "valid"),
    [
        ("{match: [{uri: {prefix: /}}], route: [{destination: {host: a, port: {number: 80}}}], timeout: 5s}", True),
        ("{route: [{destination: {host: a, port: {number: 0}}}]}", False),
        ("{route: [{destination: {subset: a}}]}", False),
        ("{match: [{uri: {prefix: /, exact: /}}], route: []}", False),
        ("{match: [{uri: {}}], route: []}", True),
        ("{timeout: 5}", False),
        ("{timeout: five}", False),
        ("{redirect: {derivePort: NOWHERE}}", False),
        ("{fault: {delay: {percentage: {value: 101}}}}", False),
    ],
)
def test_a_schema_says_what_the_structs_say(rule: str, valid: bool) -> None:
    kind = find("networking.istio.io/v1", "VirtualService")
    assert kind is not None
    assert jsonschema_rs.validator_for(schema_of(kind)).is_valid(virtual_service(rule)) is valid


def test_durations_hashes_and_maps_are_described() -> None:
    kind = find("networking.istio.io/v1", "DestinationRule")
    assert kind is not None
    policy = schema_of(kind)["properties"]["spec"]["properties"]["trafficPolicy"]["properties"]
    hash_ = policy["loadBalancer"]["properties"]["consistentHash"]
    assert len(hash_["allOf"]) == 2
    assert "pattern" in policy["connectionPool"]["properties"]["tcp"]["properties"]["connectTimeout"]
    assert policy["outlierDetection"]["properties"]["maxEjectionPercent"]["maximum"] == 100
    assert schema_of(kind)["properties"]["spec"]["required"] == ["host"]


@pytest.mark.parametrize("kind", MESH_KINDS, ids=lambda kind: kind.kind)
def test_crds_have_one_stored_version_and_a_status(kind: Kind) -> None:
    spec = crd(kind)["spec"]
    assert [version["storage"] for version in spec["versions"]].count(True) == 1
    assert {version["name"] for version in spec["versions"]} == set(kind.versions)
    assert all("status" in version["subresources"] for version in spec["versions"])
    assert spec["names"]["plural"] == kind.plural


def test_no_name_of_a_kind_stands_for_two() -> None:
    names = [name for kind in KINDS for name in (kind.plural, *kind.short_names)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "name", ["vs", "virtualservice", "VirtualServices", "virtualservices.networking.istio.io", "VirtualService"]
)
def test_kinds_are_found_by_what_people_call_them(name: str) -> None:
    assert [kind.kind for kind in kinds_called(name)] == ["VirtualService"]


def test_every_kind_is_found_by_its_versions() -> None:
    for kind in KINDS:
        assert kind_of(kind.struct) is kind
        for api_version in kind.api_versions:
            assert registry.find(api_version, kind.kind) is kind
