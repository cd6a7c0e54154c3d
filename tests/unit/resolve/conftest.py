"""A mesh resolved from YAML: every table of meaning, and the problems that were told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.base.spiffe import SpiffeId
from meltemi.flow import Graph, Put, Remove, Table, using
from meltemi.model.clients import ProxyKind
from meltemi.model.proxies import Proxy
from meltemi.resolve import (
    credentials,
    destinations,
    egress,
    endpoints,
    gateways,
    inbound,
    indexes,
    mesh,
    references,
    routes,
    services,
    views,
    workloads,
)
from meltemi.resolve import proxy_configs as proxy_conflicts
from meltemi.resolve import sidecars as sidecar_scopes
from meltemi.testing.build import resources

INPUTS: dict[str, dict[str, Callable[[Any], object]]] = {
    "MeshConfig": {},
    "Service": {},
    "Pod": {},
    "EndpointSlice": {"service": indexes.slice_service},
    "ServiceEntry": {"host": indexes.service_entry_hosts},
    "WorkloadEntry": {},
    "VirtualService": {
        "namespace": indexes.namespace,
        "host": indexes.virtual_service_hosts,
        "pattern": indexes.virtual_service_patterns,
        "gateway": indexes.virtual_service_gateways,
        "looks_at_clients": indexes.virtual_service_looks_at_clients,
    },
    "DestinationRule": {
        "host": indexes.destination_rule_host,
        "looks_at_clients": indexes.destination_rule_looks_at_clients,
    },
    "Sidecar": {"namespace": indexes.namespace},
    "ProxyConfig": {"namespace": indexes.namespace},
    "EnvoyFilter": {"namespace": indexes.namespace, "looks_at_clients": indexes.envoy_filter_looks_at_clients},
    "Gateway": {},
    "PeerAuthentication": {"namespace": indexes.namespace},
    "AuthorizationPolicy": {"namespace": indexes.namespace},
}


class Resolved:
    """The tables of `resolve` over facts that a test commits."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.facts: dict[str, Table[Any, Any]] = {
            kind: self.graph.input(kind, **functions) for kind, functions in INPUTS.items()
        }
        self.proxies: Table[str, Proxy] = self.graph.input("proxies")
        self.secrets: Table[Any, credentials.Credential] = self.graph.input("credentials")
        self._declare()

    def _declare(self) -> None:
        g, facts = self.graph, self.facts
        virtual, rules, sidecars = facts["VirtualService"], facts["DestinationRule"], facts["Sidecar"]
        settings = g.single("mesh", mesh.mesh, using(configs=facts["MeshConfig"]))
        common = using(mesh=settings)
        pods = g.derive("workloads", workloads.workload, facts["Pod"], common, label=indexes.workload_labels)
        entries = g.derive("entries", workloads.entry, facts["WorkloadEntry"], common, label=indexes.workload_labels)
        all_services = g.union(
            "services",
            g.expand("core_services", services.from_core, facts["Service"], common),
            g.expand(
                "entry_services",
                services.from_entry,
                facts["ServiceEntry"],
                using(mesh=settings, entries=facts["ServiceEntry"]),
            ),
            host=indexes.service_host,
            namespace=indexes.service_namespace,
            pattern=indexes.service_patterns,
            selector=indexes.service_selector,
        )
        addresses = g.derive(
            "endpoints",
            endpoints.endpoints,
            all_services,
            using(
                mesh=settings,
                slices=facts["EndpointSlice"],
                workloads=pods,
                entries=entries,
                service_entries=facts["ServiceEntry"],
                peers=facts["PeerAuthentication"],
            ),
        )
        g.derive("accounts", endpoints.accounts, addresses, common)
        towards = g.derive("destinations", destinations.destination, all_services, using(mesh=settings, rules=rules))
        routing = using(mesh=settings, virtual=virtual, services=all_services, destinations=towards)
        g.derive("routes", routes.http_routes, all_services, routing)
        g.derive("tcp_routes", routes.tcp_routes, all_services, routing)
        g.expand("orphans", routes.orphans, virtual, routing)
        g.derive(
            "references/virtual_services",
            references.virtual_service,
            virtual,
            using(mesh=settings, gateways=facts["Gateway"], services=all_services, destinations=towards),
        )
        g.derive(
            "references/service_entries", references.service_entry, facts["ServiceEntry"], using(services=all_services)
        )
        g.derive(
            "references/destination_rules",
            references.destination_rule,
            rules,
            using(mesh=settings, services=all_services),
        )
        proxy_configs = facts["ProxyConfig"]
        g.derive("conflicts/proxy_configs", proxy_conflicts.conflicts, proxy_configs, using(configs=proxy_configs))
        labels = g.single(
            "client_labels", views.client_labels, using(virtual=virtual, rules=rules, filters=facts["EnvoyFilter"])
        )
        scopes = g.derive(
            "scopes",
            sidecar_scopes.scope,
            sidecars,
            using(mesh=settings, virtual=virtual, services=all_services, sidecars=sidecars, destinations=towards),
        )
        placing = using(mesh=settings, sidecars=sidecars, scopes=scopes, client_labels=labels)
        audiences = g.expand("audiences", views.audiences, self.proxies, placing)
        g.derive("egress", egress.egress, audiences, using(mesh=settings, sidecars=sidecars, services=all_services))
        placed = using(**placing.tables, workloads=pods)
        g.derive("placements", views.placement, self.proxies, placed)
        classes = g.expand("views", views.views, self.proxies, placed)
        g.derive(
            "inbound",
            inbound.inbound,
            classes,
            using(
                mesh=settings,
                services=all_services,
                sidecars=sidecars,
                peers=facts["PeerAuthentication"],
                policies=facts["AuthorizationPolicy"],
                credentials=self.secrets,
                destinations=towards,
            ),
        )
        g.derive(
            "gateways",
            gateways.gateway,
            classes,
            using(
                mesh=settings,
                gateways=facts["Gateway"],
                virtual=virtual,
                services=all_services,
                destinations=towards,
                credentials=self.secrets,
            ),
        )

    def apply(self, text: str, namespace: str = "shop") -> None:
        """Commit the objects of a YAML text, in one revision."""
        objects = resources(text, namespace)
        self.graph.commit(Put(self.facts[each.kind], (each.namespace, each.name), each) for each in objects)

    def delete(self, kind: str, name: str, namespace: str = "shop") -> None:
        """Take an object away."""
        self.graph.commit([Remove(self.facts[kind], (namespace, name))])

    def connect(
        self,
        pod: str = "client-1",
        namespace: str = "shop",
        labels: dict[str, str] | None = None,
        kind: ProxyKind = ProxyKind.SIDECAR,
        account: str = "default",
        address: str = "",
    ) -> None:
        """Let a proxy connect."""
        proxy = Proxy(
            id=f"{pod}.{namespace}",
            kind=kind,
            namespace=namespace,
            labels=LabelSet.of(labels or {}),
            identity=SpiffeId("cluster.local", namespace, account),
            addresses=(address,) if address else (),
        )
        self.graph.commit([Put(self.proxies, proxy.id, proxy)])

    def hold(self, name: str, namespace: str = "shop", *, key: bool = True, ca: bool = False) -> None:
        """Let there be a credential."""
        row = credentials.Credential(namespace=namespace, name=name, has_key=key, has_ca=ca)
        self.graph.commit([Put(self.secrets, (namespace, name), row)])

    def row(self, table: str, host: str, namespace: str = "shop") -> Any:
        """A row of a table by namespace and host; a host without a dot is a service of the namespace."""
        full = host if "." in host or "*" in host else f"{host}.{namespace}.svc.cluster.local"
        found = self.graph.table(table).get((namespace, full))
        assert found is not None, f"{table} has no {namespace}/{full}, but {self.graph.table(table).keys()}"
        return found

    def only(self, table: str) -> Any:
        """The one row of a table."""
        (found,) = self.graph.table(table).all()
        return found

    def problems(self) -> dict[str, Problem]:
        """The problems told, by code. Each code may occur once."""
        found = self.graph.problems()
        codes = {problem.code: problem for problem in found}
        assert len(codes) == len(found), "\n".join(map(str, found))
        assert "Internal" not in codes, codes["Internal"]
        assert all(problem.hint for problem in found)
        return codes


@pytest.fixture
def resolved() -> Resolved:
    """An empty mesh."""
    return Resolved()


SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec:
  clusterIP: 10.96.0.1
  selector: {app: reviews}
  ports: [{name: http, port: 9080}]
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: shop}
spec:
  clusterIP: 10.96.0.2
  selector: {app: ratings}
  ports: [{name: http, port: 9080}, {name: grpc-internal, port: 9090}]
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec:
  clusterIP: 10.96.0.3
  selector: {app: ledger}
  ports: [{name: tcp, port: 7000}]
"""


@pytest.fixture
def shop(resolved: Resolved) -> Resolved:
    """A mesh with the services reviews and ratings in namespace shop, and ledger in namespace bank."""
    resolved.apply(SERVICES)
    return resolved
