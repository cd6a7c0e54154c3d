"""Server-side apply under random histories: whatever managers do, these hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meltemi.local.apiserver.ownership import (
    Leaves,
    Manager,
    Managers,
    Path,
    apply,
    leaves,
    present,
    read_managers,
    updated,
    write_managers,
)
from meltemi.local.apiserver.shapes import shape_of

POD = shape_of("", "Pod")
NOW = "2026-01-01T12:00:00Z"
MANAGERS = [Manager(name, "Apply") for name in ("ann", "bob", "cat")]
EDITOR = Manager("editor", "Update")

ports = st.lists(st.sampled_from([80, 81, 82]), unique=True, max_size=2).map(
    lambda numbers: [{"containerPort": number, "protocol": "TCP"} for number in numbers]
)
containers = st.lists(st.sampled_from("abc"), unique=True, max_size=3).flatmap(
    lambda names: st.tuples(
        *(
            st.fixed_dictionaries(
                {"name": st.just(name)},
                optional={"image": st.sampled_from("xyz"), "command": st.lists(st.sampled_from("pq")), "ports": ports},
            )
            for name in names
        )
    )
)
configs = st.fixed_dictionaries(
    {"containers": containers.map(list)},
    optional={
        "hostname": st.sampled_from("uvw"),
        "nodeSelector": st.dictionaries(st.sampled_from("kl"), st.sampled_from("01"), max_size=2),
        "securityContext": st.dictionaries(st.sampled_from("mn"), st.integers(0, 2), max_size=2),
    },
).map(lambda spec: {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
steps = st.lists(st.tuples(st.sampled_from([*MANAGERS, EDITOR]), configs), max_size=8)


def run(history: list[tuple[Manager, dict[str, Any]]]) -> tuple[dict[str, Any], Managers]:
    """The object after a history of forced applies and of edits that replace it."""
    live: dict[str, Any] = {}
    managers: Managers = {}
    for who, config in history:
        if who == EDITOR:
            managers = updated(live, config, managers, who, NOW, POD)
            live = config
        else:
            outcome = apply(live, config, managers, who, NOW, POD, force=True)
            live, managers = outcome.obj, outcome.managers
        managers = present(managers, live, POD)
    return live, managers


def has(there: Leaves, path: Path) -> bool:
    """Whether there is something at a path or below it."""
    return any(leaf[: len(path)] == path for leaf in there)


@given(steps, st.sampled_from(MANAGERS), configs)
@settings(max_examples=150, deadline=None)
def test_what_was_applied_by_force_is_so(history: Any, who: Manager, config: dict[str, Any]) -> None:
    live, _ = run([*history, (who, config)])
    wanted, there = leaves(config, POD), leaves(live, POD)
    for path, value in wanted.items():
        if value in ({}, []):
            assert has(there, path)
        else:
            assert there[path] == value


@given(steps, st.sampled_from(MANAGERS), configs)
@settings(max_examples=100, deadline=None)
def test_applying_again_changes_nothing(history: Any, who: Manager, config: dict[str, Any]) -> None:
    live, managers = run([*history, (who, config)])
    outcome = apply(live, config, managers, who, NOW, POD, force=False)
    assert not outcome.disputes
    assert outcome.obj == live
    assert outcome.managers == managers


@given(steps)
@settings(max_examples=100, deadline=None)
def test_every_leaf_that_is_owned_is_there(history: Any) -> None:
    live, managers = run(history)
    there = leaves(live, POD)
    assert all(has(there, path) for entry in managers.values() for path in entry.paths)


@given(st.lists(st.tuples(st.sampled_from(MANAGERS), configs), max_size=8))
@settings(max_examples=100, deadline=None)
def test_when_all_managers_let_go_nothing_is_left(history: Any) -> None:
    live, managers = run(history)
    for who in MANAGERS:
        outcome = apply(
            live, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}, managers, who, NOW, POD, force=False
        )
        assert not outcome.disputes
        live, managers = outcome.obj, outcome.managers
    assert managers == {}
    assert leaves(live, POD) == {}


@given(steps)
@settings(max_examples=100, deadline=None)
def test_managed_fields_survive_the_wire(history: Any) -> None:
    _, managers = run(history)
    assert read_managers({"metadata": {"managedFields": write_managers(managers)}}) == managers
