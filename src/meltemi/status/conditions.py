"""The status of an object, from its problems and from how far it has come. Pure: values in, JSON out.

    Accepted     the object is valid, and nothing in it was set aside
    Programmed   every proxy that it concerns has acknowledged it

Warnings stand in `validationMessages`, where Istio puts its analysis. A condition keeps its transition time while its
status stays the same, and `observedGeneration` says which version of the object it speaks of.

Source: Kubernetes API conventions ("Typical status properties"), Istio `IstioStatus`, Gateway API condition types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from meltemi.base.problems import Problem, Severity

Json = dict[str, Any]

REJECTED = "RejectedByProxy"


def status(
    old: Mapping[str, Any],
    *,
    generation: int,
    problems: Iterable[Problem],
    behind: int,
    proxies: int,
    now: str,
    addresses: Sequence[Json] | None = None,
) -> Json:
    """The status to be written. `old` is the present one, `behind` of `proxies` have not acknowledged, `now` RFC 3339.

    `addresses` are those that the hosts of a ServiceEntry were given; None for kinds that are given none.
    """
    found = sorted(set(problems))
    errors = [problem for problem in found if problem.severity is Severity.ERROR]
    conditions = [_accepted(errors), _programmed(errors, behind, proxies)]
    before = {condition.get("type"): condition for condition in old.get("conditions") or ()}
    for condition in conditions:
        condition["observedGeneration"] = generation
        same = before.get(condition["type"], {})
        unchanged = same.get("status") == condition["status"]
        condition["lastTransitionTime"] = same.get("lastTransitionTime", now) if unchanged else now
    new: Json = {"observedGeneration": generation, "conditions": conditions, "validationMessages": None}
    if found:
        new["validationMessages"] = [_message(problem) for problem in found]
    if addresses is not None:
        new["addresses"] = list(addresses) or None
    return new


def _accepted(errors: list[Problem]) -> Json:
    own = [problem for problem in errors if problem.code != REJECTED]
    if not own:
        return {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
    return {"type": "Accepted", "status": "False", "reason": own[0].code, "message": _told(own)}


def _programmed(errors: list[Problem], behind: int, proxies: int) -> Json:
    refused = [problem for problem in errors if problem.code == REJECTED]
    condition: Json = {"type": "Programmed", "status": "False"}
    if refused:
        return condition | {"reason": REJECTED, "message": _told(refused)}
    if behind:
        return condition | {"reason": "Pending", "message": f"{behind} of {proxies} proxies have not acknowledged yet"}
    return condition | {"status": "True", "reason": "Programmed", "message": ""}


def _told(problems: list[Problem]) -> str:
    return "; ".join(f"{problem.path}: {problem.message}" if problem.path else problem.message for problem in problems)


def _message(problem: Problem) -> Json:
    return {
        "level": str(problem.severity).upper(),
        "type": {"name": problem.code},
        "path": problem.path,
        "message": problem.message,
        "hint": problem.hint,
    }


def without_times(status: Mapping[str, Any]) -> Json:
    """A status without its transition times, to tell whether anything else differs."""
    conditions = [
        {key: value for key, value in condition.items() if key != "lastTransitionTime"}
        for condition in status.get("conditions") or ()
    ]
    messages = status.get("validationMessages") or []
    return {
        "generation": status.get("observedGeneration"),
        "conditions": conditions,
        "messages": messages,
        "addresses": list(status.get("addresses") or ()),
    }
