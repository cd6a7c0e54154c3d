"""What Envoy would refuse is told before Envoy sees it, in Envoy's words."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from meltemi.base.durations import format_duration, parse_duration
from meltemi.protos import any_of, from_dict, pool
from meltemi.protos.archive import files
from meltemi.protos.envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.core.v3.address_pb2 import SocketAddress
from meltemi.protos.envoy.config.core.v3.base_pb2 import HeaderValue, KeyValueAppend, Metadata
from meltemi.protos.envoy.config.core.v3.config_source_pb2 import ExtensionConfigSource
from meltemi.protos.envoy.config.core.v3.protocol_pb2 import AlternateProtocolsCacheOptions
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import RouteMatch, VirtualHost
from meltemi.protos.envoy.extensions.filters.http.router.v3.router_pb2 import Router
from meltemi.protos.envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from meltemi.protos.extract import envoy_path
from meltemi.protos.google.protobuf.any_pb2 import Any as AnyMessage
from meltemi.protos.google.protobuf.duration_pb2 import Duration
from meltemi.protos.rules import _plan, violations
from meltemi.protos.xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport

Config = dict[str, Any]


def told(message: Message) -> list[str]:
    return [str(violation) for violation in violations(message)]


def test_a_sound_message_breaks_no_rule() -> None:
    assert told(Cluster(name="cart", connect_timeout=Duration(seconds=1))) == []


def test_every_broken_rule_is_told_with_its_path() -> None:
    cluster = Cluster(connect_timeout=Duration())
    cluster.load_assignment.endpoints.add().load_balancing_weight.value = 0
    assert told(cluster) == [
        "name: value length must be at least 1 characters",
        "connect_timeout: value must be greater than 0s",
        "load_assignment.cluster_name: value length must be at least 1 characters",
        "load_assignment.endpoints[0].load_balancing_weight: value must be greater than or equal to 1",
    ]


def test_a_wrapper_that_is_not_set_is_not_checked() -> None:
    cluster = Cluster(name="a")
    cluster.outlier_detection.SetInParent()
    assert told(cluster) == []
    cluster.outlier_detection.max_ejection_percent.value = 101
    assert told(cluster) == ["outlier_detection.max_ejection_percent: value must be less than or equal to 100"]


def test_a_member_of_a_oneof_is_required_only_of_the_chosen_one() -> None:
    assert told(RouteMatch(prefix="/")) == []
    assert told(RouteMatch()) == ["path_specifier: is required"]


def test_ignore_empty_lets_the_empty_value_pass_and_no_other() -> None:
    entry = AlternateProtocolsCacheOptions.AlternateProtocolsCacheEntry
    assert told(entry(hostname="", port=1)) == []
    assert told(entry(hostname="a\n", port=1)) != []


def test_keys_and_values_of_maps_are_checked() -> None:
    metadata = Metadata()
    metadata.filter_metadata[""].update({"a": 1})
    assert told(metadata) == ['filter_metadata[""]: value length must be at least 1 characters']
    report = OrcaLoadReport(utilization={"disk": 1.5, "net": 0.5})
    assert told(report) == ['utilization["disk"]: value must be inside range [0, 1]']


def test_a_skipped_message_is_not_entered() -> None:
    append = KeyValueAppend()
    append.entry.SetInParent()  # Its key would have to be at least one character long.
    assert told(append) == []


def test_a_message_that_envoy_does_not_enter_is_not_entered_here() -> None:
    source = ExtensionConfigSource(type_urls=["type.googleapis.com/google.protobuf.Empty"])
    assert told(source) == ["config_source: value is required"]
    source.config_source.SetInParent()  # It would have to have a config_source_specifier.
    assert told(source) == []


@pytest.mark.parametrize("name", ["x-user", "x user", ":path"])
def test_a_lax_header_name_may_hold_what_cannot_end_the_line(name: str) -> None:
    assert told(HeaderValue(key=name)) == []
    assert told(HeaderValue(key=f"{name}\n")) == ['key: value does not match regex pattern "^[^\\x00\\n\\r]*$"']


def test_what_is_packed_is_checked_under_the_path_of_its_any() -> None:
    host = VirtualHost(name="a", domains=["*"])
    host.typed_per_filter_config["router"].CopyFrom(any_of(Router(strict_check_headers=["x-other"])))
    assert told(host)[0].startswith('typed_per_filter_config["router"].strict_check_headers[0]: value must be in list')
    assert told(any_of(TcpProxy(cluster="a"))) == ["stat_prefix: value length must be at least 1 characters"]


def test_an_any_of_a_type_that_envoy_has_not_got_is_left_alone() -> None:
    assert told(AnyMessage(type_url="type.googleapis.com/example.Unknown", value=b"\xff")) == []


def test_an_any_whose_bytes_are_not_its_type_is_told() -> None:
    packed = AnyMessage(type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster", value=b"\xff")
    assert told(packed) == [": value is not a envoy.config.cluster.v3.Cluster"]


def test_every_rule_of_the_whole_api_is_understood() -> None:
    def plans(message: Descriptor) -> Iterator[object]:
        yield any(_plan(message))
        for nested in message.nested_types:
            yield from plans(nested)

    checked = [
        plan
        for name in files()
        for message in pool.FindFileByName(name).message_types_by_name.values()
        for plan in plans(message)
        if plan
    ]
    assert len(checked) > 1000


# --- The same configurations, asked of Envoy itself -------------------------------------------------------------------


def typed(type_name: str, **fields: Any) -> Config:
    return {"name": type_name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.{type_name}", **fields}}


ROUTER = "filters.http.router.v3.Router"


def cluster(**fields: Any) -> Config:
    return {"static_resources": {"clusters": [{"name": "c", "connect_timeout": "1s", **fields}]}}


def http(**fields: Any) -> Config:
    routes = {"virtual_hosts": [{"name": "v", "domains": ["*"]}]}
    defaults = {"stat_prefix": "x", "route_config": routes, "http_filters": [typed(ROUTER)]}
    manager = {name: value for name, value in {**defaults, **fields}.items() if value is not None}
    filters = [typed("filters.network.http_connection_manager.v3.HttpConnectionManager", **manager)]
    return listener(
        address={"socket_address": {"address": "127.0.0.1", "port_value": 0}}, filter_chains=[{"filters": filters}]
    )


def listener(**fields: Any) -> Config:
    return {"static_resources": {"listeners": [{"name": "l", **fields}]}}


def host(**fields: Any) -> Config:
    return http(route_config={"virtual_hosts": [{"name": "v", "domains": ["*"], **fields}]})


def route(match: Config, **fields: Any) -> Config:
    return host(routes=[{"match": match, **(fields or {"direct_response": {"status": 200}})}])


HEALTH = {"timeout": "1s", "interval": "1s", "unhealthy_threshold": 1, "healthy_threshold": 1}

REFUSED = {
    "string too short": cluster(name=""),
    "string too long": host(request_headers_to_add=[{"header": {"key": "k" * 20000, "value": "x"}}]),
    "string against a pattern": route({"path_separated_prefix": "/a/"}),
    "string against a header's pattern": route({"prefix": "/"}, redirect={"path_redirect": "\n"}),
    "string without a prefix": host(
        rate_limits=[{"actions": [{"generic_key": {"descriptor_value": "x"}}], "hits_addend": {"format": "abc%"}}]
    ),
    "string of none of the values": http(scheme_header_transformation={"scheme_to_overwrite": "ftp"}),
    "duration not greater": cluster(connect_timeout="0s"),
    "duration outside a range": {"stats_flush_interval": "400s"},
    "enum of no defined value": cluster(type=77),
    "enum of a forbidden value": cluster(
        health_checks=[{**HEALTH, "http_health_check": {"path": "/", "method": "CONNECT"}}]
    ),
    "boolean other than its constant": {"stats_flush_on_admin": False},
    "number too great": listener(address={"socket_address": {"address": "127.0.0.1", "port_value": 70000}}),
    "wrapped number too great": cluster(outlier_detection={"max_ejection_percent": 101}),
    "decimal outside a range": cluster(preconnect_policy={"per_upstream_preconnect_ratio": 0.5}),
    "message not set": cluster(health_checks=[{**HEALTH, "timeout": None, "tcp_health_check": {}}]),
    "oneof not set": listener(address={}),
    "oneof not set in an Any": http(route_config=None),
    "too few items": host(domains=[]),
    "too many items": cluster(health_checks=[{**HEALTH, "tcp_health_check": {}}] * 9),
    "item twice": route(
        {"prefix": "/"}, route={"cluster": "c", "internal_redirect_policy": {"response_headers_to_copy": ["a", "a"]}}
    ),
    "item too short": cluster(
        transport_socket=typed(
            "transport_sockets.tls.v3.UpstreamTlsContext",
            common_tls_context={"validation_context": {"verify_certificate_spki": ["a"]}},
        )
    ),
    "item of none of the values": http(http_filters=[typed(ROUTER, strict_check_headers=["x"])]),
    "key of a map": cluster(metadata={"filter_metadata": {"": {}}}),
}


@pytest.mark.parametrize("config", REFUSED.values(), ids=REFUSED.keys())
def test_what_envoy_refuses_is_predicted_in_its_words(config: Config) -> None:
    predicted = {
        f"{_camel(violation.path)}: {violation.message}" for violation in violations(from_dict(Bootstrap, config))
    }
    refused = _envoys_refusal(config)
    assert [text for text in predicted if text.endswith(refused)], f"Envoy says {refused!r}, we say {predicted}"


@pytest.mark.parametrize(
    "config", [cluster(), http(), host(), route({"prefix": "/"})], ids=["cluster", "http", "host", "route"]
)
def test_what_envoy_accepts_breaks_no_rule(config: Config) -> None:
    assert told(from_dict(Bootstrap, config)) == []
    assert "OK" in _validate(config)


def _validate(config: Config) -> str:
    command = [str(envoy_path()), "--mode", "validate", "--log-level", "critical", "--config-yaml", json.dumps(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def _envoys_refusal(config: Config) -> str:
    """Where and why, from Envoy's chain of `…ValidationError.<Field>: embedded message failed | caused by …`."""
    output = _validate(config)
    chain = re.search(r"Proto constraint validation failed \((.*)\)\s*$", output, re.DOTALL)
    assert chain, output
    places = re.findall(r"ValidationError\.(\w+(?:\[[^]]*])?): ", chain[1])
    if oneof := re.search(r'field: "(\w+)", reason: (.*)$', chain[1]):
        return f"{'.'.join([*places, _camel(oneof[1])])}: {oneof[2]}"
    reason = chain[1].rpartition("ValidationError.")[2].partition(": ")[2]
    return f"{'.'.join(places)}: {_seconds(reason)}"


def _camel(path: str) -> str:
    """A path as protoc-gen-validate names fields: upper camel case, keys of maps without quotes."""
    return re.sub(r"(?:^|_|(?<=\.))([a-z0-9])", lambda found: found[1].upper(), path.replace('"', ""))


def _seconds(reason: str) -> str:
    """Durations in seconds: Envoy writes `5m0s` where protobuf's notation is `300s`."""
    return re.sub(
        r"(?<=range \[)([\dmsh]+), ([\dmsh]+)(?=\))",
        lambda found: ", ".join(format_duration(parse_duration(text)) for text in found.groups()),
        reason,
    )


def test_a_range_with_its_ends_swapped_is_a_gap() -> None:
    from meltemi.protos.constraints import constraints
    from meltemi.protos.validate.validate_pb2 import UInt32Rules

    (gap,) = constraints("uint32", UInt32Rules(lt=10, gte=20), None)
    assert [gap.holds(value) for value in (9, 10, 19, 20)] == [True, False, False, True]
    assert gap.otherwise == "value must be outside range [10, 20)"


def test_ports_are_checked() -> None:
    assert told(SocketAddress(address="10.0.0.1", port_value=70000)) == [
        "port_value: value must be less than or equal to 65535"
    ]
