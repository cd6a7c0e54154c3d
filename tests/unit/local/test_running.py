"""The small pure decisions of the pod runner: back-off, probes' counting, addresses, `/etc` files, status."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest

from meltemi.api.core import Container, Pod, PodSpec
from meltemi.api.core.pods import (
    ContainerPort,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    PodStatus,
    Probe,
)
from meltemi.api.meta import Condition, ObjectMeta
from meltemi.inject.policy import STATUS
from meltemi.local.backoff import Backoff
from meltemi.local.network import AddressesExhaustedError, AddressPool
from meltemi.local.pod_status import PodFacts, pod_status
from meltemi.local.probes import Outcome, Tally, port_number
from meltemi.local.rundir import DnsSettings, hosts_file, resolv_conf

GOOD, BAD = Outcome(True), Outcome(False, "no")


def test_the_wait_doubles_up_to_a_bound() -> None:
    backoff = Backoff(first=0.5, longest=3)
    assert [backoff.wait(failures) for failures in (1, 2, 3, 4, 5, 1000)] == [0.5, 1, 2, 3, 3, 3]


def test_a_long_run_is_forgiven() -> None:
    backoff = Backoff(forgiven_after=60)
    assert backoff.failures(4, ran=59) == 5
    assert backoff.failures(4, ran=61) == 1


def test_a_probe_changes_its_answer_at_its_thresholds() -> None:
    tally = Tally(Probe(success_threshold=2, failure_threshold=3), initially=False)
    said = [(tally.count(outcome), tally.is_good) for outcome in (GOOD, BAD, GOOD, GOOD, BAD, BAD, GOOD, BAD, BAD, BAD)]
    assert [good for _, good in said] == [False, False, False, True, True, True, True, True, True, False]
    assert [reached for reached, _ in said] == [False, False, False, True, False, False, False, False, False, True]


def test_a_port_is_found_by_its_name() -> None:
    container = Container(name="app", ports=(ContainerPort(name="web", container_port=8080),))
    assert [port_number(port, container) for port in (80, "81", "web")] == [80, 81, 8080]
    with pytest.raises(ValueError, match="container app has no port named 'wep'"):
        port_number("wep", container)


def test_an_address_comes_again_only_after_all_others() -> None:
    pool = AddressPool(IPv4Network("10.0.0.0/29"), reserved=2)
    first = [pool.take() for _ in range(3)]
    pool.release(first[0])
    assert [str(address) for address in (*first, pool.take(), pool.take(), pool.take())] == [
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.4",
        "10.0.0.5",
        "10.0.0.6",
        "10.0.0.2",
    ]
    with pytest.raises(AddressesExhaustedError):
        pool.take()


def pod(spec: dict[str, object], **meta: object) -> Pod:
    """A pod from its spec."""
    return Pod(metadata=ObjectMeta(name="db-0", namespace="data", **meta), spec=msgspec.convert(spec, PodSpec))  # type: ignore[arg-type]


def test_hosts_has_the_pods_names_and_its_aliases() -> None:
    spec = {"subdomain": "db", "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a", "b"]}]}
    text = hosts_file(pod(spec), IPv4Address("10.244.1.7"), "cluster.local")
    assert text.splitlines()[2:] == ["10.244.1.7\tdb-0.db.data.svc.cluster.local db-0", "192.0.2.1\ta b"]


def test_resolv_conf_follows_the_policy_and_the_configuration() -> None:
    assert resolv_conf(pod({}), DnsSettings()) == (
        "nameserver 10.96.0.10\nsearch data.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )
    config = {"nameservers": ["192.0.2.1"], "searches": ["x.org"], "options": [{"name": "ndots", "value": "1"}]}
    own = resolv_conf(pod({"dnsPolicy": "None", "dnsConfig": config}), DnsSettings())
    assert own == "nameserver 192.0.2.1\nsearch x.org\noptions ndots:1\n"


def test_a_pod_with_a_sidecar_asks_where_it_learns_the_addresses_that_the_mesh_gives() -> None:
    def asked(**annotations: str) -> str:
        injected = {STATUS: '{"templates": ["sidecar"]}'} | annotations
        return resolv_conf(pod({}, annotations=injected), DnsSettings()).splitlines()[0]

    ranges = "traffic.sidecar.istio.io/{}OutboundIPRanges"
    assert asked() == "nameserver 10.96.0.11"
    assert asked(**{STATUS: '{"templates": ["gateway"]}'}) == "nameserver 10.96.0.10"
    assert asked(**{"sidecar.istio.io/interceptionMode": "NONE"}) == "nameserver 10.96.0.10"
    assert asked(**{ranges.format("include"): "10.0.0.0/8"}) == "nameserver 10.96.0.10"
    assert asked(**{ranges.format("exclude"): "240.0.0.0/4"}) == "nameserver 10.96.0.10"


RUNNING = ContainerState(running=ContainerStateRunning(started_at="t"))
CREATING = ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))
LOOPING = ContainerState(waiting=ContainerStateWaiting(reason="CrashLoopBackOff"))


def ended(code: int) -> ContainerState:
    """The state of a container that ended."""
    return ContainerState(terminated=ContainerStateTerminated(exit_code=code))


def container(state: ContainerState, *, ready: bool = False, last: ContainerState | None = None) -> ContainerStatus:
    """A container's status."""
    return ContainerStatus(name="app", ready=ready, state=state, last_state=last)


@pytest.mark.parametrize(
    ("facts", "phase", "ready"),
    [
        (PodFacts(), "Pending", "False"),
        (PodFacts(containers=(container(CREATING),)), "Pending", "False"),
        (PodFacts(initialized=True, containers=(container(CREATING),)), "Pending", "False"),
        (PodFacts(initialized=True, containers=(container(RUNNING),)), "Running", "False"),
        (PodFacts(initialized=True, containers=(container(RUNNING, ready=True),)), "Running", "True"),
        (PodFacts(initialized=True, containers=(container(LOOPING, last=ended(1)),)), "Running", "False"),
        (PodFacts(initialized=True, finished=True, containers=(container(ended(0)),)), "Succeeded", "False"),
        (PodFacts(initialized=True, finished=True, containers=(container(ended(1)),)), "Failed", "False"),
        (PodFacts(init_failed=True, finished=True, containers=(container(CREATING),)), "Failed", "False"),
        (PodFacts(initialized=True, stopping=True, containers=(container(RUNNING, ready=True),)), "Running", "False"),
    ],
)
def test_phase_and_readiness_follow_the_containers(facts: PodFacts, phase: str, ready: str) -> None:
    status = pod_status(pod({}), PodStatus(), facts, "now")
    conditions = {condition.type: condition for condition in status.conditions}
    assert (status.phase, conditions["Ready"].status) == (phase, ready)
    assert conditions["Ready"].status == "True" or conditions["Ready"].reason


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    facts = PodFacts(initialized=True, containers=(container(RUNNING),))
    first = pod_status(pod({}), PodStatus(), facts, "t1")
    ready = msgspec.structs.replace(facts, containers=(container(RUNNING, ready=True),))
    second = pod_status(pod({}), first, ready, "t2")
    times = {condition.type: condition.last_transition_time for condition in second.conditions}
    assert times == {"PodScheduled": "t1", "Initialized": "t1", "ContainersReady": "t2", "Ready": "t2"}


def test_a_readiness_gate_holds_the_pod_back_and_its_condition_is_kept() -> None:
    gated = pod({"readinessGates": [{"conditionType": "example.com/open"}]})
    facts = PodFacts(initialized=True, containers=(container(RUNNING, ready=True),))
    assert not pod_status(gated, PodStatus(), facts, "now").ready
    opened = msgspec.structs.replace(
        gated, status=PodStatus(conditions=(Condition(type="example.com/open", status="True"),))
    )
    status = pod_status(opened, PodStatus(), facts, "now")
    assert status.ready
    assert status.conditions[-1].type == "example.com/open"
