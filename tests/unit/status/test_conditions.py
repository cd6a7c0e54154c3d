"""The status of an object follows from its problems and from how far it has come."""

from __future__ import annotations

from typing import Any

from meltemi.base.problems import Problem, Severity
from meltemi.base.refs import Ref
from meltemi.status.conditions import status, without_times

REF = Ref("VirtualService", "shop", "reviews")
NOW, BEFORE = "2026-02-02T00:00:00Z", "2026-01-01T00:00:00Z"


def made(*problems: Problem, old: dict[str, Any] | None = None, behind: int = 0, generation: int = 3) -> dict[str, Any]:
    return status(old or {}, generation=generation, problems=problems, behind=behind, proxies=5, now=NOW)


def condition(of: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(each for each in of["conditions"] if each["type"] == kind)


def test_what_is_right_and_taken_by_all_is_accepted_and_programmed() -> None:
    new = made()
    assert condition(new, "Accepted")["status"] == "True"
    assert condition(new, "Programmed")["status"] == "True"
    assert condition(new, "Programmed")["observedGeneration"] == new["observedGeneration"] == 3


def test_a_mistake_is_told_with_its_path_and_reason() -> None:
    new = made(Problem(ref=REF, path="spec.hosts[0]", message="there is no such host", code="HostNotFound"))
    accepted = condition(new, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "HostNotFound")
    assert accepted["message"] == "spec.hosts[0]: there is no such host"


def test_warnings_take_nothing_out_of_effect_and_stand_among_the_messages() -> None:
    new = made(Problem(ref=REF, message="late", code="UnreachableRule", severity=Severity.WARNING, hint="move it"))
    assert condition(new, "Accepted")["status"] == "True"
    assert new["validationMessages"][0]["level"] == "WARNING"
    assert new["validationMessages"][0]["hint"] == "move it"


def test_what_envoy_refused_is_accepted_but_not_programmed() -> None:
    new = made(Problem(ref=REF, message="Envoy refused it: no", code="RejectedByProxy"))
    assert condition(new, "Accepted")["status"] == "True"
    assert condition(new, "Programmed")["reason"] == "RejectedByProxy"


def test_proxies_that_are_behind_are_counted() -> None:
    programmed = condition(made(behind=2), "Programmed")
    assert (programmed["status"], programmed["reason"]) == ("False", "Pending")
    assert programmed["message"].startswith("2 of 5 proxies")


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    old = made()
    for each in old["conditions"]:
        each["lastTransitionTime"] = BEFORE
    new = made(old=old, behind=1, generation=4)
    assert condition(new, "Accepted")["lastTransitionTime"] == BEFORE
    assert condition(new, "Programmed")["lastTransitionTime"] == NOW
    assert without_times(made(old=old)) == without_times(old)


def test_addresses_that_hosts_were_given_are_told_and_taken_back() -> None:
    given = [{"value": "240.240.0.7", "host": "db.example.org"}]
    plain = status({}, generation=1, problems=(), behind=0, proxies=0, now=NOW)
    with_addresses = status({}, generation=1, problems=(), behind=0, proxies=0, now=NOW, addresses=given)
    assert "addresses" not in plain
    assert with_addresses["addresses"] == given
    assert without_times(with_addresses) != without_times(plain)
    without = status(with_addresses, generation=1, problems=(), behind=0, proxies=0, now=NOW, addresses=())
    assert without["addresses"] is None
    assert without_times(without) == without_times(plain)
