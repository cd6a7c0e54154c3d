"""Access logs in files, in Istio's format, for those who ask for them (`accessLogFile`); there are none by default."""

from __future__ import annotations

import json

from meltemi.model.mesh import Mesh
from meltemi.protos import any_of, from_dict
from meltemi.protos.envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLog,
    AccessLogFilter,
    ResponseFlagFilter,
)
from meltemi.protos.envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from meltemi.protos.envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from meltemi.protos.google.protobuf.struct_pb2 import Struct

NAME = "envoy.access_loggers.file"

# Field of the JSON form -> format string, in the order of the text form. Source: Istio's default access log.
_FIELDS = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
}
_REQUEST_LINE = ("method", "path", "protocol")
_QUOTED = frozenset(
    {
        "upstream_transport_failure_reason",
        "x_forwarded_for",
        "user_agent",
        "request_id",
        "authority",
        "upstream_host",
    }
)


def default_text() -> str:
    """Istio's default format, a line."""
    words = ["[" + _FIELDS["start_time"] + "]", '"' + " ".join(_FIELDS[name] for name in _REQUEST_LINE) + '"']
    for name, value in list(_FIELDS.items())[1 + len(_REQUEST_LINE) :]:
        words.append(f'"{value}"' if name in _QUOTED else value)
    return " ".join(words) + "\n"


def loggers(mesh: Mesh, *, only_unrouted: bool = False) -> list[AccessLog]:
    """The file logger that the mesh asks for, if any. `only_unrouted`: log only what found no route (listener level)."""
    if not mesh.access_log_file or (only_unrouted and not mesh.listener_logs):
        return []
    config = FileAccessLog(path=mesh.access_log_file, log_format=_format(mesh))
    condition = None
    if only_unrouted:
        condition = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["NR"]))
    return [AccessLog(name=NAME, filter=condition, typed_config=any_of(config))]


def _format(mesh: Mesh) -> SubstitutionFormatString:
    message = SubstitutionFormatString()
    if not mesh.access_log_json:
        message.text_format_source.inline_string = mesh.access_log_format or default_text()
        return message
    fields = json.loads(mesh.access_log_format) if mesh.access_log_format else _FIELDS
    message.json_format.CopyFrom(from_dict(Struct, fields))
    return message
