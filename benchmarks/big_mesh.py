"""A mesh of any size as rows of the API, made in memory, and the changes that happen to it.

Services stand in namespaces of fifty, each with its pods and an EndpointSlice as Kubernetes would write them. Four in
five speak HTTP, on one of five common ports; every fifth has a TCP port besides; every tenth has a VirtualService.
One more namespace, `islet`, is outside of what the mesh-wide Sidecar lets the others see. Proxies stand in the first
twenty namespaces only, whatever the size, so that meshes of two sizes have the same number of classes of proxies.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from meltemi.api.core import EndpointSlice, Pod, PodSpec, Service
from meltemi.api.core.pods import PodIp, PodStatus
from meltemi.api.core.services import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    ObjectReference,
    ServicePort,
    ServiceSpec,
)
from meltemi.api.meta import Condition, ObjectMeta, OwnerReference
from meltemi.api.networking import Sidecar, VirtualService
from meltemi.api.networking.sidecar import EgressListener, SidecarSpec
from meltemi.api.networking.virtual_service import (
    Destination,
    HttpRoute,
    HttpRouteDestination,
    VirtualServiceSpec,
)
from meltemi.base.spiffe import SpiffeId
from meltemi.flow import Fact, Put, Remove
from meltemi.pipeline import Pipeline

PODS = 10
PER_NAMESPACE = 50
PROXY_NAMESPACES = 20
ISLET = "islet"
ISLET_PROXIES = 10
DOMAIN = "cluster.local"
PORTS = (80, 8080, 9080, 3000, 9000)
READY = (Condition(type="Ready", status="True"),)
CREATED = "2026-01-01T00:00:00Z"
LABELS = {"security.istio.io/tlsMode": "istio", "topology.kubernetes.io/zone": "a"}


class Identity(msgspec.Struct, frozen=True):
    """Who a proxy is: the pod it stands beside, and the account that the pod runs as."""

    pod: str
    namespace: str
    account: str
    labels: dict[str, str]

    @property
    def spiffe(self) -> SpiffeId:
        """Its SPIFFE identity."""
        return SpiffeId(DOMAIN, self.namespace, self.account)


class BigMesh:
    """The facts of one mesh, for one pipeline."""

    def __init__(self, services: int) -> None:
        self.services = services
        self.namespaces = services // PER_NAMESPACE
        self._islet = services + 1  # its number is not one of those with two ports
        self._turn = 0

    # === what is there ===

    def facts(self, pipeline: Pipeline) -> Iterator[Fact]:
        """Everything that is in the mesh at first."""
        tables = pipeline.facts
        for number in range(self.services):
            namespace = self.namespace_of(number)
            yield from self._app(pipeline, namespace, f"app-{number}", number)
            if number % 10 == 0:
                route = self.route(number, 0)
                yield Put(tables["VirtualService"], (route.namespace, route.name), route)
        yield from self._app(pipeline, ISLET, "treasure", self._islet)
        seen = tuple(f"team-{number}/*" for number in range(self.namespaces))
        scope = _sidecar("istio-system", seen)
        yield Put(tables["Sidecar"], ("istio-system", "default"), scope)
        yield Put(tables["Sidecar"], (ISLET, "default"), _sidecar(ISLET, ("*/*",)))

    def namespace_of(self, number: int) -> str:
        """The namespace of a service."""
        return f"team-{number % self.namespaces}"

    def host_of(self, number: int) -> str:
        """The host of a service."""
        return f"app-{number}.{self.namespace_of(number)}.svc.{DOMAIN}"

    @staticmethod
    def port_of(number: int) -> int:
        """The port on which a service speaks HTTP."""
        return PORTS[number % 5]

    def identities(self, count: int) -> list[Identity]:
        """So many proxies: the last ten stand in the islet, the others in the first twenty namespaces."""
        found = []
        for number in range(count - ISLET_PROXIES):
            service = number % PROXY_NAMESPACES + number // (PROXY_NAMESPACES * PODS) * self.namespaces
            found.append(
                self._identity(self.namespace_of(service), f"app-{service}", number // PROXY_NAMESPACES % PODS)
            )
        return found + [self._identity(ISLET, "treasure", replica) for replica in range(ISLET_PROXIES)]

    @staticmethod
    def _identity(namespace: str, app: str, replica: int) -> Identity:
        return Identity(f"{app}-{replica}", namespace, app, {"app": app, "version": f"v{replica % 2}", **LABELS})

    def _app(self, pipeline: Pipeline, namespace: str, name: str, number: int) -> Iterator[Fact]:
        tables = pipeline.facts
        key = (namespace, name)
        yield Put(tables["Service"], key, self._service(namespace, name, number))
        yield Put(tables["EndpointSlice"], key, self.slice(namespace, name, number, 0))
        for replica in range(PODS):
            pod = self._pod(namespace, name, number, replica)
            yield Put(tables["Pod"], (namespace, pod.name), pod)

    def _service(self, namespace: str, name: str, number: int) -> Service:
        ports = [ServicePort(port=self.port_of(number), name="http", target_port=8080)]
        if number % 5 == 0:
            ports.append(ServicePort(port=5432, name="tcp-sql", target_port=5432))
        return Service(
            metadata=ObjectMeta(name=name, namespace=namespace, creation_timestamp=CREATED, resource_version="1"),
            spec=ServiceSpec(
                ports=tuple(ports),
                selector={"app": name},
                cluster_ip=f"10.{96 + number // 62500}.{number // 250 % 250}.{number % 250}",
            ),
            api_version="v1",
            kind="Service",
        )

    def slice(self, namespace: str, name: str, number: int, shift: int) -> EndpointSlice:
        """The endpoints of a service. `shift` moves its second pod to another address."""
        ports = [EndpointPort(name="http", port=8080)]
        if number % 5 == 0:
            ports.append(EndpointPort(name="tcp-sql", port=5432))
        return EndpointSlice(
            metadata=ObjectMeta(name=name, namespace=namespace, labels={"kubernetes.io/service-name": name}),
            ports=tuple(ports),
            endpoints=tuple(
                Endpoint(
                    addresses=(_address(number, replica, shift if replica == 1 else 0),),
                    conditions=EndpointConditions(ready=True),
                    target_ref=ObjectReference(kind="Pod", namespace=namespace, name=f"{name}-{replica}"),
                )
                for replica in range(PODS)
            ),
            api_version="discovery.k8s.io/v1",
            kind="EndpointSlice",
        )

    @staticmethod
    def _pod(namespace: str, name: str, number: int, replica: int, note: str = "") -> Pod:
        owner = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name=f"{name}-5d4f", controller=True)
        address = _address(number, replica, 0)
        labels = {"app": name, "version": f"v{replica % 2}", "pod-template-hash": "5d4f", **LABELS}
        return Pod(
            metadata=ObjectMeta(
                name=f"{name}-{replica}",
                namespace=namespace,
                labels=labels,
                annotations={"note": note} if note else {},
                owner_references=(owner,),
            ),
            spec=PodSpec(service_account_name=name),
            status=PodStatus(phase="Running", pod_ip=address, pod_ips=(PodIp(ip=address),), conditions=READY),
            api_version="v1",
            kind="Pod",
        )

    def route(self, number: int, shift: int) -> VirtualService:
        """The VirtualService of a service: it splits its traffic with the next one."""
        namespace = self.namespace_of(number)
        other = (number + 1) % self.services
        hosts = (self.host_of(number), self.host_of(other))
        share = 1 + shift % 99
        route = HttpRoute(
            route=(
                HttpRouteDestination(destination=Destination(host=hosts[0]), weight=100 - share),
                HttpRouteDestination(destination=Destination(host=hosts[1]), weight=share),
            )
        )
        return VirtualService(
            metadata=ObjectMeta(name=f"app-{number}", namespace=namespace, creation_timestamp=CREATED),
            spec=VirtualServiceSpec(hosts=(f"app-{number}",), http=(route,)),
            api_version="networking.istio.io/v1",
            kind="VirtualService",
        )

    # === what happens: each is one batch of facts, and no row is changed twice in a row ===

    def next(self) -> int:
        """The number of the next change."""
        self._turn += 1
        return self._turn

    def change_route(self, pipeline: Pipeline) -> list[Fact]:
        """A VirtualService shifts a per cent of traffic."""
        turn = self.next()
        route = self.route(turn * 10 % 1000, turn)
        return [Put(pipeline.facts["VirtualService"], (route.namespace, route.name), route)]

    def change_endpoint(self, pipeline: Pipeline) -> list[Fact]:
        """A pod of a service that everybody sees gets another address."""
        turn = self.next()
        number = turn * 7 % 1000
        return self._moved(pipeline, self.namespace_of(number), f"app-{number}", number, turn)

    def change_seventh(self, pipeline: Pipeline) -> list[Fact]:
        """A pod of the seventh service gets another address."""
        return self._moved(pipeline, self.namespace_of(7), "app-7", 7, self.next())

    def change_islet(self, pipeline: Pipeline) -> list[Fact]:
        """A pod of the service in the islet gets another address."""
        return self._moved(pipeline, ISLET, "treasure", self._islet, self.next())

    def _moved(self, pipeline: Pipeline, namespace: str, name: str, number: int, shift: int) -> list[Fact]:
        moved = self.slice(namespace, name, number, shift)
        return [Put(pipeline.facts["EndpointSlice"], (namespace, name), moved)]

    def annotate_pod(self, pipeline: Pipeline) -> list[Fact]:
        """A pod gets an annotation that nobody looks at."""
        turn = self.next()
        number = turn * 11 % 1000
        namespace, name = self.namespace_of(number), f"app-{number}"
        pod = self._pod(namespace, name, number, 2, note=str(turn))
        return [Put(pipeline.facts["Pod"], (namespace, pod.name), pod)]

    def service_comes_or_goes(self, pipeline: Pipeline) -> list[Fact]:
        """A service of ten pods is added, or taken away again."""
        number, namespace, name = self.services + 2, "team-1", "newcomer"
        facts = list(self._app(pipeline, namespace, name, number))
        if self.next() and pipeline.facts["Service"].get((namespace, name)) is None:
            return facts
        return [Remove(fact.table, fact.key) for fact in facts]


def _sidecar(namespace: str, seen: tuple[str, ...]) -> Sidecar:
    return Sidecar(
        metadata=ObjectMeta(name="default", namespace=namespace, creation_timestamp=CREATED),
        spec=SidecarSpec(egress=(EgressListener(hosts=seen),)),
        api_version="networking.istio.io/v1",
        kind="Sidecar",
    )


def _address(number: int, replica: int, shift: int) -> str:
    place = number * 16 + replica
    return (
        f"10.{128 + (place >> 16)}.{place >> 8 & 255}.{place & 255}"
        if not shift
        else f"10.{shift % 90 + 1}.{replica}.{shift % 250 + 1}"
    )
