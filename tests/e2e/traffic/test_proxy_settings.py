"""ProxyConfig and the mesh's word on proxies: what an Envoy is started with."""

from __future__ import annotations

from meltemi.inject.proxy_config import ANNOTATION
from meltemi.testing import workloads
from meltemi.testing.mesh import eventually

from .town import TOWN, Policies, Town


def test_a_proxy_starts_with_what_its_namespace_its_selector_and_its_pod_say(policies: Policies, town: Town) -> None:
    policies.apply(
        """
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: around, namespace: town}
spec: {concurrency: 3}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: tuned, namespace: town}
spec: {selector: {matchLabels: {app: tuned}}, concurrency: 2, environmentVariables: {ISTIO_META_SHOE: blue}}
"""
    )
    ports = workloads.PORTS[:1]
    annotation = "{concurrency: 1, proxyStatsMatcher: {inclusionPrefixes: [listener_manager, http.]}}"
    policies.deploy(
        workloads.account("tuned", TOWN),
        workloads.service("tuned", TOWN, ports),
        workloads.deployment("tuned", TOWN, ports, annotations={ANNOTATION: annotation}),
    )
    pod = town.mesh.pod(TOWN, "app=tuned")
    assert town.caller.get("http://tuned:8080/").status == 200
    reply = eventually(
        lambda: town.mesh.fetch(pod.ip, 15020, "/stats/prometheus"),
        lambda reply: "envoy_server_concurrency" in reply.body and "envoy_http_downstream_rq_total" in reply.body,
    )
    (line,) = [line for line in reply.body.splitlines() if line.startswith("envoy_server_concurrency{")]
    assert line.endswith(" 2")
