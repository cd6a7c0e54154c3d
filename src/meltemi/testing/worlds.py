"""A mesh from YAML, all the way to what one proxy gets: the whole pipeline in one call, without a server.

    world = World.of(text)
    resources = world.resources(client("front", namespace="shop"))

EndpointSlices and addresses, which a cluster would add by itself, are made here: each Service without `clusterIP` gets
one, and each gets a slice of the Pods that it selects.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import yaml

from meltemi.api import decoding
from meltemi.api.core import ConfigMap
from meltemi.api.meta import Resource as Object
from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.base.refs import Origin
from meltemi.base.spiffe import SpiffeId
from meltemi.envoy.resource import Offer, Resource
from meltemi.flow import Put
from meltemi.model.clients import ProxyKind
from meltemi.model.proxies import Proxy
from meltemi.model.services import WorkloadName
from meltemi.pipeline import Pipeline, build
from meltemi.xds.shelf import Catalogue

Document = dict[str, Any]


def client(
    name: str = "client",
    *,
    namespace: str = "default",
    labels: dict[str, str] | None = None,
    account: str = "default",
    kind: str = "sidecar",
) -> Proxy:
    """A proxy that asks."""
    return Proxy(
        id=f"{name}.{namespace}",
        kind=ProxyKind(kind),
        namespace=namespace,
        labels=LabelSet.of(labels or {}),
        identity=SpiffeId("cluster.local", namespace, account),
        addresses=("10.244.0.2",),
        names=WorkloadName(workload=name, namespace=namespace),
        cluster="local",
    )


class World:
    """A pipeline with objects in it."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self.pipeline: Pipeline = build()
        self.problems: list[Problem] = []
        self.pipeline.graph.commit(
            Put(self.pipeline.facts[each.ref.kind], (each.namespace, each.name), each)
            for each in self._objects(documents)
            if each.ref.kind in self.pipeline.facts
        )

    @classmethod
    def of(cls, text: str) -> World:
        """The world of a YAML text."""
        return cls(each for each in yaml.safe_load_all(text) if each)

    def _objects(self, documents: Iterable[Document]) -> Iterator[Object]:
        given = [_dated(document, position) for position, document in enumerate(documents)]
        for document in [*given, *_slices(given)]:
            decoded = decoding.decode(document, Origin())
            self.problems += decoded.problems
            if isinstance(decoded.resource, ConfigMap):
                decoded = decoding.mesh_config_of(decoded.resource)
                self.problems += decoded.problems
            if decoded.resource is not None:
                yield decoded.resource

    def resources(self, proxy: Proxy) -> list[Resource]:
        """What a proxy gets, sorted by type and name."""
        graph = self.pipeline.graph
        graph.commit([Put(self.pipeline.proxies, proxy.id, proxy)])
        catalogue = Catalogue()
        audiences = dict(self.pipeline.audiences.items())
        offers: dict[Hashable, Offer | None] = {
            (table.name, key): offer for table in self.pipeline.offers for key, offer in table.items()
        }
        catalogue.update(
            audiences=audiences,
            offers=offers,
            audience_patches=dict(self.pipeline.audience_patches.items()),
            view_patches=dict(self.pipeline.view_patches.items()),
        )
        placement = self.pipeline.placements.get(proxy.id)
        if placement is None:
            raise LookupError(f"{proxy.id} has no place")
        found: dict[tuple[str, str], Resource] = {}
        for key in (placement.audience, placement.view):
            shelf = catalogue.shelf(key)
            for type_url in shelf.types():
                for name in shelf.names(type_url):
                    if (resource := shelf.lookup(type_url, name)) is not None:
                        found[type_url, name] = resource
        return [found[key] for key in sorted(found)]

    def complaints(self) -> list[Problem]:
        """Every problem with the objects."""
        return [*self.problems, *self.pipeline.graph.problems()]


def _dated(document: Document, position: int) -> Document:
    """The object as a cluster would have it: with a namespace, an age by its place in the text, and an address."""
    metadata = {
        "namespace": "default",
        "creationTimestamp": f"2026-01-01T00:{position // 60:02}:{position % 60:02}Z",
        **document.get("metadata", {}),
    }
    result = {**document, "metadata": metadata}
    spec = document.get("spec", {})
    if document.get("kind") == "Service" and "clusterIP" not in spec and spec.get("type") != "ExternalName":
        result["spec"] = {**spec, "clusterIP": f"10.96.0.{position + 10}"}
    return result


def _slices(documents: list[Document]) -> Iterator[Document]:
    pods = [document for document in documents if document.get("kind") == "Pod"]
    for service in documents:
        selector = service.get("spec", {}).get("selector")
        if service.get("kind") != "Service" or not selector:
            continue
        metadata = service["metadata"]
        members = [
            pod
            for pod in pods
            if pod["metadata"]["namespace"] == metadata["namespace"]
            and selector.items() <= pod["metadata"].get("labels", {}).items()
        ]
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{metadata['name']}-1",
                "namespace": metadata["namespace"],
                "labels": {"kubernetes.io/service-name": metadata["name"]},
            },
            "addressType": "IPv4",
            "ports": [
                {"name": port.get("name", ""), "port": _target(port), "protocol": "TCP"}
                for port in service["spec"].get("ports", [])
            ],
            "endpoints": [
                {
                    "addresses": [pod["status"]["podIP"]],
                    "conditions": {"ready": True},
                    "targetRef": {
                        "kind": "Pod",
                        "name": pod["metadata"]["name"],
                        "namespace": metadata["namespace"],
                    },
                }
                for pod in members
            ],
        }


def _target(port: Document) -> int:
    target = port.get("targetPort", port["port"])
    return target if isinstance(target, int) else int(port["port"])
