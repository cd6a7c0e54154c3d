"""What users patch in Envoy's configuration: the message that each sort of patch is, read from JSON.

Users write for the Envoy they know, which may be newer or older than ours. So, as in Istio, a field that our Envoy has
not got is left out and told, while a value that cannot be such a message at all is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from meltemi.protos.archive import pool
from meltemi.protos.messages import message_class

MESSAGES: Mapping[str, str] = {
    "LISTENER": "envoy.config.listener.v3.Listener",
    "FILTER_CHAIN": "envoy.config.listener.v3.FilterChain",
    "LISTENER_FILTER": "envoy.config.listener.v3.ListenerFilter",
    "NETWORK_FILTER": "envoy.config.listener.v3.Filter",
    "HTTP_FILTER": "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    "ROUTE_CONFIGURATION": "envoy.config.route.v3.RouteConfiguration",
    "VIRTUAL_HOST": "envoy.config.route.v3.VirtualHost",
    "HTTP_ROUTE": "envoy.config.route.v3.Route",
    "CLUSTER": "envoy.config.cluster.v3.Cluster",
    "EXTENSION_CONFIG": "envoy.config.core.v3.TypedExtensionConfig",
    "BOOTSTRAP": "envoy.config.bootstrap.v3.Bootstrap",
}
"""The message of each `applyTo` of Istio's EnvoyFilter."""


class Unreadable(Exception):
    """The value is no such message; the message says why, in protobuf's words."""


def read(apply_to: str, value: Mapping[str, Any]) -> tuple[Message, str]:
    """The message in a patch, without fields that our Envoy has not got, and what is said of the first of those."""
    cls = message_class(MESSAGES[apply_to])
    try:
        return json_format.ParseDict(dict(value), cls(), descriptor_pool=pool), ""
    except (json_format.ParseError, TypeError, KeyError) as strict:
        objection = str(strict)
    try:
        message = json_format.ParseDict(dict(value), cls(), ignore_unknown_fields=True, descriptor_pool=pool)
    except (json_format.ParseError, TypeError, KeyError) as error:
        raise Unreadable(str(error)) from error
    return message, objection
