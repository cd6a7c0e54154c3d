"""What clusters and endpoints carry beside their configuration, for metrics, balancing and the choice of transport.

Format strings of access loggers reach a metadata value by its path, so what metrics need stands flat under `mesh`:
`%METADATA(CLUSTER:mesh:service_host)%`, `%METADATA(UPSTREAM_HOST:mesh:workload)%`. Nothing is left empty: a metric
shows what it finds, and Istio's word for "not known" is `unknown`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from meltemi.model.services import Endpoint, Service, WorkloadName
from meltemi.protos.envoy.config.core.v3.base_pb2 import Metadata
from meltemi.protos.google.protobuf.struct_pb2 import ListValue, Struct, Value

MESH = "mesh"
PEER = "peer"  # under `mesh`, of a request: what its client said of itself
TRANSPORT = "envoy.transport_socket_match"
BALANCING = "envoy.lb"

TLS_MODE = "tlsMode"
MUTUAL = "istio"
DISABLED = "disabled"
ADDRESS = "address"  # under `envoy.lb`: picks one endpoint by its address

UNKNOWN = "unknown"
LATEST = "latest"


def texts(values: Mapping[str, str]) -> Struct:
    """A Struct of texts."""
    return Struct(fields={key: Value(string_value=value) for key, value in values.items()})


def of_cluster(service: Service) -> Metadata:
    """The service that a cluster leads to, for metrics, and Istio's own list of it for the tools that read that."""
    names = {"host": service.host, "name": service.name, "namespace": service.namespace}
    listed = Value(list_value=ListValue(values=[Value(struct_value=texts(names))]))
    return Metadata(
        filter_metadata={MESH: _service(service), "istio": Struct(fields={"services": listed})},
    )


def of_route(host: str, name: str, namespace: str) -> Metadata:
    """The service that a request was meant for, where no cluster can tell."""
    fields = {"service_host": host, "service_name": name, "service_namespace": namespace}
    return Metadata(filter_metadata={MESH: texts(fields)})


def of_endpoint(endpoint: Endpoint, *, addressed: bool = False) -> Metadata:
    """How an endpoint is to be spoken to, and who it is. `addressed`: it can be picked by its address.

    Made once for all endpoints of a workload: do not change it.
    """
    shared = _endpoint(endpoint.meshed, endpoint.names)
    if not addressed:
        return shared
    message = Metadata()
    message.CopyFrom(shared)
    message.filter_metadata[BALANCING].CopyFrom(texts({ADDRESS: endpoint.address}))
    return message


@functools.lru_cache(maxsize=4096)
def _endpoint(meshed: bool, names: WorkloadName) -> Metadata:
    mode = MUTUAL if meshed else DISABLED
    return Metadata(filter_metadata={TRANSPORT: texts({TLS_MODE: mode}), MESH: texts(_workload(names))})


def _service(service: Service) -> Struct:
    return texts(
        {"service_host": service.host, "service_name": service.name, "service_namespace": service.namespace},
    )


def _workload(names: WorkloadName) -> dict[str, str]:
    return {
        "workload": names.workload or UNKNOWN,
        "namespace": names.namespace or UNKNOWN,
        "app": names.app or UNKNOWN,
        "version": names.version or UNKNOWN,
        "canonical_service": names.canonical_service or UNKNOWN,
        "canonical_revision": names.canonical_revision or LATEST,
        "cluster": names.cluster or UNKNOWN,
    }
