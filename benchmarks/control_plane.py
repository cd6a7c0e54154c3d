"""What a change costs the control plane, and how long it takes to reach five hundred proxies.

    python -m benchmarks.control_plane [--quick]

Three control planes run side by side: A with 1,000 services of ten pods, B with 10,000, and A' with 1,000 again. Each
has its own five hundred delta-xDS clients in another process, over mutual TLS. Every change is made on each in turn
(A, B, A', A, B, A', ...). Costs are CPU seconds of the control plane's process, medians of all rounds; times are wall
time until the last proxy concerned has acknowledged. B / A says whether a cost is flat, A' / A what the noise is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.big_mesh import ISLET_PROXIES, PODS, BigMesh
from benchmarks.certificates import equip
from benchmarks.processes import Worker, worker
from benchmarks.report import Row, finish, median, percentile, print_table
from meltemi.envoy.resource import CLUSTER, ENDPOINTS

SEEDS = 20  # clients that are sent everything; the others hold what these hold when they connect
CHANGES = {
    "a VirtualService changes": "change_route",
    "a pod moves, everybody subscribed": "change_endpoint",
    "a pod moves, 10 proxies see it": "change_islet",
    "a pod is annotated": "annotate_pod",
    "a service comes or goes": "service_comes_or_goes",
}


class Side(msgspec.Struct):
    """One control plane with its clients, and what was measured on it."""

    name: str
    plane: Worker
    fleet: Worker
    port: int = 0
    loaded: dict[str, Any] = {}
    first: dict[str, Any] = {}
    again: dict[str, Any] = {}
    before: dict[str, Any] = {}
    classes: dict[str, Any] = {}
    after: dict[str, Any] = {}
    changes: dict[str, list[dict[str, Any]]] = {}

    def load(self) -> None:
        """Take in the facts."""
        self.loaded = self.plane.answer()
        self.port = self.loaded["port"]
        self.before = self.plane.do("memory")

    def join(self, proxies: int, port: int | None = None, first: int = 0) -> dict[str, Any]:
        """Connect clients, and wait until they have everything; what that took."""
        self.plane.do("expect", proxies=proxies)
        self.fleet.begin("connect", port=port or self.port, first=first, count=proxies)
        found = self.plane.do("settle")
        self.fleet.answer()
        return found

    def populate(self, proxies: int) -> None:
        """Connect all clients: a few are sent everything, the others say that they hold it."""
        self.first = self.join(SEEDS)
        self.classes = self.plane.do("memory")
        self.fleet.do("imitate", seeds=SEEDS)
        self.join(proxies - SEEDS, first=SEEDS)
        self.after = self.plane.do("memory")

    def measure(self, what: str) -> None:
        """Make a change."""
        self.changes.setdefault(what, []).append(self.plane.do("change", what=what))

    def cost(self, what: str) -> float:
        """The CPU of a change, in milliseconds: the median."""
        return median([each["cpu"] for each in self.changes[what]]) * 1e3

    def times(self, what: str) -> tuple[float, float]:
        """Milliseconds until the last proxy acknowledged: p50 and p99."""
        times = [each["wall"] * 1e3 for each in self.changes[what]]
        return median(times), percentile(times, 0.99)

    def per_proxy(self) -> float:
        """KB of memory for each proxy after the first few, which stand for all classes of proxies."""
        grown = self.after["resident"] - self.classes["resident"]
        return float(grown * 1e3 / (self.after["connections"] - self.classes["connections"]))

    def bytes(self, what: str) -> int:
        """Bytes sent by all such changes."""
        return sum(each["bytes"] for each in self.changes[what])


def restart(old: Side, new: Side, proxies: int) -> dict[str, Any]:
    """All clients of one control plane come to another that has the same facts and knows none of them."""
    old.fleet.do("disconnect")
    new.plane.do("expect", proxies=proxies)
    old.fleet.begin("connect", port=new.port)
    found = new.plane.do("settle")
    old.fleet.answer()
    old.fleet.do("disconnect")
    return found


def on_demand(side: Side, proxies: int, mesh: BigMesh, rounds: int) -> None:
    """Clients that name the few clusters they want: ten of them want the one that changes."""
    few = [[_cluster(mesh, (number * 20 + each) % 900 + 50) for each in range(20)] for number in range(50)]
    few[0][0] = _cluster(mesh, 7)
    side.fleet.do("disconnect")
    side.fleet.do("demand", clusters=few)
    side.plane.do("expect", proxies=proxies, types=[CLUSTER, ENDPOINTS])
    side.fleet.do("connect", port=side.port)
    side.plane.do("settle")
    for _ in range(rounds):
        side.measure("change_seventh")


def _cluster(mesh: BigMesh, number: int) -> str:
    service = mesh.host_of(number)
    return f"outbound|{mesh.port_of(number)}||{service}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the sizes and fewer rounds, to try the benchmark"
    )
    parser.add_argument("--json", action="store_true", help="print rows for `python -m benchmarks`")
    parser.add_argument("--large", type=int, default=0, help="how many services B has")
    parser.add_argument("--proxies", type=int, default=0, help="how many clients each has")
    chosen = parser.parse_args()
    quick = chosen.quick
    proxies, rounds = chosen.proxies or (100 if quick else 500), 6 if quick else 40
    sizes = {"A": 1_000, "B": chosen.large or (2_000 if quick else 10_000), "A'": 1_000}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meltemi-bench-")))
        sides = {name: _side(stack, directory / str(number), name, size, proxies)
                 for number, (name, size) in enumerate(sizes.items())}  # fmt: skip
        for side in sides.values():
            side.load()
        a, b, again = sides.values()
        a.populate(proxies)
        restarted = [restart(a, again, proxies), restart(a, again, proxies)]
        a.join(proxies)
        b.populate(proxies)
        again.populate(proxies)
        for what in CHANGES.values():
            for _ in range(rounds if what != "service_comes_or_goes" else rounds // 2):
                for side in sides.values():
                    side.measure(what)
        churned = {side.name: side.plane.do("churn", per_second=100, seconds=3 if quick else 8) for side in (a, b)}
        for side in sides.values():
            on_demand(side, proxies, BigMesh(sizes[side.name]), rounds)
        failures = [each for side in sides.values() for each in side.fleet.do("statistics")["failures"]]
    if failures:
        print(f"{len(failures)} clients failed: {failures[0]}", file=sys.stderr)
    if "--json" not in sys.argv:
        _print_details(list(sides.values()), sizes, proxies)
    finish(_rows(a, b, again, restarted, churned, proxies, f"{sizes['B']:,}"), "Budgets of the control plane")


def _side(stack: ExitStack, state: Path, name: str, services: int, proxies: int) -> Side:
    """Start a control plane, which begins to load, and its clients."""
    state.mkdir()
    # One authority for A and A': the clients of one go to the other.
    shared = state.parent / ("0" if name == "A'" else state.name)
    if shared == state:
        equip(shared, BigMesh(services).identities(proxies))
    plane = stack.enter_context(worker("benchmarks.plane", "--services", str(services), "--state", str(shared)))
    fleet = stack.enter_context(worker("benchmarks.fleet"))
    fleet.do("muster", directory=str(shared))
    plane.begin("load")
    return Side(name, plane, fleet)


def _print_details(sides: list[Side], sizes: dict[str, int], proxies: int) -> None:
    a, b, again = sides
    print(f"\n{proxies} proxies; A has {sizes['A']:,} services, B {sizes['B']:,}, A' as many as A; {PODS} pods each\n")
    rows = []
    for name, what in {**CHANGES, "a pod moves, 10 on demand": "change_seventh"}.items():
        costs = [side.cost(what) for side in sides]
        p50, p99 = a.times(what)
        rows.append(
            [
                name,
                *(f"{cost:.2f} ms" for cost in costs),
                f"{costs[1] / costs[0]:.2f}",
                f"{costs[2] / costs[0]:.2f}",
                f"{p50:.0f} / {p99:.0f} ms",
                f"{a.bytes(what) // len(a.changes[what]):,}",
            ]
        )
    print_table(("change", "CPU of A", "B", "A'", "B / A", "A' / A", "last ACK p50 / p99", "bytes"), rows)
    rows = [
        [
            side.name,
            f"{side.loaded['cpu']:.1f} s",
            f"{side.loaded['memory']:.0f} MB",
            f"{side.first['cpu'] / SEEDS * 1e3:.1f} ms",
            f"{side.first['bytes'] / SEEDS / 1e6:.1f} MB",
            f"{side.classes['resident'] - side.before['resident']:.0f} MB",
            f"{side.per_proxy():.0f} KB",
            f"{side.after['resident']:.0f} MB",
        ]
        for side in (a, b, again)
    ]
    head = ("", "load", "facts take", "a new proxy", "is sent", "classes take", "each proxy", "memory in all")
    print_table(head, rows)


def _rows(
    a: Side, b: Side, again: Side, restarted: list[dict[str, Any]], churned: dict[str, Any], proxies: int, large: str
) -> list[Row]:
    route, islet, demand = "change_route", "change_islet", "change_seventh"
    p50, p99 = a.times(route)
    noise = again.times(route)[0] / p50
    behind = churned["A"]["behind"]
    half = len(behind) // 2
    early, late = max(behind[1:half]), max(behind[half:])
    sent = max(each["resources"] for each in restarted)
    slowest = max(each["wall"] for each in restarted)
    return [
        Row(
            what=f"a VirtualService changes, {proxies} proxies: CPU",
            budget="< 50 ms, the same at 10,000 services",
            measured=f"{a.cost(route):.1f} ms; {b.cost(route):.1f} ms at {large} ({b.cost(route) / a.cost(route):.2f})",
            within=a.cost(route) < 50 and b.cost(route) < 50,
            noise=again.cost(route) / a.cost(route),
        ),
        Row(
            what=f"an endpoint changes, {ISLET_PROXIES} of {proxies} proxies see it: CPU",
            budget="< 2 ms",
            measured=f"{a.cost(islet):.2f} ms; {b.cost(islet):.2f} ms at {large} ({b.cost(islet) / a.cost(islet):.2f})",
            within=a.cost(islet) < 2,
            noise=again.cost(islet) / a.cost(islet),
        ),
        Row(
            what=f"an endpoint changes, {ISLET_PROXIES} of {proxies} proxies asked for it: CPU",
            budget="< 2 ms",
            measured=f"{a.cost(demand):.2f} ms; {b.cost(demand):.2f} ms at {large}"
            f" ({b.cost(demand) / a.cost(demand):.2f})",
            within=a.cost(demand) < 2,
            noise=again.cost(demand) / a.cost(demand),
        ),
        Row(
            what=f"change to last ACK, {proxies} proxies",
            budget="p50 < 60 ms, p99 < 120 ms",
            measured=f"p50 {p50:.0f} ms, p99 {p99:.0f} ms",
            within=p50 < 60 and p99 < 120,
            noise=noise,
        ),
        Row(
            what="a change that concerns nobody",
            budget="0 bytes sent",
            measured=f"{a.bytes('annotate_pod') + b.bytes('annotate_pod')} bytes",
            within=not a.bytes("annotate_pod") + b.bytes("annotate_pod"),
        ),
        Row(
            what=f"restart, {proxies} proxies come back, nothing changed",
            budget="0 resources sent, all in sync < 3 s",
            measured=f"{sent} sent, {slowest:.1f} s ({restarted[0]['cpu']:.1f} s of CPU)",
            within=not sent and slowest < 3,
            noise=restarted[1]["cpu"] / restarted[0]["cpu"],
        ),
        Row(
            what="100 pods move each second",
            budget="no growing backlog",
            measured=f"{late / proxies:.0f} names behind per proxy at most, {early / proxies:.0f} in the first half,"
            f" all in sync after {churned['A']['drain'] * 1e3:.0f} ms; CPU {_busy(churned['A']):.0%},"
            f" {_busy(churned['B']):.0%} at {large}",
            within=churned["A"]["drain"] < 1 and late <= max(2 * early, 10 * proxies),
        ),
        Row(
            what="memory per connected proxy (1,000 services)",
            budget="< 100 KB",
            measured=f"{a.per_proxy():.0f} KB",
            within=a.per_proxy() < 100,
            noise=again.per_proxy() / a.per_proxy(),
        ),
        Row(
            what=f"memory in all (1,000 services x {PODS} pods, {proxies} proxies)",
            budget="< 500 MB",
            measured=f"{a.after['resident']:.0f} MB; {b.after['resident']:.0f} MB at {large}",
            within=a.after["resident"] < 500,
            noise=again.after["resident"] / a.after["resident"],
        ),
    ]


def _busy(churned: dict[str, Any]) -> float:
    share: float = churned["cpu"] / churned["wall"]
    return share


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"({time.monotonic() - began:.0f} s)", file=sys.stderr)
