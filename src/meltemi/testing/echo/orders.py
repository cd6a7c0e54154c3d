"""What a client is told to do, and what it tells: values that go over the control port as JSON."""

from __future__ import annotations

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """So many calls of one kind.

    `url` is scheme://host[:port][/path]; the scheme is http, https, h2, h2s (HTTP/2 with prior knowledge, and with TLS),
    grpc, ws or tcp. `to` connects to another host:port than the URL's. `kind` is gRPC's: unary, server, client or
    bidi. `messages` are sent over gRPC, WebSocket and TCP; `hear_first` waits for the server's greeting before.
    `count` calls are made, `at_once` at a time, each bounded by `timeout` seconds; with `reuse`, calls that follow one
    another share a connection.
    `trusted`, `certificate` and `key` are PEM texts: whom a TLS server must be vouched for by (nobody if it is empty),
    and what to show it; `sni` is sent instead of the URL's host.
    """

    url: str
    to: str = ""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    kind: str = "unary"
    messages: tuple[str, ...] = ()
    hear_first: bool = False
    count: int = 1
    at_once: int = 1
    reuse: bool = False
    timeout: float = 10.0
    sni: str = ""
    trusted: str = ""
    certificate: str = ""
    key: str = ""


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one call. `error` is empty unless no answer came; `status` is HTTP's, or gRPC's code.

    `headers` have lower-case names; `messages` are what came over gRPC, WebSocket and TCP. `names` are the DNS names of
    the certificate that the server has shown.
    """

    status: int = -1
    headers: dict[str, str] = {}
    body: str = ""
    trailers: dict[str, str] = {}
    messages: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0
    protocol: str = ""
    names: tuple[str, ...] = ()

    @property
    def echo(self) -> Echo:
        """The body as the server's account of the request. Raises ValueError if it is none."""
        return msgspec.json.decode(self.body, type=Echo)

    @property
    def ok(self) -> bool:
        """Whether an answer came, and a good one: 2xx, a WebSocket's 101, gRPC's OK, or over TCP any."""
        return not self.error and (self.status < 1 or self.status == 101 or 200 <= self.status < 300)


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """A server's account of one request. `attempt` counts the requests with the same `x-echo-key` at this server."""

    version: str
    pod: str
    protocol: str
    method: str = ""
    path: str = ""
    host: str = ""
    headers: dict[str, str] = {}
    body: str = ""
    peer: str = ""
    attempt: int = 0
    sni: str = ""


class Seen(msgspec.Struct, frozen=True):
    """The requests with one key that a server has seen, oldest first."""

    echoes: tuple[Echo, ...] = ()
