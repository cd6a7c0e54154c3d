"""Envoy's API, exactly as the Envoy that we run has it, private to Meltemi.

`from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster` works for every .proto file that the binary was
built with (and for our own in `sources/`), under the names that protoc gives, with no generated code. Messages live in a
private descriptor pool, `pool`: they neither meet nor disturb what other packages register under the same names. The
well-known types are here as well (`meltemi.protos.google.protobuf.duration_pb2`) and behave as protobuf's own do.
"""

from meltemi.protos import modules
from meltemi.protos.archive import ENVOY_VERSION, pool

modules.install()

from meltemi.protos.messages import any_of, from_dict, message_class, to_dict, type_url, unpack  # noqa: E402

__all__ = ["ENVOY_VERSION", "any_of", "from_dict", "message_class", "pool", "to_dict", "type_url", "unpack"]
