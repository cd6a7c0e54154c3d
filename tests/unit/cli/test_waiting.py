"""Waiting until something is live: turns, progress, and what is said in the end."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from meltemi.base.refs import Ref
from meltemi.cli import waiting
from meltemi.cli.meshapi import Live, MeshApi, MeshProblem

REVIEWS = Ref("VirtualService", "bookshop", "reviews")


def result(*lives: Live, seconds: float = 0.038) -> waiting.Result:
    return waiting.Result(tuple((waiting.Awaited(REVIEWS, "7"), live) for live in lives), seconds)


def live(*behind: str, seen: bool = True, **more: Any) -> Live:
    return Live(live=seen and not behind, seen=seen, proxies=15, behind=behind, **more)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (result(live()), "live at 15 proxies in 38 ms"),
        (result(Live(live=True, seen=True, proxies=1), seconds=1.24), "live at 1 proxy in 1.2 s"),
        (result(Live(live=True, seen=True)), "live in 38 ms (no proxy is connected)"),
        (result(), "live in 38 ms (no proxy is connected)"),
        (result(live("b", "a"), seconds=125), "not live after 2 min 5 s: 2 of 15 proxies have not acknowledged: a, b"),
        (
            result(live(seen=False)),
            "not live after 38 ms: the control plane has not read VirtualService bookshop/reviews",
        ),
    ],
)
def test_the_last_line_says_how_it_went(found: waiting.Result, told: str) -> None:
    assert waiting.verdict(found)[0] == told


def test_a_deletion_has_its_own_words() -> None:
    assert waiting.verdict(result(live()), deletion=True)[0] == "gone from 15 proxies in 38 ms"


def test_a_warning_leaves_an_object_live_and_an_error_does_not() -> None:
    warning = MeshProblem("VirtualService", "bookshop", "reviews", "odd", severity="Warning")
    assert result(live(problems=(warning,))).is_live
    assert not result(live(problems=(MeshProblem("VirtualService", "bookshop", "reviews", "bad"),))).is_live


class Mesh:
    """A control plane whose proxies acknowledge one after the other, one with each turn."""

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self.turns: list[float] = []

    async def wait(self, ref: Ref, resource_version: str, seconds: float) -> Live:
        self.turns.append(seconds)
        answer = live(*(f"p{index}" for index in range(self.behind)))
        self.behind = max(0, self.behind - 1)
        return answer


class Shown(waiting.Progress):
    """A progress whose lines are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.is_shown = True
        self.lines: list[str] = []

    def show(self, text: str) -> None:
        self.lines.append(text)

    def clear(self) -> None:
        self.lines.append("")


async def test_while_somebody_watches_the_control_plane_is_asked_in_short_turns() -> None:
    mesh, progress = Mesh(behind=2), Shown()
    awaited = [waiting.Awaited(REVIEWS, "7")]
    found = await waiting.until_live(cast("MeshApi", mesh), awaited, time.monotonic() + 30, progress)
    assert found.is_live
    assert progress.lines == [
        "waiting: 13 of 15 proxies have acknowledged",
        "waiting: 14 of 15 proxies have acknowledged",
        "",
    ]
    assert max(mesh.turns) == 0.25


async def test_while_nobody_watches_it_is_asked_once_for_the_whole_time() -> None:
    mesh = Mesh(behind=1)
    progress = waiting.Progress()
    progress.is_shown = False
    awaited = [waiting.Awaited(REVIEWS, "7")]
    found = await waiting.until_live(cast("MeshApi", mesh), awaited, time.monotonic() + 30, progress)
    assert not found.is_live
    assert len(mesh.turns) == 1
    assert 29 < mesh.turns[0] <= 30


@pytest.mark.parametrize(
    ("status", "is_done"),
    [
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, True),
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2}, False),
        ({}, False),
    ],
)
def test_a_deployment_has_rolled_out_when_only_its_newest_pods_are_left(status: dict[str, Any], is_done: bool) -> None:
    deployment = {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}
    assert waiting.is_rolled_out(deployment) is is_done
