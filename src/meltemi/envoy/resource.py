"""Finished xDS resources, and the offers that say which proxies they are for.

A `Resource` is serialised once; its version is the hash of its content, so that equal content is never sent twice, not
after a restart either. An `Offer` is a resource name together with the variants that different clients see under it.
The xDS server only chooses and concatenates: it never builds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from google.protobuf.message import Message

from meltemi.model.clients import ANYONE, EVERYWHERE, Audience, Clients, Visibility
from meltemi.model.routes import Source

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
VIRTUAL_HOST = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


class Resource(msgspec.Struct, frozen=True):
    """A finished resource. `body` is the serialised message, `version` the hash of it.

    `sources` are the users' objects it was made of: a rejection by Envoy is told to their authors.
    """

    type_url: str
    name: str
    version: str
    body: bytes
    sources: tuple[Source, ...] = ()

    def __repr__(self) -> str:
        return f"<Resource {self.type_url.rpartition('.')[2]} {self.name} {self.version} {len(self.body)} bytes>"


def finish(name: str, message: Message, sources: Iterable[Source] = ()) -> Resource:
    """Serialise a message into a resource of that name. Equal messages give equal bytes, and so equal versions."""
    body = message.SerializeToString(deterministic=True)
    return sealed(f"type.googleapis.com/{message.DESCRIPTOR.full_name}", name, body, sources)


def sealed(type_url: str, name: str, body: bytes, sources: Iterable[Source] = ()) -> Resource:
    """A resource of a message that is serialised already."""
    version = hashlib.blake2b(body, digest_size=8).hexdigest()
    return Resource(type_url, name, version, body, tuple(dict.fromkeys(sources)))


class Seen(msgspec.Struct, frozen=True):
    """A service that must be visible to a client for an offer to reach it, at a port of its own (0: at whichever)."""

    namespace: str
    host: str
    visibility: Visibility = EVERYWHERE
    port: int = 0


class Variant(msgspec.Struct, frozen=True):
    """A resource and the clients it is for. None: those clients get nothing under that name."""

    clients: Clients
    resource: Resource | None


class Offer(msgspec.Struct, frozen=True):
    """What proxies get under one resource name: the first variant that includes the client, if any does.

    It reaches audiences that see at least one of the services in `seen` (none listed: all audiences), or only the proxies
    of one `view` where that is set.
    """

    type_url: str
    name: str
    variants: tuple[Variant, ...]
    seen: tuple[Seen, ...] = ()
    view: str = ""

    @property
    def is_particular(self) -> bool:
        """Whether it is made for certain audiences, by key: they get it in place of what others get under the name."""
        return all(variant.clients.audiences is not None for variant in self.variants)

    def choose(self, audience: Audience) -> Resource | None:
        """The resource that this class of clients gets, leaving aside whether it sees the services."""
        for variant in self.variants:
            if variant.clients.includes(audience):
                return variant.resource
        return None


def offer(resource: Resource, *, clients: Clients = ANYONE, seen: Iterable[Seen] = (), view: str = "") -> Offer:
    """An offer of one variant."""
    return Offer(resource.type_url, resource.name, (Variant(clients, resource),), tuple(seen), view)
