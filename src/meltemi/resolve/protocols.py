"""What is spoken on a port: Istio's protocol selection, from what users declare about it.

In this order: UDP is UDP; `appProtocol`, or else the port's name, may name a protocol before its first hyphen; a few
well-known ports are plain TCP; all others are found out by sniffing.
"""

from __future__ import annotations

from meltemi.model.services import Protocol

_NAMED = {
    "tcp": Protocol.TCP,
    "udp": Protocol.UDP,
    "grpc": Protocol.GRPC,
    "http": Protocol.HTTP,
    "http_proxy": Protocol.HTTP_PROXY,
    "http2": Protocol.HTTP2,
    "https": Protocol.HTTPS,
    "tls": Protocol.TLS,
    "mongo": Protocol.MONGO,
    "redis": Protocol.REDIS,
    "mysql": Protocol.MYSQL,
}

_APP_PROTOCOLS = {
    "kubernetes.io/h2c": "http2",
    "kubernetes.io/ws": "http",
    "kubernetes.io/wss": "https",
}

# SMTP, DNS, MySQL and MongoDB: the server may speak first there, which sniffing would wait for in vain.
_SERVER_FIRST = frozenset({25, 53, 3306, 27017})


def of_port(number: int, name: str = "", app_protocol: str = "", transport: str = "TCP") -> Protocol:
    """The protocol of a Kubernetes Service port."""
    if transport == "UDP":
        return Protocol.UDP
    text = app_protocol or name
    found = named(_APP_PROTOCOLS.get(app_protocol, text))
    if found is not None:
        return found
    return Protocol.TCP if number in _SERVER_FIRST else Protocol.AUTO


def declared(text: str) -> Protocol:
    """The protocol that a ServiceEntry, Gateway or Sidecar port declares (`HTTP`, `gRPC`, ...); AUTO if it is not known."""
    return named(text) or Protocol.AUTO


def named(text: str) -> Protocol | None:
    """The protocol that a port name, or another text of that form, names before its first hyphen."""
    lower = text.lower()
    if lower.startswith("grpc-web"):
        return Protocol.GRPC_WEB
    return _NAMED.get(lower.partition("-")[0])
