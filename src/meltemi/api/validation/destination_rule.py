"""Whether a DestinationRule can mean anything: subsets, balancing, pools, outlier detection, TLS."""

from __future__ import annotations

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults, warning
from meltemi.api.networking.destination_rule import (
    ClientTlsSettings,
    ConnectionPoolSettings,
    ConsistentHashLb,
    DestinationRule,
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
    TunnelSettings,
)
from meltemi.api.validation import terms
from meltemi.base.durations import parse_duration

_SOMETHING = "add loadBalancer, connectionPool, outlierDetection or tls"
_LARGEST_TABLE = 5_000_011
_LARGEST_RING = 8_388_608


def destination_rule(resource: DestinationRule) -> Faults:
    """What is wrong with a DestinationRule."""
    spec = resource.spec
    yield from terms.host("spec.host", spec.host)
    if spec.traffic_policy:
        yield from traffic_policy("spec.trafficPolicy", spec.traffic_policy)
    yield from terms.duplicates("spec.subsets", [subset.name for subset in spec.subsets], "subset")
    for index, subset in enumerate(spec.subsets):
        path = paths.item("spec.subsets", index)
        yield from terms.dns_label(f"{path}.name", subset.name.lower(), "the name of a subset")
        yield from terms.labels(f"{path}.labels", subset.labels)
        if not subset.labels and not subset.traffic_policy:
            yield warning(path, f"the subset {subset.name!r} is the same as the whole service", "add labels")
        if subset.traffic_policy:
            yield from traffic_policy(f"{path}.trafficPolicy", subset.traffic_policy)
    yield from terms.export_to("spec.exportTo", spec.export_to, resource.namespace)
    if spec.workload_selector:
        yield from terms.selector("spec.workloadSelector.matchLabels", spec.workload_selector.match_labels)
        for index, namespace in enumerate(spec.export_to):
            if namespace not in (".", resource.namespace):
                yield Fault(
                    paths.item("spec.exportTo", index),
                    "a rule for some workloads holds in its own namespace only",
                    "remove exportTo, or workloadSelector",
                    "Conflict",
                )


def traffic_policy(path: str, policy: TrafficPolicy) -> Faults:
    """What is wrong with a policy towards a service."""
    if policy == TrafficPolicy():
        yield Fault(path, "the policy says nothing", _SOMETHING, "RequiredField")
    if policy.tunnel and policy.proxy_protocol:
        yield Fault(
            f"{path}.proxyProtocol", "tunnel and proxyProtocol exclude each other", "keep one of the two", "Conflict"
        )
    yield from _policy(path, policy)
    seen: set[int] = set()
    for index, settings in enumerate(policy.port_level_settings):
        where = paths.item(f"{path}.portLevelSettings", index)
        if settings.port is None:
            yield Fault(f"{where}.port", "it does not say which port", "add port.number", "RequiredField")
        elif settings.port.number in seen:
            yield Fault(f"{where}.port.number", "the port is listed twice", "keep one", "Duplicate")
        else:
            seen.add(settings.port.number)
        if settings == PortTrafficPolicy(port=settings.port):
            yield Fault(where, "the policy of the port says nothing", _SOMETHING, "RequiredField")
        yield from _policy(where, settings)
    if policy.tunnel:
        yield from _tunnel(f"{path}.tunnel", policy.tunnel)


def _policy(path: str, policy: TrafficPolicy | PortTrafficPolicy) -> Faults:
    if policy.load_balancer:
        yield from _load_balancer(f"{path}.loadBalancer", policy.load_balancer)
        locality = policy.load_balancer.locality_lb_setting
        if locality and (locality.failover or locality.failover_priority) and not policy.outlier_detection:
            yield warning(
                f"{path}.loadBalancer.localityLbSetting",
                "traffic fails over only from endpoints that are known to be unhealthy",
                "add outlierDetection",
            )
    if policy.connection_pool:
        yield from connection_pool(f"{path}.connectionPool", policy.connection_pool)
    if policy.outlier_detection:
        yield from _outlier_detection(f"{path}.outlierDetection", policy.outlier_detection)
    if policy.tls:
        yield from client_tls(f"{path}.tls", policy.tls)


def _load_balancer(path: str, settings: LoadBalancerSettings) -> Faults:
    if settings.consistent_hash:
        yield from _consistent_hash(f"{path}.consistentHash", settings.consistent_hash)
    if settings.locality_lb_setting:
        yield from _locality(f"{path}.localityLbSetting", settings.locality_lb_setting)
    if settings.warmup and settings.warmup_duration_secs:
        yield Fault(
            f"{path}.warmupDurationSecs", "warmup and warmupDurationSecs exclude each other", "keep warmup", "Conflict"
        )
    warms_up = settings.warmup or settings.warmup_duration_secs
    if warms_up and (settings.consistent_hash or settings.simple in ("RANDOM", "PASSTHROUGH")):
        name = "warmup" if settings.warmup else "warmupDurationSecs"
        yield Fault(
            f"{path}.{name}", "only ROUND_ROBIN and LEAST_REQUEST can warm up", "use simple: LEAST_REQUEST", "Conflict"
        )


def _consistent_hash(path: str, settings: ConsistentHashLb) -> Faults:
    keys = (
        settings.http_header_name,
        settings.http_cookie,
        settings.use_source_ip,
        settings.http_query_parameter_name,
    )
    if not any(keys):
        yield Fault(
            path,
            "it does not say what to hash",
            "add httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName",
            "RequiredField",
        )
    if settings.http_header_name is not None:
        yield from terms.header_name(f"{path}.httpHeaderName", settings.http_header_name)
    if settings.http_cookie:
        if not settings.http_cookie.name:
            yield Fault(f"{path}.httpCookie.name", "the cookie has no name", "add a name", "RequiredField")
        ttl = settings.http_cookie.ttl
        if ttl is not None and parse_duration(ttl).total_seconds() < 0:
            yield Fault(f"{path}.httpCookie.ttl", f"{ttl} is negative", "write 0s or more", "OutOfRange")
    if settings.minimum_ring_size:
        where = f"{path}.minimumRingSize"
        yield warning(where, "the field is deprecated", "use ringHash.minimumRingSize", "DeprecatedField")
        if settings.ring_hash or settings.maglev:
            name = "ringHash" if settings.ring_hash else "maglev"
            yield Fault(where, f"minimumRingSize and {name} exclude each other", f"keep {name}", "Conflict")
    if settings.maglev and not _is_table_size(settings.maglev.table_size):
        yield Fault(
            f"{path}.maglev.tableSize",
            f"{settings.maglev.table_size} is not a prime number up to {_LARGEST_TABLE}",
            "write a prime number such as 65537",
            "OutOfRange",
        )
    for name, size in (
        ("minimumRingSize", settings.minimum_ring_size),
        ("ringHash.minimumRingSize", settings.ring_hash.minimum_ring_size if settings.ring_hash else 0),
    ):
        if size > _LARGEST_RING:
            yield Fault(f"{path}.{name}", f"{size} is too large", f"write {_LARGEST_RING} or less", "OutOfRange")


def _is_table_size(size: int) -> bool:
    return (
        1 < size <= _LARGEST_TABLE
        and (size == 2 or size % 2 == 1)
        and all(size % divisor for divisor in range(3, int(size**0.5) + 1, 2))
    )


def _locality(path: str, settings: LocalityLoadBalancerSetting) -> Faults:
    given = [
        name
        for name, value in (
            ("distribute", settings.distribute),
            ("failover", settings.failover),
        )
        if value
    ]
    if settings.distribute and (settings.failover or settings.failover_priority):
        given.append("failoverPriority" if settings.failover_priority else "failover")
        yield Fault(
            f"{path}.{given[-1]}", f"distribute and {given[-1]} exclude each other", "keep one of the two", "Conflict"
        )
    for index, distribution in enumerate(settings.distribute):
        where = f"{path}.distribute[{index}].to"
        yield from _locality_name(f"{path}.distribute[{index}].from", distribution.from_)
        for name, share in distribution.to.items():
            yield from _locality_name(paths.key(where, name), name)
            if not 1 <= share <= 100:
                yield Fault(paths.key(where, name), f"{share} is not a share", "write 1 to 100", "OutOfRange")
        if sum(distribution.to.values()) != 100:
            yield Fault(
                where, f"the shares add up to {sum(distribution.to.values())}", "make them add up to 100", "OutOfRange"
            )
    for index, failover in enumerate(settings.failover):
        for name, region in (("from", failover.from_), ("to", failover.to)):
            if "/" in region or "*" in region:
                yield Fault(f"{path}.failover[{index}].{name}", f"{region!r} is not a region", "write a region alone")
        if failover.from_ == failover.to:
            yield Fault(f"{path}.failover[{index}].to", "a region cannot stand in for itself", "name another region")


def _locality_name(path: str, value: str) -> Faults:
    """`region/zone/subzone`, shorter ones, and a wildcard for what follows."""
    parts = value.split("/")
    wild = "*" in parts[:-1] or any("*" in part and part != "*" for part in parts)
    if not value or len(parts) > 3 or not all(parts) or wild:
        yield Fault(path, f"{value!r} is not a locality", "write it as region/zone/subzone or region/*")


def connection_pool(path: str, settings: ConnectionPoolSettings) -> Faults:
    """What is wrong with the limits of a pool."""
    if not (settings.tcp or settings.http):
        yield Fault(path, "no limit is set", "add tcp or http", "RequiredField")
    if settings.tcp:
        yield from terms.not_negative(f"{path}.tcp.maxConnections", settings.tcp.max_connections)
    if settings.http:
        http = settings.http
        for name, value in (
            ("http1MaxPendingRequests", http.http1_max_pending_requests),
            ("http2MaxRequests", http.http2_max_requests),
            ("maxRequestsPerConnection", http.max_requests_per_connection),
            ("maxRetries", http.max_retries),
            ("maxConcurrentStreams", http.max_concurrent_streams),
        ):
            yield from terms.not_negative(f"{path}.http.{name}", value)
        if http.use_client_protocol and http.h2_upgrade_policy == "UPGRADE":
            yield Fault(
                f"{path}.http.useClientProtocol",
                "useClientProtocol and h2UpgradePolicy UPGRADE exclude each other",
                "keep one of the two",
                "Conflict",
            )


def _outlier_detection(path: str, settings: OutlierDetection) -> Faults:
    if settings.consecutive_errors:
        yield warning(
            f"{path}.consecutiveErrors", "the field is deprecated", "use consecutive5xxErrors", "DeprecatedField"
        )
    if settings.consecutive_local_origin_failures and not settings.split_external_local_origin_errors:
        yield Fault(
            f"{path}.consecutiveLocalOriginFailures",
            "local failures are counted only apart from external ones",
            "add splitExternalLocalOriginErrors: true",
            "Conflict",
        )


def client_tls(path: str, settings: ClientTlsSettings) -> Faults:
    """What is wrong with TLS towards a service."""
    files = {
        "clientCertificate": settings.client_certificate,
        "privateKey": settings.private_key,
        "caCertificates": settings.ca_certificates,
        "caCrl": settings.ca_crl,
    }
    given = [name for name, value in files.items() if value]
    if settings.mode == "ISTIO_MUTUAL" and (given or settings.credential_name):
        name = given[0] if given else "credentialName"
        yield Fault(
            f"{path}.{name}", f"the mesh has its own certificates for ISTIO_MUTUAL: {name} is not used", "remove it"
        )
    elif settings.credential_name and given:
        yield Fault(
            f"{path}.{given[0]}", f"credentialName and {given[0]} exclude each other", "keep one of the two", "Conflict"
        )
    elif settings.mode == "MUTUAL" and not settings.credential_name:
        for name in ("clientCertificate", "privateKey"):
            if not files[name]:
                yield Fault(f"{path}.{name}", f"MUTUAL needs {name}", f"add credentialName or {name}", "RequiredField")
    elif settings.mode == "DISABLE" and (given or settings.credential_name or settings.sni):
        yield warning(path, "the mode DISABLE leaves the other fields without effect", "set mode: SIMPLE or MUTUAL")
    if settings.insecure_skip_verify and (settings.ca_certificates or settings.subject_alt_names):
        name = "caCertificates" if settings.ca_certificates else "subjectAltNames"
        yield Fault(
            f"{path}.{name}", f"insecureSkipVerify leaves {name} without effect", "keep one of the two", "Conflict"
        )


def _tunnel(path: str, tunnel: TunnelSettings) -> Faults:
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        yield Fault(f"{path}.protocol", f"{tunnel.protocol!r} cannot carry a tunnel", "write CONNECT or POST")
    yield from terms.host(f"{path}.targetHost", tunnel.target_host, wildcard=False, address=True)
