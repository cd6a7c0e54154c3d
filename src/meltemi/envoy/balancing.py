"""How a cluster chooses an endpoint: Istio's balancers as Envoy's typed load balancing policies.

Policies nest. A headless service's clients choose an endpoint by themselves, by its address; the policies around the
balancer keep to that choice where it is known (HTTP: a header that the route sets; TCP: the metadata that the filter
chain asks for), and the balancer decides otherwise. So every endpoint keeps its own transport, mTLS or plaintext.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message

from meltemi.envoy import metadata, names
from meltemi.envoy.values import duration, extension, percent, runtime_double, uint64
from meltemi.model.traffic import Balancer, Balancing, ConsistentHash, HashRing, HashSource, Utilization, Warmup
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import LoadBalancingPolicy
from meltemi.protos.envoy.config.route.v3.route_components_pb2 import RouteAction
from meltemi.protos.envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3 import (
    client_side_weighted_round_robin_pb2 as by_load,
)
from meltemi.protos.envoy.extensions.load_balancing_policies.common.v3.common_pb2 import SlowStartConfig
from meltemi.protos.envoy.extensions.load_balancing_policies.least_request.v3.least_request_pb2 import LeastRequest
from meltemi.protos.envoy.extensions.load_balancing_policies.maglev.v3.maglev_pb2 import Maglev
from meltemi.protos.envoy.extensions.load_balancing_policies.override_host.v3.override_host_pb2 import OverrideHost
from meltemi.protos.envoy.extensions.load_balancing_policies.random.v3.random_pb2 import Random
from meltemi.protos.envoy.extensions.load_balancing_policies.ring_hash.v3.ring_hash_pb2 import RingHash
from meltemi.protos.envoy.extensions.load_balancing_policies.round_robin.v3.round_robin_pb2 import RoundRobin
from meltemi.protos.envoy.extensions.load_balancing_policies.subset.v3.subset_pb2 import Subset
from meltemi.protos.envoy.type.v3.hash_policy_pb2 import HashPolicy as TcpHashPolicy

_PREFIX = "envoy.load_balancing_policies."


def policy(settings: Balancing, *, addressed: bool = False) -> LoadBalancingPolicy:
    """The load balancing policy of a cluster. `addressed`: clients may choose an endpoint by its address."""
    chosen = _policy(_balancer(settings))
    if not addressed:
        return chosen
    by_address = Subset(
        fallback_policy=Subset.ANY_ENDPOINT,
        subset_selectors=[Subset.LbSubsetSelector(keys=[metadata.ADDRESS], single_host_per_subset=True)],
        subset_lb_policy=chosen,
    )
    by_header = OverrideHost(
        override_host_sources=[OverrideHost.OverrideHostSource(header=names.ORIGINAL_DESTINATION_HEADER)],
        fallback_policy=_policy(by_address),
    )
    return _policy(by_header)


def _policy(message: Message) -> LoadBalancingPolicy:
    package = message.DESCRIPTOR.full_name.split(".")
    return LoadBalancingPolicy(
        policies=[LoadBalancingPolicy.Policy(typed_extension_config=extension(_PREFIX + package[-3], message))]
    )


def _balancer(settings: Balancing) -> Message:
    if settings.hash is not None:
        if settings.hash.ring is HashRing.MAGLEV:
            return Maglev(table_size=uint64(settings.hash.table_size))
        return RingHash(minimum_ring_size=uint64(settings.hash.minimum_ring_size))
    if settings.simple is Balancer.RANDOM:
        return Random()
    warmup = None if settings.warmup is None else _slow_start(settings.warmup)
    if settings.utilization is not None:
        return _by_utilization(settings.utilization, warmup)
    if settings.simple is Balancer.ROUND_ROBIN:
        return RoundRobin(slow_start_config=warmup)
    return LeastRequest(slow_start_config=warmup)


def _by_utilization(settings: Utilization, warmup: SlowStartConfig | None) -> by_load.ClientSideWeightedRoundRobin:
    message = by_load.ClientSideWeightedRoundRobin(
        metric_names_for_computing_utilization=settings.metrics, slow_start_config=warmup
    )
    if settings.blackout is not None:
        message.blackout_period.CopyFrom(duration(settings.blackout))
    if settings.expiration is not None:
        message.weight_expiration_period.CopyFrom(duration(settings.expiration))
    if settings.update is not None:
        message.weight_update_period.CopyFrom(duration(settings.update))
    if settings.error_penalty is not None:
        message.error_utilization_penalty.value = settings.error_penalty
    return message


def _slow_start(warmup: Warmup) -> SlowStartConfig:
    return SlowStartConfig(
        slow_start_window=duration(warmup.duration),
        aggression=runtime_double(warmup.aggression, "meltemi.slow_start.aggression"),
        min_weight_percent=percent(warmup.minimum_percent),
    )


def http_hash_policies(settings: ConsistentHash | None) -> Iterable[RouteAction.HashPolicy]:
    """What of a request is hashed. It stands in the cluster, so that routes need not know their targets' policies."""
    if settings is None:
        return
    policy = RouteAction.HashPolicy
    match settings.source:
        case HashSource.HEADER:
            yield policy(header=policy.Header(header_name=settings.name))
        case HashSource.QUERY_PARAMETER:
            yield policy(query_parameter=policy.QueryParameter(name=settings.name))
        case HashSource.SOURCE_IP:
            yield policy(connection_properties=policy.ConnectionProperties(source_ip=True))
        case HashSource.COOKIE:
            attributes = [policy.CookieAttribute(name=name, value=value) for name, value in settings.attributes]
            cookie = policy.Cookie(name=settings.name, path=settings.path, attributes=attributes)
            if settings.ttl is not None:
                cookie.ttl.CopyFrom(duration(settings.ttl))
            yield policy(cookie=cookie)


def tcp_hash_policies(settings: ConsistentHash | None) -> Iterable[TcpHashPolicy]:
    """What of a connection is hashed: its source address, if the DestinationRule says so; there is nothing else."""
    if settings is not None and settings.source is HashSource.SOURCE_IP:
        yield TcpHashPolicy(source_ip=TcpHashPolicy.SourceIp())
