"""Which servers of a Gateway speak HTTP/3: those of HTTPS that open TLS, where an annotation of the Gateway asks for it.

QUIC knows TLS 1.3 only, so that a server whose clients may not use it speaks HTTP over TCP alone, and its author is told.
"""

from __future__ import annotations

from collections.abc import Generator

from meltemi.api import paths
from meltemi.api.networking.gateway import HTTP3
from meltemi.base.problems import Problem
from meltemi.model.gateways import ServerTls
from meltemi.resolve import problems
from meltemi.resolve.gateway_servers import Served


def port(served: Served, tls: ServerTls | None) -> Generator[Problem, None, int]:
    """The port at which a server's clients are told that they find HTTP/3; 0 if it is not spoken."""
    if served.gateway.annotations.get(HTTP3) != "true" or not served.is_http or tls is None:
        return 0
    if tls.max_version not in ("", "TLSV1_3"):
        yield problems.warning(
            served.gateway,
            f"{served.path}.tls.maxProtocolVersion",
            "Http3NotServed",
            f"HTTP/3 needs TLS 1.3, and the server's clients may not use it: annotation {HTTP3} has no effect on it",
            "remove maxProtocolVersion, or the annotation",
        )
        return 0
    return served.server.port.number


def without_effect(group: list[Served]) -> Generator[Problem, None, None]:
    """A warning for each Gateway that asks for HTTP/3 and has no server that could speak it. For all that it has."""
    for gateway in {each.gateway.ref: each.gateway for each in group}.values():
        own = [each for each in group if each.gateway.ref == gateway.ref]
        if gateway.annotations.get(HTTP3) == "true" and not any(each.is_http and each.opens_tls for each in own):
            yield problems.warning(
                gateway,
                paths.key("metadata.annotations", HTTP3),
                "Http3NotServed",
                "HTTP/3 is spoken by servers of protocol HTTPS that open TLS, and the Gateway has none",
                "add a server of protocol HTTPS with tls.mode SIMPLE or MUTUAL, or remove the annotation",
            )
