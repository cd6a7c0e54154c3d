"""What one change costs the engine in a large mesh, and that it costs the same in a small one.

Run it: `python benchmarks/flow.py` (`--quick` for a short one). It builds two meshes with the same declarations, 1,000
services with 5,000 pods and 5,000 services with 25,000 (one service more has a thousand pods, in each), and a second
small one that is the small side against itself. Every change is made in turn on each of them (A, B, A', A, B, A', ...).
The figures are medians of wall time; the ratio says whether a change is flat, and is withheld if the small side differs
from itself by more than a tenth.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.flow import Fact, Graph, Put, Remove, Table, View, using

Key = tuple[str, str]
NOISE = 0.10
SERVICES_PER_NAMESPACE = 50
WIDE = LabelSet.of({"app": "wide"})


class Namespace(msgspec.Struct, frozen=True):
    name: str
    labels: LabelSet


class Pod(msgspec.Struct, frozen=True):
    namespace: str
    name: str
    address: str
    node: str
    labels: LabelSet
    ready: bool = True
    annotation: str = ""


class KubeService(msgspec.Struct, frozen=True):
    ref: Ref
    selector: LabelSet
    ports: tuple[tuple[str, int], ...]


class VirtualService(msgspec.Struct, frozen=True):
    ref: Ref
    hosts: tuple[str, ...]
    weights: tuple[tuple[str, int], ...]


class MeshConfig(msgspec.Struct, frozen=True):
    trust_domain: str
    root_namespace: str


class Workload(msgspec.Struct, frozen=True):
    namespace: str
    name: str
    address: str
    identity: str
    labels: LabelSet
    ready: bool


class Service(msgspec.Struct, frozen=True):
    ref: Ref
    host: str
    selector: LabelSet
    ports: tuple[tuple[str, int], ...]


class Endpoints(msgspec.Struct, frozen=True):
    host: str
    members: tuple[tuple[str, str, bool], ...]


class Routes(msgspec.Struct, frozen=True):
    host: str
    clusters: tuple[tuple[str, int], ...]


class Resource(msgspec.Struct, frozen=True):
    name: str
    body: bytes


def workload(pod: Pod, *, namespaces: View[str, Namespace], mesh: View[tuple[()], MeshConfig]) -> Workload | None:
    """A pod with an address in a namespace that is part of the mesh."""
    namespace = namespaces.get(pod.namespace)
    if namespace is None or namespace.labels.get("istio-injection") != "enabled" or not pod.address:
        return None
    identity = f"spiffe://{mesh.only().trust_domain}/ns/{pod.namespace}/sa/default"
    return Workload(pod.namespace, pod.name, pod.address, identity, pod.labels, pod.ready)


def services(service: KubeService, *, mesh: View[tuple[()], MeshConfig]) -> Iterator[tuple[str, Service] | Problem]:
    """The service of the mesh that a Kubernetes Service is."""
    mesh.only()
    if not service.ports:
        yield Problem(ref=service.ref, path="spec.ports", message="a service without ports has no effect")
        return
    host = f"{service.ref.name}.{service.ref.namespace}.svc.cluster.local"
    yield host, Service(service.ref, host, service.selector, service.ports)


def endpoints(service: Service, *, workloads: View[Key, Workload]) -> Endpoints:
    """The workloads of the service's namespace that its selector selects."""
    rarest = min(service.selector.items)
    chosen = workloads.by("label", (service.ref.namespace, rarest))
    members = tuple(
        (each.address, each.identity, each.ready) for each in chosen if each.labels.contains(service.selector)
    )
    return Endpoints(service.host, members)


def routes(service: Service, *, virtual: View[Key, VirtualService]) -> Routes:
    """What a request to the service does: what the oldest VirtualService for its host says."""
    for each in virtual.by("host", service.host):
        return Routes(service.host, each.weights)
    return Routes(service.host, ((service.host, 100),))


def cluster(service: Service) -> Resource:
    """A stand-in of the size of an Envoy Cluster."""
    return Resource(f"outbound|{service.host}", service.host.encode() * 16)


def assignment(endpoints: Endpoints) -> Resource:
    """A stand-in for a ClusterLoadAssignment."""
    return Resource(endpoints.host, b"".join(address.encode() for address, _, _ in endpoints.members))


def virtual_host(routes: Routes) -> Resource:
    """A stand-in for a VirtualHost."""
    return Resource(routes.host, b"".join(b"%s=%d" % (name.encode(), weight) for name, weight in routes.clusters))


def port(number: int, rows: tuple[Service, ...]) -> tuple[int, int]:
    """One listener per port, whatever the services on it are called."""
    return (number, min(len(rows), 1))


def scope(namespace: Namespace, *, meshed: View[str, Service]) -> tuple[str, ...]:
    """What the sidecars of a namespace see: the hosts in it, and those that everybody sees."""
    return meshed.keys_by("namespace", namespace.name) + meshed.keys_by("namespace", "team-0")


class Mesh:
    """One mesh: its tables, and the changes that can be made to it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.turn = 0
        g = self.graph = Graph()
        self.namespaces: Table[str, Namespace] = g.input("core/Namespace")
        self.pods: Table[Key, Pod] = g.input("core/Pod", node=lambda pod: pod.node)
        self.services: Table[Key, KubeService] = g.input("core/Service")
        self.virtual: Table[Key, VirtualService] = g.input("networking/VirtualService", host=lambda row: row.hosts)
        self.configs: Table[str, MeshConfig] = g.input("MeshConfig")
        mesh = g.single("mesh", _mesh, using(configs=self.configs))
        workloads = g.derive(
            "workloads",
            workload,
            self.pods,
            using(namespaces=self.namespaces, mesh=mesh),
            label=lambda row: tuple([(row.namespace, item) for item in row.labels.items]),
            address=lambda row: row.address,
        )
        meshed = g.expand(
            "services",
            services,
            self.services,
            using(mesh=mesh),
            port=lambda row: tuple([number for _, number in row.ports]),
            namespace=lambda row: row.ref.namespace,
        )
        backends = g.derive("endpoints", endpoints, meshed, using(workloads=workloads))
        ways = g.derive("routes", routes, meshed, using(virtual=self.virtual))
        g.gather("ports", port, meshed, "port")
        g.derive("scopes", scope, self.namespaces, using(meshed=meshed))
        g.derive("envoy/clusters", cluster, meshed)
        g.derive("envoy/endpoints", assignment, backends)
        g.derive("envoy/virtual hosts", virtual_host, ways)

    def facts(self) -> list[Fact]:
        """Everything that is in the mesh at first."""
        facts: list[Fact] = [Put(self.configs, "mesh", MeshConfig("cluster.local", "istio-system"))]
        injected = LabelSet.of({"istio-injection": "enabled"})
        for number in range(self.size // SERVICES_PER_NAMESPACE):
            facts.append(Put(self.namespaces, f"team-{number}", Namespace(f"team-{number}", injected)))
        for number in range(self.size):
            facts.append(Put(self.services, *self.service(number)))
            facts.extend(Put(self.pods, *self.pod(number, replica)) for replica in range(5))
            if number % 5 == 0:
                facts.append(Put(self.virtual, *self.route(number, 0)))
        wide = Ref("Service", "team-1", "wide")
        facts.append(Put(self.services, ("team-1", "wide"), KubeService(wide, WIDE, (("http", 8080),))))
        facts.extend(Put(self.pods, *self.wide_pod(number, 0)) for number in range(1000))
        return facts

    def wide_pod(self, number: int, shift: int) -> tuple[Key, Pod]:
        """One of the thousand pods of one service."""
        name = f"wide-{number}"
        return ("team-1", name), Pod("team-1", name, f"10.200.{number % 250}.{shift % 251}", "node-1", WIDE)

    def service(self, number: int) -> tuple[Key, KubeService]:
        namespace, name = f"team-{number // SERVICES_PER_NAMESPACE}", f"app-{number}"
        selector = LabelSet.of({"app": name})
        return (namespace, name), KubeService(
            Ref("Service", namespace, name), selector, (("http", 8000 + number % 20),)
        )

    def pod(self, number: int, replica: int, shift: int = 0, annotation: str = "") -> tuple[Key, Pod]:
        namespace, name = f"team-{number // SERVICES_PER_NAMESPACE}", f"app-{number}-{replica}"
        labels = LabelSet.of({"app": f"app-{number}", "version": f"v{replica % 2}", "team": namespace})
        address = f"10.{(number >> 6) % 256}.{(number << 2 | replica) % 256}.{shift % 250}"
        return (namespace, name), Pod(namespace, name, address, f"node-{number % 100}", labels, annotation=annotation)

    def route(self, number: int, shift: int) -> tuple[Key, VirtualService]:
        (namespace, name), _ = self.service(number)
        host = f"{name}.{namespace}.svc.cluster.local"
        weights = ((f"{host}|v0", shift % 101), (f"{host}|v1", 100 - shift % 101))
        return (namespace, name), VirtualService(Ref("VirtualService", namespace, name), (host,), weights)

    # The changes, each a commit. They walk through the mesh so that no row is changed twice in a row.

    def one_pod(self) -> list[Fact]:
        return [Put(self.pods, *self.pod(self.turn * 7 % self.size, 1, shift=self.turn + 1))]

    def one_pod_of_a_thousand(self) -> list[Fact]:
        return [Put(self.pods, *self.wide_pod(self.turn * 7 % 1000, self.turn + 1))]

    def one_pod_concerning_nobody(self) -> list[Fact]:
        return [Put(self.pods, *self.pod(self.turn * 11 % self.size, 2, annotation=f"seen {self.turn}"))]

    def one_route(self) -> list[Fact]:
        return [Put(self.virtual, *self.route(self.turn * 5 % self.size, self.turn + 1))]

    def one_service(self) -> list[Fact]:
        key, service = self.service(self.turn * 3 % self.size)
        return [Put(self.services, key, msgspec.structs.replace(service, ports=(("http", 9000 + self.turn % 7),)))]

    def pod_goes_and_comes(self) -> list[Fact]:
        key, pod = self.pod(self.turn // 2 * 13 % self.size, 3)
        return [Put(self.pods, key, pod)] if self.turn % 2 else [Remove(self.pods, key)]

    def a_namespace_of_50_services(self) -> list[Fact]:
        name = f"team-{self.turn // 2 % min(20, self.size // SERVICES_PER_NAMESPACE)}"
        labels = {"istio-injection": "enabled"} if self.turn % 2 else {}
        return [Put(self.namespaces, name, Namespace(name, LabelSet.of(labels)))]

    def nothing(self) -> list[Fact]:
        return [Put(self.pods, *self.pod(self.turn * 17 % self.size, 4))]


def _mesh(*, configs: View[str, MeshConfig]) -> MeshConfig:
    return configs.get("mesh") or MeshConfig("cluster.local", "istio-system")


CHANGES: tuple[tuple[str, Callable[[Mesh], list[Fact]], int, float | None], ...] = (
    ("one pod gets another address", Mesh.one_pod, 400, 2.5),
    ("one pod of a service of 1,000 does", Mesh.one_pod_of_a_thousand, 200, 2.5),
    ("one pod goes, or comes", Mesh.pod_goes_and_comes, 400, 2.5),
    ("one pod changes, concerning nobody", Mesh.one_pod_concerning_nobody, 400, None),
    ("one route changes", Mesh.one_route, 400, 0.1),
    ("one service changes its port", Mesh.one_service, 400, None),
    ("a namespace of 250 pods enters or leaves", Mesh.a_namespace_of_50_services, 20, None),
    ("a fact that is already known", Mesh.nothing, 400, None),
)


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def load(size: int) -> tuple[Mesh, list[str]]:
    """Build a mesh in one commit; what that took, as cells of a table."""
    mesh = Mesh(size)
    gc.collect()
    start = resident()
    facts = mesh.facts()
    with_facts = resident()
    began = time.perf_counter()
    mesh.graph.commit(facts)
    seconds = time.perf_counter() - began
    rows = sum(table.rows for table in mesh.graph.statistics().tables)
    count = len(facts)
    del facts
    gc.collect()
    held = resident()
    return mesh, [
        f"{size:,} x {5 * size:,}",
        f"{count:,}",
        f"{rows:,}",
        f"{seconds:.2f} s",
        f"{seconds / rows * 1e6:.1f} us",
        f"{with_facts - start:.0f} MB",
        f"{held - start:.0f} MB",
    ]


def measure(meshes: tuple[Mesh, ...], change: Callable[[Mesh], list[Fact]], rounds: int) -> list[float]:
    """The median milliseconds of a commit on each mesh, the meshes taking turns."""
    taken: list[list[float]] = [[] for _ in meshes]
    for turn in range(rounds):
        for mesh, times in zip(meshes, taken, strict=True):
            mesh.turn = turn
            facts = change(mesh)
            start = time.perf_counter()
            mesh.graph.commit(facts)
            times.append(time.perf_counter() - start)
    return [statistics.median(times) * 1e3 for times in taken]


def print_table(head: tuple[str, ...], rows: list[list[str]]) -> None:
    """Rows under heads, the first column to the left and the others to the right."""
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    for line in (head, tuple("-" * width for width in widths), *rows):
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells))
    print()


def verdict(ratio: float, noise: float) -> str:
    """Whether the large mesh costs as the small one does."""
    if abs(noise - 1) > NOISE:
        return "none: noisy"
    return "flat" if ratio < 1.5 else f"grows {ratio:.1f}x for 5x"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size and of the rounds")
    part = 10 if parser.parse_args().quick else 1
    small, small_load = load(1000 // part)
    large, large_load = load(5000 // part)
    again, _ = load(1000 // part)
    gc.collect()
    gc.freeze()

    print("Loading a mesh in one commit\n")
    head = ("services x pods", "facts", "rows", "time", "per row", "facts take", "in all")
    print_table(head, [small_load, large_load])

    print("One commit, in milliseconds (A small, B large, A' small again)\n")
    rows = []
    for name, change, rounds, budget in CHANGES:
        a, b, a_again = measure((small, large, again), change, max(10, rounds // part))
        limit = "" if budget is None else f"{budget:g}"
        rows.append(
            [name, f"{a:.3f}", f"{b:.3f}", limit, f"{b / a:.2f}", f"{a_again / a:.2f}", verdict(b / a, a_again / a)]
        )
    print_table(("change", "A", "B", "budget of B", "B / A", "A' / A", "verdict"), rows)


if __name__ == "__main__":
    main()
