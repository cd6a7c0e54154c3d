"""What a peer says of itself, and when it is believed: who called, beyond the identity that its certificate proves.

A client's sidecar sends a header with the names of its workload. The server's takes it where mutual TLS has shown that
the peer belongs to the mesh, puts it where metrics find it, and removes it, so that no application ever sees it. On any
other connection anybody could have written it: there it is removed unread.

The value is a `google.protobuf.Value`, serialised and in base64, which Envoy takes apart by itself: a format string gets
at a single field by `%DYNAMIC_METADATA(mesh:peer:workload)%`.
"""

from __future__ import annotations

import functools

from meltemi.envoy import names
from meltemi.envoy.metadata import MESH, PEER
from meltemi.protos import any_of
from meltemi.protos.envoy.config.common.mutation_rules.v3.mutation_rules_pb2 import HeaderMutation
from meltemi.protos.envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import (
    HeaderMutation as MutationConfig,
)
from meltemi.protos.envoy.extensions.filters.http.header_mutation.v3.header_mutation_pb2 import Mutations
from meltemi.protos.envoy.extensions.filters.http.header_to_metadata.v3.header_to_metadata_pb2 import Config
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpFilter,
)

NAME = "envoy.filters.http.header_to_metadata"
REMOVAL = "envoy.filters.http.header_mutation"


@functools.cache
def believed() -> HttpFilter:
    """Takes what the peer says of itself off the request, and keeps it for metrics. Made once: do not change it."""
    rule = Config.Rule(
        header=names.PEER_METADATA_HEADER,
        on_header_present=Config.KeyValuePair(
            metadata_namespace=MESH, key=PEER, type=Config.PROTOBUF_VALUE, encode=Config.BASE64
        ),
        remove=True,
    )
    return HttpFilter(name=NAME, typed_config=any_of(Config(request_rules=[rule])))


@functools.cache
def ignored() -> HttpFilter:
    """Removes what a client outside the mesh says in the mesh's words. Made once: do not change it."""
    mutations = Mutations(request_mutations=[HeaderMutation(remove=names.PEER_METADATA_HEADER)])
    return HttpFilter(name=REMOVAL, typed_config=any_of(MutationConfig(mutations=mutations)))
