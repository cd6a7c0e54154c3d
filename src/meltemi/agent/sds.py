"""The secret discovery service of one proxy, in both dialects: state of the world and delta.

A stream remembers what it has sent, so whatever happens (a request, a rotation, a file that appears) the question is the
same: which of the wanted secrets differ from what was sent? Those are sent, at once and unasked. A secret that does not
exist yet is waited for in silence, as Envoy expects.

Source: `envoy.service.secret.v3.SecretDiscoveryService`. Invariant: the state machines do no I/O; they send through the
function they are given.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from itertools import count

from meltemi.agent import wire
from meltemi.agent.framing import MalformedError
from meltemi.agent.secrets import Secret, Secrets
from meltemi.agent.streams import Method, Stream
from meltemi.base.protobuf import WireError

log = logging.getLogger(__name__)

TYPE_URL = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
_SERVICE = "/envoy.service.secret.v3.SecretDiscoveryService"


class Subscription(ABC):
    """The wanted names of one stream, and the version of each that was sent last."""

    def __init__(self, secrets: Secrets, send: Callable[[bytes], None]) -> None:
        self._secrets = secrets
        self._send = send
        self._sent: dict[str, str] = {}
        self._names: set[str] = set()
        self._nonces = map(str, count(1))
        self._nonce = ""
        self._unsubscribe = secrets.subscribe(self.push)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(sorted(self._names)) or 'of nothing'}>"

    def received(self, message: bytes) -> None:
        """A request of the peer. Raises MalformedError if it cannot be read."""
        try:
            self.request(message)
        except WireError as error:
            raise MalformedError("the discovery request cannot be read") from error

    @abstractmethod
    def request(self, message: bytes) -> None:
        """Takes a serialised request of this dialect."""

    @abstractmethod
    def response(self, secrets: Collection[Secret], nonce: str) -> bytes:
        """The serialised response of this dialect that carries these."""

    def push(self) -> None:
        """Sends what is wanted and differs from what was sent."""
        wanted = (self._secrets.get(name) for name in sorted(self._names))
        due = [secret for secret in wanted if secret is not None and self._sent.get(secret.name) != secret.version]
        if not due:
            return
        self._sent |= {secret.name: secret.version for secret in due}
        self._nonce = next(self._nonces)
        self._send(self.response(due, self._nonce))

    def closed(self) -> None:
        """The stream has ended."""
        self._unsubscribe()

    def _want(self, names: Iterable[str]) -> None:
        self._names.update(names)
        self._secrets.want(names)

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            self._names.discard(name)
            self._sent.pop(name, None)


class StateOfTheWorld(Subscription):
    """`StreamSecrets`: each request names all that is wanted."""

    def request(self, message: bytes) -> None:
        """An acknowledgement, a refusal or a new set of names."""
        request = wire.SecretsRequest.parse(message)
        if request.nonce and request.nonce != self._nonce:
            return  # it answers an older response; the answer to the newer one is on its way
        if request.error:
            log.warning("Envoy refused %s: %s", ", ".join(request.names), request.error)
        names = set(request.names)
        self._drop(self._names - names)
        self._want(names)
        self.push()

    def response(self, secrets: Collection[Secret], nonce: str) -> bytes:
        """A DiscoveryResponse."""
        version = "+".join(secret.version for secret in secrets)
        return wire.discovery_response(version, TYPE_URL, nonce, [secret.body for secret in secrets])


class Delta(Subscription):
    """`DeltaSecrets`: requests say what is wanted in addition, what no longer, and what is there already."""

    def request(self, message: bytes) -> None:
        """An acknowledgement, a refusal or a change of the wanted names."""
        request = wire.DeltaSecretsRequest.parse(message)
        if request.error:
            log.warning("Envoy refused %s: %s", ", ".join(sorted(self._names)), request.error)
        self._drop(request.unsubscribe)
        self._drop(request.subscribe)
        self._sent |= request.versions
        self._want(request.subscribe)
        self.push()

    def response(self, secrets: Collection[Secret], nonce: str) -> bytes:
        """A DeltaDiscoveryResponse."""
        resources = [(secret.name, secret.version, secret.body) for secret in secrets]
        return wire.delta_discovery_response(TYPE_URL, nonce, resources)


def methods(secrets: Secrets) -> dict[str, Method]:
    """The service over one proxy's secrets, for `streams.serve`."""

    def open_stream(dialect: type[Subscription]) -> Method:
        def opened(stream: Stream) -> Subscription:
            return dialect(secrets, stream.send)

        return opened

    return {f"{_SERVICE}/StreamSecrets": open_stream(StateOfTheWorld), f"{_SERVICE}/DeltaSecrets": open_stream(Delta)}
