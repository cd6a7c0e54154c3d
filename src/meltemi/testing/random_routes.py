"""Random routing rules over a few services that stay, and random requests to them: for comparing answers with meaning.

The texts are few and alike, so that requests fit rules about as often as they just miss them. A seed gives the same rules
and requests on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from meltemi.explain.requests import Request

Json = dict[str, Any]
T = TypeVar("T")

NAMESPACE = "shop"  # where the client is
VERSIONS = ("v1", "v2")
SERVICES: dict[tuple[str, str], tuple[int, ...]] = {
    ("shop", "cart"): (80, 8080),
    ("shop", "pay"): (80,),
    ("store", "ship"): (8080,),
    ("store", "cart"): (80, 8080),
}
ENTRIES: dict[str, tuple[int, ...]] = {
    "api.wild.example": (80,),
    "*.wild.example": (80, 8080),
    "*.deep.wild.example": (8080,),
}
HIDDEN = ("store", "ship")
"""The service that its own namespace alone may call: other clients know no endpoints of it, whatever leads there."""
PORTS = (80, 8080)
TARGET = {80: 9080, 8080: 9081}  # the ports of the endpoints
FOREIGN = ("www.example.org", "api.example.org", "*.example.org", "*-v1.example.org", "x.wild.example", *ENTRIES)
PATHS = (
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/A/b",
    "/ab",
    "/a/b/c",
    "/a//b",
    "/b",
    "/api/v1",
    "/api/v12/users",
    "/a%2Fb",
    "/a.b",
)
PATH_PATTERNS = ("/a/.*", "/[a-z]+", "/api/v[0-9]+(/.*)?", "(?i)/A.*", "/a|/b", ".*b", "/(a|b)/.", "/\\w+", "*", "/a.b")
REWRITES = (
    ("^/a/(.*)$", "/b/\\1"),
    ("/", "/x"),
    ("b", "BB"),
    ("([a-z]+)/([a-z]+)", "\\2-\\1"),
    (".*", "/all"),
    ("$", "/end"),
    ("a*$", "\\\\0"),
    ("(/)(x)?", "\\1.\\2"),
)
VALUES = ("ada", "ada,bob", "bob", "Ada", "adam", "")
HEADERS = ("x-tenant", "x-reader", "X-Old")
CREATED = "2026-01-01T00:00:{:02d}Z"


def address(host: str, version: str) -> str:
    """The address of the one endpoint of a host in that version."""
    hosts = [*(full(*service) for service in SERVICES), *ENTRIES]
    return f"127.10.{1 + hosts.index(host)}.{1 + VERSIONS.index(version)}"


def services() -> list[Json]:
    """The services, their endpoints and their subsets; and that nothing else may be called."""
    found = [
        _object(
            "v1",
            "ConfigMap",
            "istio-system",
            "istio",
            data={"mesh": "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"},
        )
    ]
    for index, ((namespace, name), ports) in enumerate(SERVICES.items()):
        port_specs = [
            {"name": f"http-{port}", "port": port, "targetPort": TARGET[port], "protocol": "TCP"} for port in ports
        ]
        spec = {"selector": {"app": name}, "ports": port_specs, "clusterIP": f"10.96.0.{index + 1}"}
        hidden = {"annotations": {"networking.istio.io/exportTo": "."}} if (namespace, name) == HIDDEN else {}
        found.append(_object("v1", "Service", namespace, name, spec=spec, metadata=hidden))
        endpoints = []
        for version in VERSIONS:
            pod = f"{name}-{version}"
            where = address(full(namespace, name), version)
            endpoints.append(
                {
                    "addresses": [where],
                    "conditions": {"ready": True},
                    "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod},
                }
            )
            found.append(
                _object(
                    "v1",
                    "Pod",
                    namespace,
                    pod,
                    metadata={"labels": {"app": name, "version": version}},
                    spec={"serviceAccountName": name, "containers": [{"name": "app"}]},
                    status={"phase": "Running", "podIP": where, "conditions": [{"type": "Ready", "status": "True"}]},
                )
            )
        found.append(
            _object(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                namespace,
                f"{name}-1",
                metadata={"labels": {"kubernetes.io/service-name": name}},
                addressType="IPv4",
                ports=[{"name": each["name"], "port": each["targetPort"], "protocol": "TCP"} for each in port_specs],
                endpoints=endpoints,
            )
        )
        found.append(_subsets(namespace, name, full(namespace, name)))
    for index, (host, ports) in enumerate(ENTRIES.items()):
        entry = {
            "hosts": [host],
            "location": "MESH_EXTERNAL",
            "resolution": "STATIC",
            "ports": [
                {"number": port, "name": f"http-{port}", "protocol": "HTTP", "targetPort": TARGET[port]}
                for port in ports
            ],
            "endpoints": [{"address": address(host, version), "labels": {"version": version}} for version in VERSIONS],
        }
        found.append(_object("networking.istio.io/v1", "ServiceEntry", "store", f"entry-{index}", spec=entry))
        found.append(_subsets("store", f"entry-{index}", host))
    return found


def _subsets(namespace: str, name: str, host: str) -> Json:
    subsets = [{"name": version, "labels": {"version": version}} for version in VERSIONS]
    spec = {"host": host, "subsets": subsets}
    return _object("networking.istio.io/v1", "DestinationRule", namespace, name, spec=spec)


def _object(api_version: str, kind: str, namespace: str, name: str, **content: Any) -> Json:
    metadata = {
        "name": name,
        "namespace": namespace,
        "creationTimestamp": CREATED.format(0),
        "resourceVersion": "1",
        "generation": 1,
        **content.pop("metadata", {}),
    }
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def full(namespace: str, name: str) -> str:
    """The host of a service."""
    return f"{name}.{namespace}.svc.cluster.local"


class RandomRoutes:
    """One set of rules, and requests to try them with."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    # === small choices ===

    def _one(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)

    def _chance(self, chance: float) -> bool:
        return self._random.random() < chance

    def _fields(self, chance: float = 0.3, **makers: Callable[[], object]) -> Json:
        """Some of the fields, each by chance."""
        return {name: make() for name, make in makers.items() if self._chance(chance)}

    # === rules ===

    def virtual_services(self) -> list[Json]:
        """VirtualServices, valid all of them, some of them delegates of others."""
        found: list[Json] = []
        for index in range(self._random.randint(1, 4)):
            namespace = self._one(("shop", "shop", "store"))
            spec: Json = {
                "hosts": list({self._host(namespace) for _ in range(self._random.randint(1, 2))}),
                "http": [self._rule(namespace) for _ in range(self._random.randint(1, 4))],
            }
            spec["hosts"].sort()
            if self._chance(0.15):
                spec["exportTo"] = [self._one((".", "*", "shop"))]
            if self._chance(0.25):
                delegate = f"part-{index}"
                rule: Json = {"delegate": {"name": delegate}}
                if self._chance(0.7):
                    rule["match"] = [{"uri": {"prefix": self._one(("/", "/a", "/a/"))}}]
                spec["http"].insert(self._random.randint(0, len(spec["http"])), rule)
                parts = {"http": [self._rule(namespace) for _ in range(self._random.randint(1, 3))]}
                found.append(self._virtual_service(namespace, delegate, parts))
            found.append(self._virtual_service(namespace, f"vs-{index}", spec))
        return found

    def _virtual_service(self, namespace: str, name: str, spec: Json) -> Json:
        metadata = {"creationTimestamp": CREATED.format(self._random.randint(0, 59))}
        return _object("networking.istio.io/v1", "VirtualService", namespace, name, spec=spec, metadata=metadata)

    def _host(self, namespace: str) -> str:
        if self._chance(0.25):
            return self._one(FOREIGN)
        if self._chance(0.1):
            return self._one(("*.shop.svc.cluster.local", "*.store.svc.cluster.local"))
        return self._destination_host(namespace)

    def _destination_host(self, namespace: str) -> str:
        if self._chance(0.1):
            return "api.wild.example"
        owner, name = self._one(list(SERVICES))
        return name if owner == namespace and self._chance(0.3) else full(owner, name)

    def _rule(self, namespace: str) -> Json:
        rule: Json = {}
        if self._chance(0.85):
            rule["match"] = [self._match() for _ in range(self._random.randint(1, 2))]
        kind = self._random.random()
        if kind < 0.2:
            rule["redirect"] = self._redirect()
        elif kind < 0.35:
            rule["directResponse"] = self._direct_response()
        else:
            rule["route"] = self._targets(namespace)
            if self._chance(0.4):
                rule["rewrite"] = self._rewrite()
            if self._chance(0.05):
                rule["fault"] = {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}
        if self._chance(0.4):
            rule["headers"] = self._headers(authority=self._chance(0.2) and "authority" not in rule.get("rewrite", {}))
        return rule

    def _match(self) -> Json:
        match = self._fields(
            0.12,
            method=lambda: self._text(("GET", "POST", "PUT"), ("GET|PUT", "P.*")),
            authority=lambda: self._text(("cart", "cart:80", "www.example.org"), ("cart.*", ".*:80", "[a-z.]+")),
            scheme=lambda: self._text(("http", "https"), ("https?",)),
            headers=lambda: self._named(HEADERS),
            withoutHeaders=lambda: self._named(HEADERS),
            queryParams=lambda: self._named(("q", "Q", "p")),
            port=lambda: self._one(PORTS),
            sourceLabels=lambda: {"app": self._one(("cart", "pay"))},
            sourceNamespace=lambda: self._one(("shop", "store")),
            gateways=lambda: [self._one(("mesh", "edge"))],
        )
        if self._chance(0.8):
            match["uri"] = self._text(PATHS, PATH_PATTERNS)
            match |= self._fields(ignoreUriCase=lambda: True)
        return match

    def _text(self, texts: Sequence[str], patterns: Sequence[str]) -> Json:
        kind = self._one(("exact", "prefix", "regex"))
        if kind == "regex":
            return {kind: self._one(patterns)}
        return {kind: self._one([text for text in texts if text or kind == "exact"])}

    def _named(self, names: Sequence[str]) -> Json:
        chosen = self._random.sample(list(names), self._random.randint(1, 2))
        patterns = ("a.*", "[ab]+", ".*", "*", "ada|bob", "(?i)ADA", ".*b", "ada,bob", "")
        return {name: {} if self._chance(0.15) else self._text(VALUES, patterns[:-1]) for name in chosen}

    def _redirect(self) -> Json:
        redirect = self._fields(
            0.4,
            authority=lambda: self._one(("other.example.org", "other.example.org:99")),
            scheme=lambda: self._one(("http", "https")),
            redirectCode=lambda: self._one((301, 302, 303, 307, 308)),
        )
        if self._chance(0.3):
            redirect["uri"] = self._one(("/else", "/else?x=1", "/"))
        elif self._chance(0.3):
            redirect["prefixRewrite"] = self._one(("/", "/new", "/new/"))
        if self._chance(0.5):
            redirect |= self._one(
                (
                    {"port": 8443},
                    {"port": 443},
                    {"port": 80},
                    {"derivePort": "FROM_PROTOCOL_DEFAULT"},
                    {"derivePort": "FROM_REQUEST_PORT"},
                )
            )
        return redirect or {"uri": "/else"}

    def _direct_response(self) -> Json:
        response: Json = {"status": self._one((200, 201, 204, 302, 403, 404, 503, 599))}
        if response["status"] != 204 and self._chance(0.5):
            response["body"] = self._one(({"string": "héllo\n"}, {"bytes": "AAEC/w=="}))
        return response

    def _rewrite(self) -> Json:
        if self._chance(0.4):
            pattern, new = self._one(REWRITES)
            return {"uriRegexRewrite": {"match": pattern, "rewrite": new}}
        return self._fields(
            0.7, uri=lambda: self._one(("/", "/new", "/new/")), authority=lambda: "new.example.org"
        ) or {"uri": "/"}

    def _targets(self, namespace: str) -> list[Json]:
        count = self._one((1, 1, 2, 3))
        targets: list[Json] = []
        for _ in range(count):
            target: Json = {"destination": {"host": self._destination_host(namespace)}}
            target["destination"] |= self._fields(
                0.4,
                subset=lambda: self._one(VERSIONS),
                port=lambda: {"number": self._one(PORTS)},
            )
            if count > 1:
                target["weight"] = self._one((0, 1, 50))
            if self._chance(0.3):
                target["headers"] = self._headers(authority=self._chance(0.3))
            targets.append(target)
        if count > 1:
            targets[0]["weight"] = 10
        return targets

    def _headers(self, *, authority: bool) -> Json:
        def change() -> Json:
            return self._fields(
                0.5,
                set=lambda: {self._one(("x-set", "x-tenant", "x-kept")): self._one(("1", "2"))},
                add=lambda: {self._one(("x-add", "x-reader", "x-kept")): self._one(("1", "ada"))},
                remove=lambda: [self._one((*HEADERS, "x-kept"))],
            )

        changes = self._fields(0.6, request=change, response=change)
        if authority:
            changes.setdefault("request", {}).setdefault("set", {})["host"] = self._one(("set.example.org", "cart"))
        return changes

    # === requests ===

    def requests(self, count: int) -> list[tuple[int, Request]]:
        """Requests, and the ports that they are for."""
        return [(self._one(PORTS), self._request()) for _ in range(count)]

    def _request(self) -> Request:
        query = self._one((None, None, "q=ada", "q=adam&q=bob", "p=&q", "q=%61da", "Q=ada&", "q=ada,bob", "", "p=a=b"))
        headers = [
            (self._one((name, name.upper())), self._one(VALUES))
            for name in HEADERS
            for _ in range(self._one((0, 0, 1, 1, 2)))
        ]
        self._random.shuffle(headers)
        return Request(
            authority=self._authority(),
            method=self._one(("GET", "GET", "POST", "PUT")),
            path=self._one(PATHS),
            query=query,
            headers=tuple(headers),
        )

    def _authority(self) -> str:
        owner, name = self._one(list(SERVICES))
        whole = full(owner, name)
        host = self._one(
            (
                *(whole, whole, f"{whole}.", name, name, f"{name}.{owner}", f"{name}.{owner}.svc", whole.upper()),
                *("10.96.0.1", "10.96.0.3", "www.example.org", "www.example.org", "api.example.org", "a.b.example.org"),
                *("api-v1.example.org", "WWW.example.ORG", "example.org", "unknown"),
                *("api.wild.example", "x.wild.example", "x.deep.wild.example", "api.wild.example."),
            )
        )
        return host + self._one(("", "", ":80", ":8080", ":443"))
