"""The bootstrap says who the proxy is and how to reach the control plane; Envoy itself is asked whether it is right."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meltemi.agent.bootstrap import bootstrap, encode
from meltemi.agent.command import envoy_binary, envoy_command, peer_metadata, proxy_environment
from meltemi.agent.spec import Address, ProxySpec
from meltemi.agent.statistics import settings
from meltemi.protos.google.protobuf.struct_pb2 import Value


def variants(spec: ProxySpec) -> dict[str, ProxySpec]:
    replace = msgspec.structs.replace
    return {
        "sidecar": spec,
        "gateway by name": replace(
            spec, kind="router", control_plane=Address("meltemi.istio-system.svc", 15011), mark=0, concurrency=4
        ),
        "own resolver": replace(spec, resolver=Address("10.96.0.10", 5353)),
        "annotated": replace(
            spec,
            annotations={
                "sidecar.istio.io/statsInclusionPrefixes": "cluster.outbound, http.",
                "sidecar.istio.io/statsInclusionSuffixes": "upstream_rq_time",
                "sidecar.istio.io/statsInclusionRegexps": r".*\.ssl\..*",
            },
            proxy_config={"concurrency": 2},
        ),
        "as asked": asked(spec),
    }


def asked(spec: ProxySpec) -> ProxySpec:
    """With all that the settings of a proxy may ask for."""
    return msgspec.structs.replace(
        spec,
        drain_seconds=7,
        flush_seconds=0.5,
        flush_size=16,
        environment={"ISTIO_META_SHOE": "blue", "COLOUR": "red"},
        proxy_config={
            "serviceCluster": "mine",
            "runtimeValues": {"overload.global_downstream_max_connections": "100"},
            "proxyStatsMatcher": {"inclusionPrefixes": ["http."], "inclusionRegexps": [".*ssl.*"]},
        },
    )


def test_what_the_settings_of_a_proxy_ask_for_is_done(spec: ProxySpec, tmp_path: Path) -> None:
    wished = asked(spec)
    found = bootstrap(wished)
    assert found["node"]["cluster"] == "mine"
    assert found["node"]["metadata"]["SHOE"] == "blue"
    assert found["layered_runtime"]["layers"][0]["static_layer"]["overload.global_downstream_max_connections"] == "100"
    patterns = found["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    assert {"prefix": "http."} in patterns
    assert {"safe_regex": {"regex": ".*ssl.*"}} in patterns
    assert proxy_environment(wished)["COLOUR"] == "red"
    command = " ".join(envoy_command(Path("envoy"), tmp_path, wished))
    assert "--drain-time-s 7" in command
    assert "--file-flush-interval-msec 500 --file-flush-min-size-kb 16" in command


def test_a_users_variable_cannot_stand_for_one_of_the_meshs(spec: ProxySpec) -> None:
    wished = msgspec.structs.replace(spec, environment={"MELTEMI_PRINCIPAL": "spiffe://evil/ns/a/sa/b"})
    assert proxy_environment(wished)["MELTEMI_PRINCIPAL"] == str(spec.identity)


@pytest.mark.parametrize("variant", ["sidecar", "gateway by name", "annotated", "as asked"])
def test_envoy_accepts_it_without_a_warning(spec: ProxySpec, tmp_path: Path, variant: str) -> None:
    chosen = variants(spec)[variant]
    config = tmp_path / "bootstrap.json"
    config.write_bytes(encode(chosen))
    command = [*envoy_command(envoy_binary(), config, chosen), "--mode", "validate"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "warning" not in answer.stderr


def test_the_node_is_told_in_istios_words(spec: ProxySpec) -> None:
    node = bootstrap(spec)["node"]
    assert node["id"] == "sidecar~10.244.0.7~cart-7f.shop~shop.svc.cluster.local"
    assert node["cluster"] == "cart.shop"
    assert node["locality"] == {"region": "eu", "zone": "eu-1"}
    assert node["metadata"] == {
        "NAME": "cart-7f",
        "NAMESPACE": "shop",
        "SERVICE_ACCOUNT": "cart",
        "WORKLOAD_NAME": "cart",
        "CLUSTER_ID": "local",
        "INSTANCE_IPS": "10.244.0.7",
        "LABELS": {"app": "cart", "version": "v2"},
        "OWNER": "kubernetes://apis/apps/v1/namespaces/shop/deployments/cart",
        "MESH_ID": "cluster.local",
        "ISTIO_REVISION": "default",
        "ENVOY_STATUS_PORT": 15021,
        "ENVOY_PROMETHEUS_PORT": 15090,
        "INTERCEPTION_MODE": "REDIRECT",
    }


def test_the_control_plane_must_prove_its_identity_over_tls_1_3(spec: ProxySpec) -> None:
    xds = _cluster(spec, "xds-grpc")
    context = xds["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_3"
    names = context["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"]
    expected = "spiffe://cluster.local/ns/istio-system/sa/meltemi"
    assert names == [{"san_type": "URI", "matcher": {"exact": expected}}]


def test_a_control_plane_that_dies_in_silence_is_noticed(spec: ProxySpec) -> None:
    (options,) = _cluster(spec, "xds-grpc")["typed_extension_protocol_options"].values()
    keepalive = options["explicit_http_config"]["http2_protocol_options"]["connection_keepalive"]
    assert keepalive == {"interval": "10s", "timeout": "5s"}


def test_no_configuration_is_waited_for_with_an_end(spec: ProxySpec) -> None:
    resources = bootstrap(spec)["dynamic_resources"]
    assert resources["lds_config"]["initial_fetch_timeout"] == "0s"
    assert resources["cds_config"]["initial_fetch_timeout"] == "0s"
    assert resources["ads_config"]["api_type"] == "DELTA_GRPC"


def test_envoys_own_connections_carry_the_mark_that_capture_exempts(spec: ProxySpec) -> None:
    (option,) = bootstrap(spec)["cluster_manager"]["upstream_bind_config"]["socket_options"]
    assert (option["level"], option["name"], option["int_value"]) == (1, 36, 1337)
    assert bootstrap(variants(spec)["gateway by name"])["cluster_manager"] == {}


def test_equal_descriptions_give_equal_bytes(spec: ProxySpec) -> None:
    other = msgspec.structs.replace(spec, labels=dict(sorted(spec.labels.items(), reverse=True)))
    assert encode(spec) == encode(other)
    assert json.loads(encode(spec)) == bootstrap(spec)


def test_a_socket_path_that_no_kernel_takes_is_refused(spec: ProxySpec) -> None:
    with pytest.raises(ValueError, match="at most 107 bytes"):
        msgspec.structs.replace(spec, sds_socket="/" + "x" * 107)


# === statistics ===


def _cluster(spec: ProxySpec, name: str) -> dict[str, Any]:
    clusters: list[dict[str, Any]] = bootstrap(spec)["static_resources"]["clusters"]
    return next(cluster for cluster in clusters if cluster["name"] == name)


def tagged(statistic: str) -> tuple[str, dict[str, str]]:
    """What Envoy makes of a statistic: what is left of its name, and its tags (each takes its first group away)."""
    left, tags = statistic, {}
    for tag in settings({})["stats_config"]["stats_tags"]:
        if found := re.search(tag["regex"], statistic, re.ASCII):
            tags[tag["tag_name"]] = found[2]
            left = left.replace(found[1], "", 1)
    return left, tags


@pytest.mark.parametrize(
    ("statistic", "name", "tags"),
    [
        (
            "cluster.outbound|80|v1|cart.shop.svc.cluster.local;.upstream_cx_total",
            "cluster.upstream_cx_total",
            {"cluster_name": "outbound|80|v1|cart.shop.svc.cluster.local"},
        ),
        (
            "cluster.outbound|443||api.example.org;.upstream_rq_503",
            "cluster.upstream_rq",
            {"cluster_name": "outbound|443||api.example.org", "response_code": "503"},
        ),
        ("cluster.xds-grpc.upstream_cx_active", "cluster.upstream_cx_active", {"cluster_name": "xds-grpc"}),
        (
            "cluster.xds-grpc.upstream_rq_2xx",
            "cluster.upstream_rq",
            {"cluster_name": "xds-grpc", "response_code_class": "2xx"},
        ),
        (
            "http.outbound_0.0.0.0_80;.downstream_rq_5xx",
            "http.downstream_rq",
            {"http_conn_manager_prefix": "outbound_0.0.0.0_80", "response_code_class": "5xx"},
        ),
        (
            "http.inbound_0.0.0.0_8080;.rbac.allowed",
            "http.rbac",
            {"http_conn_manager_prefix": "inbound_0.0.0.0_8080", "authz_enforce_result": "allowed"},
        ),
        (
            "listener.0.0.0.0_15006.downstream_cx_total",
            "listener.downstream_cx_total",
            {"listener_address": "0.0.0.0_15006"},
        ),
        (
            "tcp.outbound|5432||db.shop.svc.cluster.local;.downstream_cx_total",
            "tcp.downstream_cx_total",
            {"tcp_prefix": "outbound|5432||db.shop.svc.cluster.local"},
        ),
        ("server.live", "server.live", {}),
    ],
)
def test_names_in_statistics_become_labels(statistic: str, name: str, tags: dict[str, str]) -> None:
    assert tagged(statistic) == (name, tags)


def test_annotations_include_more_statistics(spec: ProxySpec) -> None:
    patterns = bootstrap(variants(spec)["annotated"])["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
    assert {"prefix": "cluster.outbound"} in patterns
    assert {"prefix": "http."} in patterns
    assert {"suffix": "upstream_rq_time"} in patterns
    assert {"safe_regex": {"regex": r".*\.ssl\..*"}} in patterns
    assert {"prefix": "istio"} in patterns


# === the environment ===


def test_what_differs_between_proxies_is_in_their_environment(spec: ProxySpec) -> None:
    environment = proxy_environment(msgspec.structs.replace(spec, labels={"app": "cart"}))
    assert environment.pop("MELTEMI_PEER_METADATA")
    assert environment == {
        "MELTEMI_POD_NAME": "cart-7f",
        "MELTEMI_POD_IP": "10.244.0.7",
        "MELTEMI_WORKLOAD_NAME": "cart",
        "MELTEMI_WORKLOAD_NAMESPACE": "shop",
        "MELTEMI_SERVICE_ACCOUNT": "cart",
        "MELTEMI_PRINCIPAL": "spiffe://cluster.local/ns/shop/sa/cart",
        "MELTEMI_APP": "cart",
        "MELTEMI_VERSION": "unknown",
        "MELTEMI_CANONICAL_SERVICE": "cart",
        "MELTEMI_CANONICAL_REVISION": "latest",
        "MELTEMI_CLUSTER_ID": "local",
    }


@pytest.mark.parametrize(
    ("labels", "service", "revision"),
    [
        ({}, "cart", "latest"),
        ({"app": "a", "version": "v1"}, "a", "v1"),
        ({"app": "a", "app.kubernetes.io/name": "b", "app.kubernetes.io/version": "2"}, "b", "2"),
        ({"service.istio.io/canonical-name": "c", "service.istio.io/canonical-revision": "3", "app": "a"}, "c", "3"),
    ],
)
def test_the_canonical_service_is_found_as_istio_finds_it(
    spec: ProxySpec, labels: dict[str, str], service: str, revision: str
) -> None:
    proxy = msgspec.structs.replace(spec, labels=labels)
    assert (proxy.canonical_service, proxy.canonical_revision) == (service, revision)


def test_peers_are_told_what_their_metrics_show_of_a_client(spec: ProxySpec) -> None:
    told = Value.FromString(base64.b64decode(peer_metadata(spec))).struct_value
    assert {name: value.string_value for name, value in told.fields.items()} == {
        "workload": "cart",
        "namespace": "shop",
        "app": "cart",
        "version": "v2",
        "canonical_service": "cart",
        "canonical_revision": "v2",
        "cluster": "local",
    }
    other = msgspec.structs.replace(spec, labels=dict(sorted(spec.labels.items(), reverse=True)))
    assert peer_metadata(spec) == peer_metadata(other)
