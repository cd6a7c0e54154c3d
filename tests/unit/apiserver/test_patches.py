"""Merge, JSON and strategic merge patches."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.local.apiserver.patches import json_patch, merge, strategic
from meltemi.local.apiserver.shapes import shape_of

POD = shape_of("", "Pod")
DEPLOYMENT = shape_of("apps", "Deployment")


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_rfc_7386_says(target: Any, patch: Any, result: Any) -> None:
    assert merge(target, patch) == result


def test_a_json_patch_adds_replaces_removes_moves_copies_and_tests() -> None:
    before = {"a": [1, 2], "b": {"c/d": "x"}}
    operations = [
        {"op": "test", "path": "/b/c~1d", "value": "x"},
        {"op": "add", "path": "/a/-", "value": 3},
        {"op": "add", "path": "/a/0", "value": 0},
        {"op": "remove", "path": "/a/1"},
        {"op": "replace", "path": "/b/c~1d", "value": "y"},
        {"op": "copy", "from": "/b/c~1d", "path": "/e"},
        {"op": "move", "from": "/b", "path": "/f"},
    ]
    assert json_patch(before, operations) == {"a": [0, 2, 3], "e": "y", "f": {"c/d": "y"}}
    assert before == {"a": [1, 2], "b": {"c/d": "x"}}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/nowhere"},
        {"op": "replace", "path": "/a/7", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "leap", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
        {"op": "add", "path": "/a"},
    ],
)
def test_a_json_patch_that_cannot_be_applied_says_why(operation: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        json_patch({"a": [1]}, [operation])


def test_a_strategic_patch_merges_containers_by_name_and_ports_by_number() -> None:
    before = {"spec": {"containers": [{"name": "a", "image": "1", "ports": [{"containerPort": 80}]}, {"name": "b"}]}}
    patch = {"spec": {"containers": [{"name": "a", "image": "2", "ports": [{"containerPort": 81}]}, {"name": "c"}]}}
    assert strategic(before, patch, POD)["spec"]["containers"] == [
        {"name": "a", "image": "2", "ports": [{"containerPort": 80}, {"containerPort": 81}]},
        {"name": "b"},
        {"name": "c"},
    ]


def test_a_strategic_patch_deletes_items_and_keeps_the_order_it_is_told() -> None:
    before = {"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}}
    patch = {
        "spec": {
            "containers": [{"name": "b", "$patch": "delete"}, {"name": "d"}],
            "$setElementOrder/containers": [{"name": "d"}, {"name": "a"}, {"name": "c"}],
        }
    }
    assert [c["name"] for c in strategic(before, patch, POD)["spec"]["containers"]] == ["d", "a", "c"]


def test_a_strategic_patch_replaces_what_it_says_it_replaces() -> None:
    before = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    retained = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic(before, retained, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}
    replaced = {"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}}
    assert strategic(before, replaced, DEPLOYMENT) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_a_strategic_patch_adds_to_and_takes_from_sets() -> None:
    before = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic(before, patch, POD) == {"metadata": {"finalizers": ["b", "c"]}}
