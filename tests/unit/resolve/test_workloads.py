"""Workloads: pods and WorkloadEntries."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.base.labels import LabelSet
from meltemi.base.spiffe import SpiffeId
from meltemi.model.clients import Locality
from meltemi.model.services import WorkloadName

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: reviews-v1-6d4f-abcde
  labels: {app: reviews, version: v1, pod-template-hash: 6d4f, security.istio.io/tlsMode: istio}
  ownerReferences: [{kind: ReplicaSet, name: reviews-v1-6d4f, controller: true}]
spec:
  serviceAccountName: reviews
  containers: [{name: app, ports: [{name: http, containerPort: 9080}, {containerPort: 1}]}]
status:
  podIP: 10.244.0.5
  conditions: [{type: Ready, status: "True"}]
"""


def test_a_pod_is_a_workload_with_identity_names_and_ports(resolved: Any) -> None:
    resolved.apply(POD)
    workload = resolved.only("workloads")
    assert workload.identity == SpiffeId("cluster.local", "shop", "reviews")
    assert workload.addresses == ("10.244.0.5",)
    assert workload.meshed
    assert workload.ready
    assert workload.ports == (("http", 9080),)
    assert workload.names == WorkloadName(
        workload="reviews-v1",
        namespace="shop",
        app="reviews",
        version="v1",
        canonical_service="reviews",
        canonical_revision="v1",
        cluster="local",
    )


def test_a_pod_without_a_proxy_is_not_meshed(resolved: Any) -> None:
    resolved.apply(POD.replace(", security.istio.io/tlsMode: istio", ""))
    assert not resolved.only("workloads").meshed


def test_a_sidecar_container_tells_that_a_pod_is_meshed(resolved: Any) -> None:
    pod = POD.replace(", security.istio.io/tlsMode: istio", "").replace(
        "spec:", "spec:\n  initContainers: [{name: istio-proxy}]"
    )
    resolved.apply(pod)
    assert resolved.only("workloads").meshed


def test_a_gateway_has_a_proxy_but_is_not_spoken_to_with_mtls(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: v1
    kind: Pod
    metadata: {name: gateway-1, annotations: {inject.istio.io/templates: gateway}}
    spec: {containers: [{name: istio-proxy}]}
    status: {podIP: 10.244.0.6}
    """)
    assert not resolved.only("workloads").meshed


def test_a_pod_without_an_address_is_no_workload_yet(resolved: Any) -> None:
    resolved.apply(POD.replace("podIP: 10.244.0.5", "phase: Pending"))
    assert resolved.graph.table("workloads").all() == ()


def test_a_pod_that_is_being_deleted_is_terminating(resolved: Any) -> None:
    resolved.apply(POD.replace("labels:", 'deletionTimestamp: "2026-01-01T00:00:00Z"\n  labels:'))
    workload = resolved.only("workloads")
    assert (workload.ready, workload.terminating) == (False, True)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("{kind: StatefulSet, name: db, controller: true}", "db"),
        ("{kind: Job, name: report-28000000, controller: true}", "report"),
        ("{kind: ReplicaSet, name: alone-77, controller: true}", "alone-77"),
    ],
)
def test_a_workload_is_called_after_what_owns_its_pods(resolved: Any, owner: str, name: str) -> None:
    resolved.apply(POD.replace("{kind: ReplicaSet, name: reviews-v1-6d4f, controller: true}", owner))
    assert resolved.only("workloads").names.workload == name


def test_canonical_names_go_before_app_labels(resolved: Any) -> None:
    resolved.apply(POD.replace("app: reviews,", "app: reviews, service.istio.io/canonical-name: critics,"))
    assert resolved.only("workloads").names.canonical_service == "critics"


def test_a_workload_entry_with_a_service_account_is_meshed(resolved: Any) -> None:
    resolved.apply("""
    apiVersion: networking.istio.io/v1
    kind: WorkloadEntry
    metadata: {name: vm-1, labels: {tier: back}}
    spec:
      address: 192.168.1.2
      ports: {http: 8080}
      labels: {app: ratings}
      locality: eu/a/rack1
      weight: 3
      serviceAccount: ratings
    """)
    entry = resolved.only("entries")
    assert entry.identity == SpiffeId("cluster.local", "shop", "ratings")
    assert entry.meshed
    assert entry.labels == LabelSet.of({"app": "ratings", "tier": "back"})
    assert entry.locality == Locality("eu", "a", "rack1")
    assert (entry.ports, entry.weight) == ((("http", 8080),), 3)
