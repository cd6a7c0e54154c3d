"""What the API shows of a pod, made from what is known of its containers. Source: Kubernetes core/v1 PodStatus.

Everything here is pure. A condition keeps its transition time as long as its status does not change, which is why the
previous status is a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from meltemi.api.core import Pod
from meltemi.api.core.pods import ContainerStatus, PodIp, PodStatus
from meltemi.api.meta import Condition

_ALREADY_SET = ("PodScheduled", "Initialized", "ContainersReady", "Ready")


class PodFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the runner knows of a pod. `message` says why it cannot be started, if it cannot."""

    address: str = ""
    host_address: str = ""
    start_time: str = ""
    containers: tuple[ContainerStatus, ...] = ()
    init_containers: tuple[ContainerStatus, ...] = ()
    initialized: bool = False
    init_failed: bool = False
    finished: bool = False
    stopping: bool = False
    reason: str = ""
    message: str = ""


def pod_status(pod: Pod, previous: PodStatus, facts: PodFacts, now: str) -> PodStatus:
    """The pod's status. `previous` is the last one told, and `now` the time (RFC 3339)."""
    phase = _phase(facts)
    not_ready = [status.name for status in facts.containers if not status.ready]
    completed = phase == "Succeeded"
    running = facts.initialized and not facts.finished
    containers_ready = running and not not_ready and bool(facts.containers)
    gates = {condition.type: condition.status for condition in previous.conditions or pod.status.conditions}
    closed = [gate.condition_type for gate in pod.spec.readiness_gates if gates.get(gate.condition_type) != "True"]
    why_not = "PodCompleted" if completed else "ContainersNotReady"
    unready_text = "" if completed else f"containers with unready status: [{' '.join(not_ready)}]"
    told = (
        _condition("PodScheduled", True),
        _condition("Initialized", facts.initialized, "ContainersNotInitialized", _not_initialized(facts)),
        _condition("ContainersReady", containers_ready, why_not, unready_text),
        _condition(
            "Ready",
            containers_ready and not closed and not facts.stopping,
            *_why_unready(facts, closed, why_not, unready_text),
        ),
    )
    others = tuple(one for one in pod.status.conditions if one.type not in _ALREADY_SET)
    before = {condition.type: condition for condition in previous.conditions}
    return PodStatus(
        phase=phase,
        reason=facts.reason,
        message=facts.message,
        conditions=tuple(_since(condition, before, now) for condition in told) + others,
        pod_ip=facts.address,
        pod_ips=(PodIp(ip=facts.address),) if facts.address else (),
        host_ip=facts.host_address,
        start_time=facts.start_time,
        container_statuses=facts.containers,
        init_container_statuses=facts.init_containers,
    )


def _phase(facts: PodFacts) -> str:
    if facts.init_failed:
        return "Failed"
    if facts.finished:
        return "Succeeded" if all(_exit_code(status) == 0 for status in facts.containers) else "Failed"
    if not facts.initialized or not facts.containers:
        return "Pending"
    never_ran = any(_never_ran(status) for status in facts.containers)
    return "Pending" if never_ran else "Running"


def _never_ran(status: ContainerStatus) -> bool:
    return status.state is not None and status.state.waiting is not None and status.last_state is None


def _exit_code(status: ContainerStatus) -> int:
    state = status.state
    return state.terminated.exit_code if state and state.terminated else 0


def _not_initialized(facts: PodFacts) -> str:
    names = " ".join(status.name for status in facts.init_containers if not _is_done(status))
    return f"containers with incomplete status: [{names}]"


def _is_done(status: ContainerStatus) -> bool:
    state = status.state
    return bool(
        state and ((state.terminated and state.terminated.exit_code == 0) or (state.running and status.started))
    )


def _why_unready(facts: PodFacts, closed: Iterable[str], why_not: str, text: str) -> tuple[str, str]:
    if facts.stopping:
        return "PodTerminating", "the pod is being ended"
    gates = list(closed)
    if gates and "[]" in text:
        return "ReadinessGatesNotReady", f"readiness gates not met: [{' '.join(gates)}]"
    return why_not, text


def _condition(kind: str, holds: bool, reason: str = "", message: str = "") -> Condition:
    if holds:
        return Condition(type=kind, status="True")
    return Condition(type=kind, status="False", reason=reason, message=message)


def _since(condition: Condition, before: dict[str, Condition], now: str) -> Condition:
    old = before.get(condition.type)
    since = old.last_transition_time if old and old.status == condition.status and old.last_transition_time else now
    return msgspec.structs.replace(condition, last_transition_time=since)
