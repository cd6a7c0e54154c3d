"""Server-side apply: who owns a field, conflicts, removal."""

from __future__ import annotations

from typing import Any

from meltemi.local.apiserver import ownership
from meltemi.local.apiserver.ownership import (
    Manager,
    Managers,
    apply,
    human,
    leaves,
    read_managers,
    updated,
    write_managers,
)
from meltemi.local.apiserver.shapes import shape_of

POD = shape_of("", "Pod")
ANN, BOB = Manager("ann", "Apply"), Manager("bob", "Apply")
EDITOR = Manager("editor", "Update")
NOW = "2026-01-01T12:00:00Z"


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": list(containers), **spec},
    }


def applied(
    live: dict[str, Any], config: dict[str, Any], managers: Managers, who: Manager, *, force: bool = False
) -> ownership.Applied:
    return apply(live, config, managers, who, NOW, POD, force=force)


def test_leaves_are_scalars_atomic_lists_and_items_but_not_the_objects_identity() -> None:
    obj = pod({"name": "a", "command": ["x"], "ports": [{"containerPort": 80}]}, nodeSelector={"a": "b"})
    assert {human(path) for path in leaves(obj, POD)} == {
        '.spec.containers[name="a"]',
        '.spec.containers[name="a"].name',
        '.spec.containers[name="a"].command',
        '.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"]',
        '.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"].containerPort',
        ".spec.nodeSelector",
    }


def test_fields_that_a_manager_no_longer_applies_are_removed() -> None:
    first = applied({}, pod({"name": "a", "image": "1"}, hostname="h"), {}, ANN)
    second = applied(first.obj, pod({"name": "a"}), first.managers, ANN)
    assert second.obj["spec"] == {"containers": [{"name": "a"}]}


def test_items_that_nobody_applies_any_more_are_removed_and_others_kept() -> None:
    first = applied({}, pod({"name": "a"}, {"name": "b"}), {}, ANN)
    second = applied(first.obj, pod({"name": "c"}), first.managers, BOB)
    third = applied(second.obj, pod({"name": "b"}), second.managers, ANN)
    assert [c["name"] for c in third.obj["spec"]["containers"]] == ["b", "c"]


def test_a_field_that_another_manager_owns_with_another_value_is_disputed() -> None:
    first = applied({}, pod({"name": "a", "image": "1"}), {}, ANN)
    second = applied(first.obj, pod({"name": "a", "image": "2"}), first.managers, BOB)
    assert [(human(d.path), d.manager) for d in second.disputes] == [('.spec.containers[name="a"].image', ANN)]
    assert second.obj == first.obj


def test_force_takes_the_field_from_its_owner() -> None:
    first = applied({}, pod({"name": "a", "image": "1"}), {}, ANN)
    second = applied(first.obj, pod({"name": "a", "image": "2"}), first.managers, BOB, force=True)
    assert second.obj["spec"]["containers"] == [{"name": "a", "image": "2"}]
    image = ("f:spec", "f:containers", 'k:{"name":"a"}', "f:image")
    assert image in second.managers[BOB].paths
    assert image not in second.managers[ANN].paths


def test_equal_values_are_shared_and_stay_until_the_last_owner_lets_go() -> None:
    first = applied({}, pod(hostname="h"), {}, ANN)
    second = applied(first.obj, pod(hostname="h"), first.managers, BOB)
    assert not second.disputes
    third = applied(second.obj, pod(), second.managers, ANN)
    assert third.obj["spec"]["hostname"] == "h"
    fourth = applied(third.obj, pod(), third.managers, BOB)
    assert "hostname" not in fourth.obj["spec"]


def test_an_update_takes_the_fields_it_changes_from_all_others() -> None:
    first = applied({}, pod({"name": "a", "image": "1"}), {}, ANN)
    after = pod({"name": "a", "image": "2"})
    managers = updated(first.obj, after, first.managers, EDITOR, NOW, POD)
    again = applied(after, pod({"name": "a", "image": "1"}), managers, ANN)
    assert [d.manager for d in again.disputes] == [EDITOR]


def test_an_item_in_which_another_manager_owns_a_field_stays() -> None:
    first = applied({}, pod({"name": "a", "image": "1"}), {}, ANN)
    after = pod({"name": "a", "image": "1", "workingDir": "/"})
    managers = updated(first.obj, after, first.managers, EDITOR, NOW, POD)
    second = applied(after, pod(), managers, ANN)
    assert second.obj["spec"]["containers"] == [{"name": "a", "workingDir": "/"}]


def test_managed_fields_survive_being_written_and_read() -> None:
    first = applied({}, pod({"name": "a", "image": "1"}, hostname="h"), {}, ANN)
    entries = write_managers(first.managers)
    assert entries[0]["fieldsV1"]["f:spec"]["f:containers"] == {
        'k:{"name":"a"}': {".": {}, "f:name": {}, "f:image": {}}
    }
    assert read_managers({"metadata": {"managedFields": entries}}) == first.managers


def test_applied_items_come_in_the_order_of_the_config_among_those_of_others() -> None:
    live = pod({"name": "x"}, {"name": "b"}, {"name": "y"})
    result = applied(live, pod({"name": "a"}, {"name": "b"}, {"name": "c"}), {}, ANN)
    assert [c["name"] for c in result.obj["spec"]["containers"]] == ["x", "a", "b", "y", "c"]


def test_applying_twice_changes_nothing() -> None:
    config = pod({"name": "a", "image": "1"})
    first = applied({}, config, {}, ANN)
    assert applied(first.obj, config, first.managers, ANN) == first
