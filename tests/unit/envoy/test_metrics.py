from __future__ import annotations

from typing import Any

from meltemi.envoy import access_logs, http, tcp
from meltemi.model.mesh import Mesh
from meltemi.protos import unpack

HTTP_LABELS = {
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_cluster",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_code",
    "response_flags",
    "connection_security_policy",
}


def configs(loggers: Any) -> list[Any]:
    return [unpack(logger.typed_config) for logger in loggers]


def labels(stat: Any) -> dict[str, str]:
    return {tag.name: tag.value_format for tag in stat.tags}


def test_requests_are_counted_under_istios_names_and_labels() -> None:
    plain, grpc = configs(http.outbound_loggers(Mesh()))
    assert plain.stats_scope.prefix == "istio"
    assert [each.stat.name for each in plain.counters] == ["requests_total"]
    assert [each.stat.name for each in plain.histograms] == [
        "request_duration_milliseconds",
        "request_bytes",
        "response_bytes",
    ]
    assert labels(plain.counters[0].stat).keys() == HTTP_LABELS
    assert labels(grpc.counters[0].stat).keys() == HTTP_LABELS | {"grpc_response_status"}


def test_the_client_reports_as_source_with_the_service_it_meant() -> None:
    found = labels(configs(http.outbound_loggers(Mesh()))[0].counters[0].stat)
    assert found["reporter"] == "source"
    assert found["connection_security_policy"] == "unknown"
    assert found["source_workload"] == "%ENVIRONMENT(MELTEMI_WORKLOAD_NAME)%"
    assert found["destination_workload"] == "%METADATA(UPSTREAM_HOST:mesh:workload)%"
    assert "VIRTUAL_HOST:mesh:service_host" in found["destination_service"]


def test_connections_are_counted_when_opened_and_bytes_when_closed() -> None:
    opened, closed = configs(tcp.outbound_loggers(Mesh()))
    assert [each.stat.name for each in opened.counters] == ["tcp_connections_opened_total"]
    assert [each.stat.name for each in closed.counters] == [
        "tcp_connections_closed_total",
        "tcp_received_bytes_total",
        "tcp_sent_bytes_total",
    ]
    assert labels(opened.counters[0].stat).keys() == HTTP_LABELS - {"response_code"}


def test_the_access_log_has_istios_default_format() -> None:
    assert access_logs.default_text() == (
        '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
        "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
        '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
        '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
        '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
        "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
        "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
    )


def test_the_access_log_may_be_json() -> None:
    (logger,) = access_logs.loggers(Mesh(access_log_file="/dev/stdout", access_log_json=True))
    message: Any = unpack(logger.typed_config)
    assert len(message.log_format.json_format.fields) == 24
