"""What is killed comes back, and only what it was doing is lost: control plane, agent, Envoy and application, under load.

The load goes two ways at once: from outside through the gateway, and from one sidecar to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meltemi.kube.errors import ApiError
from meltemi.kube.resources import EVENTS, PODS, Key, Obj

from .load import Load, LoadWithin, get
from .rig import Mesh, Process, containers, is_ready, kill

# Requests that were sent this long after a process was killed are not in flight on it any more; seconds.
_MARGIN = 0.25

ECHO = "http://echo.shop:8080/?delay=0.02"


class Loads:
    """Both loads, and where they go."""

    def __init__(self, outside: Load, within: LoadWithin) -> None:
        self.outside = outside
        self.within = within

    async def more(self, count: int) -> None:
        """Wait until both have gone on for so many requests."""
        await asyncio.gather(self.outside.more(count), self.within.more(count))


@asynccontextmanager
async def load(shop: Mesh, workers: int = 3) -> AsyncIterator[Loads]:
    """Both loads while the context is open."""
    door = await shop.host_port("istio-ingress", "gateway")
    caller = await shop.host_port("shop", "caller")
    async with (
        Load(f"http://127.0.0.1:{door}/?delay=0.02", workers=workers) as outside,
        LoadWithin(f"http://127.0.0.1:{caller}", ECHO, workers=workers) as within,
    ):
        yield Loads(outside, within)


def only_in_flight(loads: Loads, killed: float, *, workers: int = 3) -> None:
    """Assert that nothing was lost but what was under way when a process was killed (Unix time)."""
    shift = time.time() - time.monotonic()
    for lost, base in ((loads.outside.lost, shift), (loads.within.lost, 0.0)):
        late = [each for each in lost if each.at + base > killed + _MARGIN]
        assert not late, (killed, lost)
        assert len(lost) <= 2 * workers, lost


async def until_proxies(shop: Mesh, holds: Callable[[dict[str, Any]], bool], seconds: float = 30) -> dict[str, Any]:
    """Wait until the control plane is there and tells of its proxies what a condition wants."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(ApiError):
                if holds(proxies := await shop.proxies()):
                    return proxies


async def test_the_control_plane_may_die_without_a_request_being_lost_or_anything_sent_again(shop: Mesh) -> None:
    before = await shop.proxies()
    first = shop.control_plane()
    async with load(shop) as loads:
        kill(first)
        await loads.more(50)
        proxies = await until_proxies(
            shop,
            lambda now: (
                now.keys() == before.keys() and all(each["settled"] == each["revision"] for each in now.values())
            ),
        )
        await loads.more(50)
        assert {name: proxy["sent"] for name, proxy in proxies.items()} == dict.fromkeys(before, 0)
        assert shop.control_plane().pid != first.pid

        applied = await asyncio.to_thread(shop.meltemi, "apply", "--wait", "-f", "-", typed=header("after"))
        assert "live" in applied.text
        door = await shop.host_port("istio-ingress", "gateway")
        assert (await get(f"http://127.0.0.1:{door}/", host="marked.example")).headers["x-mark"] == "after"
        await loads.more(20)
    assert loads.outside.lost == []
    assert loads.within.lost == []
    sent = {name: proxy["sent"] for name, proxy in (await shop.proxies()).items()}
    assert sum(sent.values()) > 0
    assert sum(count == 0 for count in sent.values()) >= 1  # Only who is concerned was sent something.
    shop.meltemi("delete", "-f", "-", typed=header("after"))


def header(value: str) -> str:
    """A change of the routes of the gateway alone."""
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: marked, namespace: shop}}
spec:
  hosts: [marked.example]
  gateways: [door]
  http:
    - headers: {{response: {{set: {{x-mark: {value}}}}}}}
      route: [{{destination: {{host: echo, port: {{number: 8080}}}}}}]
"""


async def test_the_agent_may_die_without_a_request_being_lost_and_certificates_go_on(shop: Mesh) -> None:
    first = shop.agent()
    async with load(shop) as loads:
        kill(first)
        await loads.more(50)
        pod = (await shop.pods("app=echo", 2))[0]
        await until_agent_serves(shop, pod)
        await loads.more(50)
    assert loads.outside.lost == []
    assert loads.within.lost == []
    assert shop.agent().pid != first.pid

    # A new pod gets its certificate from the new one, and is called.
    shop.kubectl("scale", "deployment/echo", "-n", "shop", "--replicas=3")
    pods = await shop.pods("app=echo", 3)
    door = await shop.host_port("istio-ingress", "gateway")
    async with Load(f"http://127.0.0.1:{door}/", workers=2) as answers:
        async with asyncio.timeout(20):
            while {each.text for each in answers.asked} != {pod["metadata"]["name"] for pod in pods}:
                await answers.more(1)
    assert answers.lost == []
    shop.kubectl("scale", "deployment/echo", "-n", "shop", "--replicas=2")
    await shop.pods("app=echo", 2)


async def until_agent_serves(shop: Mesh, pod: Obj) -> None:
    """Wait until the agent answers for a pod on its port 15020."""
    command = ("exec", "-n", "shop", pod["metadata"]["name"], "-c", "echo", "--")
    probe = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:15020/stats/prometheus').status)"
    async with asyncio.timeout(20):
        while "200" not in (await asyncio.to_thread(shop.kubectl, *command, "python3", "-c", probe, status=None)).out:
            pass


@pytest.mark.parametrize("what", ["application", "Envoy"])
async def test_of_two_replicas_one_dies_and_only_what_was_in_flight_on_it_is_lost(shop: Mesh, what: str) -> None:
    pods = await shop.pods("app=echo", 2)
    name = pods[0]["metadata"]["name"]
    container = "echo" if what == "application" else "istio-proxy"
    before = containers(pods[0])[container]["restartCount"]

    async with load(shop) as loads:
        victim = shop.envoy(name) if what == "Envoy" else application(shop, name)
        killed = time.time()
        kill(victim)
        await loads.more(60)
        known = await shop.until(
            PODS,
            lambda known: (
                is_ready(pod := known[Key("shop", name)]) and containers(pod)[container]["restartCount"] > before
            ),
        )
        seen = len(loads.outside.asked)
        async with asyncio.timeout(20):  # It takes part again.
            while not any(each.text == name for each in loads.outside.asked[seen:]):
                await loads.outside.more(1)
    only_in_flight(loads, killed)
    assert len(loads.within.asked) > 60

    status = containers(known[Key("shop", name)])[container]
    assert status["restartCount"] == before + 1
    assert status["lastState"]["terminated"]["exitCode"] == 137
    row = next(line.split() for line in shop.kubectl("get", "pods", "-n", "shop").out.splitlines() if name in line)
    assert row[1] == "2/2"
    assert int(row[3]) >= 1


def application(shop: Mesh, pod: str) -> Process:
    """The process of a pod's application."""
    return shop.find("echo.py", HOSTNAME=pod)[0]


CRASHING = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: crashing, namespace: shop}
spec:
  selector: {matchLabels: {app: crashing}}
  template:
    metadata: {labels: {app: crashing}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: app, command: [python3, -c, "print('no such book', flush=True); raise SystemExit(3)"]}]
"""


async def test_a_crash_loop_is_shown_with_a_clear_message_and_longer_and_longer_pauses(shop: Mesh) -> None:
    shop.kubectl("apply", "-f", "-", typed=CRASHING)

    def looping(known: dict[Key, Obj]) -> list[Obj]:
        found = [pod for key, pod in known.items() if key.name.startswith("crashing")]
        statuses = [containers(pod).get("app") or {} for pod in found]
        return [
            status
            for status in statuses
            if status.get("restartCount", 0) >= 2
            and (status["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        ]

    known = await shop.until(PODS, looping)
    status = looping(known)[0]
    assert "back-off" in status["state"]["waiting"]["message"]
    assert "app" in status["state"]["waiting"]["message"]
    assert status["lastState"]["terminated"]["exitCode"] == 3
    row = shop.kubectl("get", "pods", "-l", "app=crashing", "-n", "shop", "--no-headers").out.split()
    assert row[1] == "1/2"
    assert row[2] in ("CrashLoopBackOff", "Error")
    assert "no such book" in shop.kubectl("logs", row[0], "-n", "shop", "-c", "app", "--previous").out
    await shop.until(EVENTS, lambda known: {0.5, 1.0, 2.0} <= back_offs(known))
    glance = shop.meltemi("status", status=1).text
    assert "crashing" in glance
    shop.kubectl("delete", "deployment", "crashing", "-n", "shop")


def back_offs(events: dict[Key, Obj]) -> set[float]:
    """The pauses that a crash loop's events tell of; seconds."""
    told = [event for key, event in events.items() if event["reason"] == "BackOff" and key.name.startswith("crashing")]
    return {float(event["message"].split()[1].removesuffix("s")) for event in told}
