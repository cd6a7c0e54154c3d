"""Faults put in on purpose: VirtualService fault injection, read into the model's."""

from __future__ import annotations

from collections.abc import Generator

from meltemi.api.networking import virtual_service as api
from meltemi.base.durations import parse_duration
from meltemi.base.grpc_status import STATUSES
from meltemi.base.problems import Problem
from meltemi.model.routes import Abort, Delay, Fault
from meltemi.resolve import problems


def fault(rule: api.HttpRoute, owner: api.VirtualService, path: str) -> Generator[Problem, None, Fault | None]:
    """The faults of a rule. One whose percentage nobody wrote meets no request, as in Istio; that is told."""
    settings = rule.fault
    if settings is None:
        return None
    delay = yield from _delay(settings.delay, owner, f"{path}.fault.delay")
    abort = yield from _abort(settings.abort, owner, f"{path}.fault.abort")
    return Fault(delay, abort) if delay or abort else None


def _delay(delay: api.Delay | None, owner: api.VirtualService, path: str) -> Generator[Problem, None, Delay | None]:
    if delay is None or delay.fixed_delay is None:
        return None
    if delay.percentage is None and not delay.percent:
        yield _unused(owner, path)
        return None
    percent = delay.percentage.value if delay.percentage is not None else float(delay.percent)
    return Delay(parse_duration(delay.fixed_delay), percent) if percent > 0 else None


def _abort(abort: api.Abort | None, owner: api.VirtualService, path: str) -> Generator[Problem, None, Abort | None]:
    if abort is None:
        return None
    if abort.percentage is None:
        yield _unused(owner, path)
        return None
    percent = abort.percentage.value
    if percent <= 0:
        return None
    if abort.grpc_status:
        return (yield from _grpc(abort.grpc_status, percent, owner, f"{path}.grpcStatus"))
    return Abort(status=abort.http_status, percent=percent) if abort.http_status else None


def _grpc(status: str, percent: float, owner: api.VirtualService, path: str) -> Generator[Problem, None, Abort | None]:
    name = status.upper()
    if name in STATUSES:
        return Abort(grpc=STATUSES.index(name), percent=percent)
    if status.isdigit() and int(status) < len(STATUSES):
        return Abort(grpc=int(status), percent=percent)
    yield problems.of(
        owner,
        path,
        "UnknownStatus",
        f"{status!r} is not a gRPC status",
        f"use one of {', '.join(STATUSES[1:])}",
    )
    return None


def _unused(owner: api.VirtualService, path: str) -> Problem:
    return problems.warning(
        owner,
        path,
        "FaultWithoutEffect",
        "the fault meets no request, because it has no percentage",
        "add percentage.value, from 0 to 100",
    )
