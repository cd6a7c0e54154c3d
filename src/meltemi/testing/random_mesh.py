"""Random, valid configurations: a few services, and everything that users may say about them.

A seed gives the same mesh on every machine, so that a failure is told by one number. What is made here is valid by
Istio's rules; whatever goes wrong with it further down is a fault of ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Json = dict[str, Any]
T = TypeVar("T")

NAMESPACES = ("shop", "store", "lab")
SERVICES = ("cart", "pay", "ship")
VERSIONS = ("v1", "v2")
PROTOCOLS = ("http", "http2", "grpc", "tcp", "tls", "https", "", "mongo", "mysql", "redis", "grpc-web")
PORTS = (80, 443, 8080, 9000, 3306, 9090)
OUTBOUND_POLICIES = (
    {"mode": "REGISTRY_ONLY"},
    {"mode": "ALLOW_ANY"},
    {"mode": "ALLOW_ANY", "egressProxy": {"host": "cart.shop.svc.cluster.local", "port": {"number": 80}}},
)
CREATED = "2026-01-01T00:00:{:02d}Z"


class RandomMesh:
    """Makes one mesh. `objects()` gives its manifests as Kubernetes would return them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._count = 0
        self._objects: list[Json] = []
        self.services: dict[tuple[str, str], list[Json]] = {}

    def objects(self) -> list[Json]:
        """All objects of the mesh, in an order of their own."""
        for namespace in NAMESPACES:
            for name in self._some(SERVICES, at_least=1):
                self._service(namespace, name)
        for make in (self._virtual_service, self._destination_rule, self._service_entry, self._gateway):
            for _ in range(self._random.randint(0, 3)):
                make()
        for make in (self._sidecar, self._peer_authentication, self._authorization_policy):
            for _ in range(self._random.randint(0, 2)):
                make()
        self._random.shuffle(self._objects)
        return self._objects

    # === small choices ===

    def _one(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)

    def _some(self, choices: Sequence[T], at_least: int = 0) -> list[T]:
        return self._random.sample(list(choices), self._random.randint(at_least, len(choices)))

    def _maybe(self, make: Callable[[], T], chance: float = 0.3) -> T | None:
        return make() if self._random.random() < chance else None

    def _fields(self, **makers: Callable[[], object]) -> Json:
        """Some of the fields, each by chance."""
        made = {name: self._maybe(make) for name, make in makers.items()}
        return {name: value for name, value in made.items() if value is not None}

    def _duration(self) -> str:
        return self._one(("1ms", "250ms", "1s", "1.5s", "30s", "1m", "1h"))

    def _percent(self) -> Json:
        return {"value": self._one((0, 0.1, 1, 33.3, 50, 100))}

    def _add(self, api_version: str, kind: str, namespace: str, name: str, **content: Any) -> None:
        self._count += 1
        metadata = {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": CREATED.format(self._random.randint(0, 59)),
            "resourceVersion": str(self._count),
            "generation": 1,
            **content.pop("metadata", {}),
        }
        self._objects.append({"apiVersion": api_version, "kind": kind, "metadata": metadata, **content})

    def _name(self, prefix: str) -> str:
        return f"{prefix}-{self._count}"

    # === services and who answers for them ===

    def _service(self, namespace: str, name: str) -> None:
        ports = [self._port(number) for number in self._some(PORTS, at_least=1)]
        self.services[(namespace, name)] = ports
        headless = self._random.random() < 0.15
        index = len(self.services)
        spec: Json = {
            "selector": {"app": name},
            "ports": ports,
            "clusterIP": "None" if headless else f"10.96.0.{index}",
        }
        metadata: Json = {}
        if self._random.random() < 0.2:
            metadata["annotations"] = {"networking.istio.io/exportTo": self._one((".", "*", "shop,lab", "~"))}
        if self._random.random() < 0.2:
            metadata["labels"] = {f"istio.io/persistent-session{self._one(('', '-header'))}": "x-session"}
        self._add("v1", "Service", namespace, name, spec=spec, metadata=metadata)
        addresses = []
        for version in VERSIONS:
            pod = f"{name}-{version}"
            address = f"10.244.{index}.{1 + VERSIONS.index(version)}"
            self._pod(namespace, pod, name, version, address)
            ready = self._random.random() < 0.8
            target = {"kind": "Pod", "namespace": namespace, "name": pod}
            addresses.append({"addresses": [address], "conditions": {"ready": ready}, "targetRef": target})
        self._add(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            namespace,
            f"{name}-slice",
            metadata={"labels": {"kubernetes.io/service-name": name}},
            addressType="IPv4",
            ports=[{"name": port["name"], "port": port["targetPort"], "protocol": "TCP"} for port in ports],
            endpoints=addresses,
        )

    def _port(self, number: int) -> Json:
        protocol = self._one(PROTOCOLS)
        name = f"{protocol}-{number}" if protocol else f"p{number}"
        port: Json = {"name": name, "port": number, "targetPort": self._one((number, number + 1000)), "protocol": "TCP"}
        if self._random.random() < 0.1:
            port["appProtocol"] = self._one(("http", "kubernetes.io/h2c", "kubernetes.io/ws", "tcp", "grpc"))
        return port

    def _pod(self, namespace: str, name: str, app: str, version: str, address: str) -> None:
        labels = {"app": app, "version": version}
        if self._random.random() < 0.8:
            labels["security.istio.io/tlsMode"] = "istio"
        self._add(
            "v1",
            "Pod",
            namespace,
            name,
            metadata={"labels": labels},
            spec={"serviceAccountName": app, "containers": [{"name": app}]},
            status={"podIP": address, "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        )

    def _known(self) -> tuple[str, str]:
        return self._one(sorted(self.services))

    def _host(self, namespace: str, name: str) -> str:
        return self._one((f"{name}.{namespace}.svc.cluster.local", f"{name}.{namespace}.svc.cluster.local", name))

    def _destination(self, namespace: str) -> Json:
        owner, name = self._known()
        host = f"{name}.{owner}.svc.cluster.local" if owner != namespace else self._host(owner, name)
        ports = self.services[(owner, name)]
        destination: Json = {"host": host}
        if len(ports) > 1 or self._random.random() < 0.5:
            destination["port"] = {"number": self._one(ports)["port"]}
        if self._random.random() < 0.3:
            destination["subset"] = self._one(VERSIONS)
        return destination

    # === VirtualService ===

    def _virtual_service(self) -> None:
        namespace, name = self._known()
        hosts = [f"{name}.{namespace}.svc.cluster.local"]
        if self._random.random() < 0.3:
            hosts.append(self._one(("*.example.org", "www.example.org", "*")))
        bound = self._one(([], ["mesh"], ["mesh", "edge"], ["edge"]))
        if "*" in hosts and ("mesh" in bound or not bound):
            hosts.remove("*")
        spec: Json = {"hosts": hosts, **({"gateways": bound} if bound else {})}
        kinds = self._some(("http", "tcp", "tls"), at_least=1)
        if "http" in kinds:
            spec["http"] = [self._http_route(namespace) for _ in range(self._random.randint(1, 3))]
        if "tcp" in kinds:
            spec["tcp"] = [self._tcp_route(namespace) for _ in range(self._random.randint(1, 2))]
        if "tls" in kinds:
            spec["tls"] = [self._tls_route(namespace, hosts)]
        spec |= self._fields(exportTo=lambda: [self._one((".", "*"))])
        self._add("networking.istio.io/v1", "VirtualService", namespace, self._name("vs"), spec=spec)

    def _http_route(self, namespace: str) -> Json:
        route: Json = self._fields(
            name=lambda: f"route-{self._random.randint(0, 9)}",
            match=lambda: [self._http_match() for _ in range(self._random.randint(1, 2))],
            headers=self._headers,
            corsPolicy=self._cors,
        )
        action = self._random.random()
        if action < 0.12:
            route["redirect"] = self._redirect()
        elif action < 0.2:
            route["directResponse"] = {"status": self._one((200, 404, 503)), "body": {"string": "hello"}}
        else:
            route["route"] = self._weighted(namespace)
            route |= self._fields(
                timeout=self._duration,
                retries=self._retries,
                fault=self._fault,
                rewrite=self._rewrite,
                mirrors=lambda: [{"destination": self._destination(namespace), "percentage": self._percent()}],
            )
        return route

    def _weighted(self, namespace: str) -> list[Json]:
        count = self._random.randint(1, 3)
        routes: list[Json] = [{"destination": self._destination(namespace)} for _ in range(count)]
        if count > 1:
            for each in routes:
                each["weight"] = self._random.randint(0, 100)
            routes[0]["weight"] = max(1, routes[0]["weight"])
        for each in routes:
            each.update(self._fields(headers=self._headers))
        return routes

    def _text(self, value: str) -> Json:
        kind = self._one(("exact", "prefix", "regex"))
        return {kind: f"{value}.*" if kind == "regex" else value}

    def _http_match(self) -> Json:
        return self._fields(
            name=lambda: f"match-{self._random.randint(0, 9)}",
            uri=lambda: self._text(self._one(("/", "/a", "/a/b", "/api/v1"))),
            scheme=lambda: {"exact": "http"},
            method=lambda: self._text(self._one(("GET", "POST"))),
            authority=lambda: self._text("example.org"),
            headers=lambda: {self._one(("x-reader", "cookie", "x-tenant")): self._text("ada")},
            withoutHeaders=lambda: {"x-secret": self._one(({}, self._text("no")))},
            queryParams=lambda: {"q": self._text("sea")},
            port=lambda: self._one(PORTS),
            sourceLabels=lambda: {"app": self._one(SERVICES)},
            sourceNamespace=lambda: self._one(NAMESPACES),
            ignoreUriCase=lambda: True,
        )

    def _headers(self) -> Json:
        def change() -> Json:
            return self._fields(
                set=lambda: {"x-set": "1"},
                add=lambda: {"x-add": "%DOWNSTREAM_REMOTE_ADDRESS%"},
                remove=lambda: ["x-old"],
            )

        return self._fields(request=change, response=change)

    def _redirect(self) -> Json:
        redirect = self._fields(
            uri=lambda: "/elsewhere",
            authority=lambda: "other.example.org",
            port=lambda: 8443,
            scheme=lambda: self._one(("http", "https")),
            redirectCode=lambda: self._one((301, 302, 303, 307, 308)),
        )
        if "uri" in redirect and self._random.random() < 0.5:
            redirect["prefixRewrite"] = redirect.pop("uri")
        return redirect or {"uri": "/elsewhere"}

    def _rewrite(self) -> Json:
        if self._random.random() < 0.3:
            return {"uriRegexRewrite": {"match": "^/a/(.*)$", "rewrite": "/b/\\1"}}
        return self._fields(uri=lambda: "/new", authority=lambda: "new.example.org") or {"uri": "/"}

    def _retries(self) -> Json:
        return {"attempts": self._random.randint(0, 5)} | self._fields(
            perTryTimeout=self._duration,
            retryOn=lambda: self._one(("5xx", "gateway-error,reset", "connect-failure,503", "unavailable,cancelled")),
            backoff=lambda: "25ms",
        )

    def _fault(self) -> Json:
        delay: Json = {"fixedDelay": self._duration(), "percentage": self._percent()}
        abort = self._one(
            (
                {"httpStatus": 503, "percentage": self._percent()},
                {"grpcStatus": "UNAVAILABLE", "percentage": self._percent()},
            )
        )
        return self._fields(delay=lambda: delay, abort=lambda: abort) or {"delay": delay}

    def _cors(self) -> Json:
        return self._fields(
            allowOrigins=lambda: [self._text("https://example.org")],
            allowMethods=lambda: ["GET", "POST"],
            allowHeaders=lambda: ["x-reader"],
            exposeHeaders=lambda: ["x-total"],
            maxAge=lambda: "24h",
            allowCredentials=lambda: True,
        )

    def _tcp_route(self, namespace: str) -> Json:
        match = self._fields(
            port=lambda: self._one(PORTS),
            destinationSubnets=lambda: ["10.0.0.0/8"],
            sourceLabels=lambda: {"app": self._one(SERVICES)},
        )
        return {"route": self._weighted_plain(namespace), **({"match": [match]} if match else {})}

    def _weighted_plain(self, namespace: str) -> list[Json]:
        return [
            {"destination": self._destination(namespace), "weight": self._random.randint(1, 100)}
            for _ in range(self._random.randint(1, 2))
        ]

    def _tls_route(self, namespace: str, hosts: Sequence[str]) -> Json:
        names = [host for host in hosts if host != "*"] or ["www.example.org"]
        match = {"sniHosts": names} | self._fields(port=lambda: self._one(PORTS))
        return {"match": [match], "route": self._weighted_plain(namespace)}

    # === DestinationRule ===

    def _destination_rule(self) -> None:
        owner, name = self._known()
        namespace = self._one((owner, *NAMESPACES))
        host = f"{name}.{owner}.svc.cluster.local"
        if self._random.random() < 0.2:
            host = self._one((f"*.{owner}.svc.cluster.local", "*.local", "*.example.org"))
        ports = [port["port"] for port in self.services[(owner, name)]]
        spec: Json = {"host": host} | self._fields(
            trafficPolicy=lambda: self._policy() | self._fields(portLevelSettings=lambda: self._by_port(ports)),
            exportTo=lambda: [self._one((".", "*"))],
        )
        if self._random.random() < 0.7:
            spec["subsets"] = [
                {"name": version, "labels": {"version": version}} | self._fields(trafficPolicy=self._policy)
                for version in VERSIONS
            ]
        self._add("networking.istio.io/v1", "DestinationRule", namespace, self._name("dr"), spec=spec)

    def _by_port(self, ports: Sequence[int]) -> list[Json]:
        return [{"port": {"number": port}, **self._policy()} for port in self._some(ports)]

    def _policy(self) -> Json:
        return self._fields(
            loadBalancer=self._balancer,
            connectionPool=self._pool,
            outlierDetection=self._outliers,
            tls=self._client_tls,
        )

    def _balancer(self) -> Json:
        if self._random.random() < 0.4:
            sources: tuple[Json, ...] = (
                {"httpHeaderName": "x-reader"},
                {"httpCookie": {"name": "session", "ttl": self._one(("0s", "60s"))}},
                {"useSourceIp": True},
                {"httpQueryParameterName": "q"},
            )
            ring: Json = self._one(({}, {"ringHash": {"minimumRingSize": 512}}, {"maglev": {"tableSize": 65537}}))
            return {"consistentHash": self._one(sources) | ring}
        simple = self._one(("LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "UNSPECIFIED", "LEAST_CONN"))
        return {"simple": simple} | self._fields(warmup=lambda: {"duration": "30s", "minimumPercent": 10})

    def _pool(self) -> Json:
        return self._fields(
            tcp=lambda: self._fields(
                maxConnections=lambda: self._random.randint(1, 100),
                connectTimeout=self._duration,
                tcpKeepalive=lambda: {"time": "60s", "interval": "10s", "probes": 3},
                idleTimeout=lambda: "1h",
                maxConnectionDuration=lambda: "1h",
            ),
            http=lambda: self._fields(
                http1MaxPendingRequests=lambda: self._random.randint(1, 100),
                http2MaxRequests=lambda: self._random.randint(1, 100),
                maxRequestsPerConnection=lambda: self._random.randint(0, 100),
                maxRetries=lambda: self._random.randint(1, 10),
                idleTimeout=lambda: "5m",
                h2UpgradePolicy=lambda: self._one(("DEFAULT", "UPGRADE", "DO_NOT_UPGRADE")),
                maxConcurrentStreams=lambda: self._random.randint(1, 1000),
            ),
        )

    def _outliers(self) -> Json:
        return self._fields(
            consecutive5xxErrors=lambda: self._random.randint(0, 10),
            consecutiveGatewayErrors=lambda: self._random.randint(0, 10),
            interval=lambda: "5s",
            baseEjectionTime=lambda: "30s",
            maxEjectionPercent=lambda: self._random.randint(0, 100),
            minHealthPercent=lambda: self._random.randint(0, 100),
        )

    def _client_tls(self) -> Json:
        mode = self._one(("DISABLE", "SIMPLE", "ISTIO_MUTUAL"))
        if mode != "SIMPLE":
            return {"mode": mode}
        return {"mode": mode} | self._fields(sni=lambda: "example.org", subjectAltNames=lambda: ["example.org"])

    # === the rest of networking ===

    def _service_entry(self) -> None:
        namespace = self._one(NAMESPACES)
        resolution = self._one(("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"))
        host = f"api-{self._count}.example.org"
        protocol = self._one(("HTTP", "HTTPS", "TCP", "TLS", "GRPC", "HTTP2"))
        spec: Json = {
            "hosts": [host],
            "location": self._one(("MESH_EXTERNAL", "MESH_INTERNAL")),
            "resolution": resolution,
            "ports": [{"number": self._one(PORTS), "name": protocol.lower(), "protocol": protocol}],
        }
        if resolution == "STATIC" or self._random.random() < 0.3:
            spec["addresses"] = [f"240.240.0.{self._count % 250 + 1}"]
        if resolution == "STATIC":
            spec["endpoints"] = [{"address": "192.0.2.1"}, {"address": "192.0.2.2", "weight": 3}]
        elif resolution == "DNS" and self._random.random() < 0.5:
            spec["endpoints"] = [{"address": "localhost"}]
        self._add("networking.istio.io/v1", "ServiceEntry", namespace, self._name("se"), spec=spec)

    def _gateway(self) -> None:
        servers: list[Json] = []
        for index, port in enumerate(self._some((8080, 8443, 9443, 15443), at_least=1)):
            protocol = self._one(("HTTP", "HTTPS", "TLS", "TCP", "GRPC", "HTTP2"))
            server: Json = {
                "port": {"number": port, "name": f"p-{index}", "protocol": protocol},
                "hosts": [self._one(("*", "*.example.org", "www.example.org", "shop/*"))],
            }
            if protocol == "HTTPS":
                mode = self._one(("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL", "PASSTHROUGH"))
                server["tls"] = {"mode": mode}
                if mode not in ("ISTIO_MUTUAL", "PASSTHROUGH"):
                    server["tls"]["credentialName"] = "cert"
            elif protocol == "TLS":
                server["tls"] = {"mode": self._one(("PASSTHROUGH", "AUTO_PASSTHROUGH"))}
            elif protocol == "HTTP" and self._random.random() < 0.2:
                server["tls"] = {"httpsRedirect": True}
            servers.append(server)
        name = self._one(("edge", self._name("gw")))
        namespace = self._one(NAMESPACES)
        spec = {"selector": {"istio": "ingressgateway"}, "servers": servers}
        if not any(o["kind"] == "Gateway" and o["metadata"]["name"] == name for o in self._objects):
            self._add("networking.istio.io/v1", "Gateway", namespace, name, spec=spec)

    def _sidecar(self) -> None:
        namespace = self._one((*NAMESPACES, "istio-system"))
        spec: Json = {"egress": [{"hosts": self._some(("./*", "*/*", "shop/*", "istio-system/*"), at_least=1)}]}
        if namespace != "istio-system":
            spec |= self._fields(workloadSelector=lambda: {"labels": {"app": self._one(SERVICES)}})
        spec |= self._fields(
            outboundTrafficPolicy=lambda: self._one(OUTBOUND_POLICIES),
            inboundConnectionPool=lambda: {"tcp": {"maxConnections": self._random.randint(1, 9)}},
            ingress=lambda: [self._ingress(port) for port in self._some(PORTS, at_least=1)],
        )
        if self._random.random() < 0.3:
            port = {"number": self._one(PORTS), "name": "p", "protocol": self._one(("HTTP", "TCP"))}
            bound = self._fields(captureMode=lambda: "NONE", bind=lambda: self._one(("127.0.0.9", "0.0.0.0")))
            spec["egress"].insert(0, {"port": port, "hosts": self._some(("./*", "shop/*"), at_least=1)} | bound)
        self._add("networking.istio.io/v1", "Sidecar", namespace, self._name("sc"), spec=spec)

    def _ingress(self, port: int) -> Json:
        return {"port": {"number": port, "name": f"p-{port}", "protocol": self._one(("HTTP", "TCP", "GRPC"))}} | (
            self._fields(
                defaultEndpoint=lambda: self._one(("127.0.0.1:9999", "0.0.0.0:9998", "unix:///run/app.sock")),
                captureMode=lambda: self._one(("NONE", "IPTABLES")),
                connectionPool=lambda: {"http": {"http2MaxRequests": 5}},
            )
        )

    # === security ===

    def _peer_authentication(self) -> None:
        namespace = self._one((*NAMESPACES, "istio-system"))
        mode = {"mode": self._one(("STRICT", "PERMISSIVE", "DISABLE", "UNSET"))}
        spec: Json = {"mtls": mode}
        if namespace != "istio-system" and self._random.random() < 0.5:
            spec["selector"] = {"matchLabels": {"app": self._one(SERVICES)}}
            port = str(self._one(PORTS))
            spec |= self._fields(portLevelMtls=lambda: {port: {"mode": self._one(("STRICT", "DISABLE"))}})
        self._add("security.istio.io/v1", "PeerAuthentication", namespace, self._name("pa"), spec=spec)

    def _authorization_policy(self) -> None:
        namespace = self._one((*NAMESPACES, "istio-system"))
        spec: Json = {"action": self._one(("ALLOW", "DENY"))} | self._fields(
            selector=lambda: {"matchLabels": {"app": self._one(SERVICES)}},
            rules=lambda: [self._rule() for _ in range(self._random.randint(1, 3))],
        )
        if spec["action"] == "DENY" and "rules" not in spec:
            spec["rules"] = [self._rule()]
        self._add("security.istio.io/v1", "AuthorizationPolicy", namespace, self._name("ap"), spec=spec)

    def _rule(self) -> Json:
        source = self._fields(
            principals=lambda: [self._one(("*", "cluster.local/ns/shop/sa/cart", "cluster.local/*", "*/sa/pay"))],
            namespaces=lambda: [self._one(NAMESPACES)],
            notNamespaces=lambda: [self._one(NAMESPACES)],
            ipBlocks=lambda: ["10.0.0.0/8"],
            remoteIpBlocks=lambda: ["192.0.2.0/24"],
        ) or {"namespaces": ["shop"]}
        operation = self._fields(
            hosts=lambda: [self._one(("cart.shop.svc.cluster.local", "*.example.org"))],
            ports=lambda: [str(self._one(PORTS))],
            methods=lambda: ["GET"],
            notMethods=lambda: ["DELETE"],
            paths=lambda: [self._one(("/api/*", "/exact", "*/end", "/users/{*}"))],
        ) or {"methods": ["GET"]}
        condition = self._one(
            (
                {"key": "request.headers[x-reader]", "values": ["ada", "b*"]},
                {"key": "source.ip", "values": ["10.1.0.0/16"]},
                {"key": "destination.port", "values": ["80"]},
                {"key": "source.namespace", "notValues": ["lab"]},
                {"key": "connection.sni", "values": ["www.example.org"]},
            )
        )
        return self._fields(
            **{
                "from": lambda: [{"source": source}],
                "to": lambda: [{"operation": operation}],
                "when": lambda: [condition],
            }
        )
