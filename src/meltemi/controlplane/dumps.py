"""The control plane's state as plain JSON values, for the CLI and the dashboard. Nothing secret is in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from meltemi.base.problems import Problem
from meltemi.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, VIRTUAL_HOST, Resource
from meltemi.model.routes import Source
from meltemi.protos import message_class, to_dict
from meltemi.xds.hub import Connection, Hub
from meltemi.xds.metrics import short

Json = dict[str, Any]

TYPES = {
    "listeners": (LISTENER,),
    "routes": (ROUTES, VIRTUAL_HOST),
    "clusters": (CLUSTER,),
    "endpoints": (ENDPOINTS,),
    "secrets": (SECRET,),
}


def proxies(hub: Hub) -> list[Json]:
    """Every connected proxy, and how far it has come with each type."""
    return [proxy(hub, connection) for connection in sorted(hub.connections, key=lambda each: each.proxy.id)]


def proxy(hub: Hub, connection: Connection) -> Json:
    """One connected proxy. `state` of a type: synced, sending (a response is under way), waiting, or rejected."""
    stream = connection.stream
    facts = connection.proxy
    return {
        "id": facts.id,
        "kind": str(facts.kind),
        "namespace": facts.namespace,
        "workload": facts.names.workload,
        "identity": str(facts.identity),
        "addresses": list(facts.addresses),
        "view": connection.placement.view,
        "audience": connection.placement.audience,
        "connected": connection.connected,
        "revision": hub.clock.revision,
        "settled": stream.settled,
        "sent": stream.sent_resources,
        "refused": stream.refused,
        "types": {short(url): type_state(hub, connection, url) for url in stream.types},
    }


def type_state(hub: Hub, connection: Connection, type_url: str) -> Json:
    """How far a proxy has come with one type."""
    state = connection.stream.types[type_url]
    rejected = [
        {"name": name, "message": rejection.words}
        for key in (connection.placement.view, connection.placement.audience)
        for (url, name), rejection in hub.catalogue.shelf(key).rejections.items()
        if url == type_url
    ]
    word = "rejected" if rejected else "sending" if state.flight else "waiting" if state.pending else "synced"
    shelves = connection.stream.shelves
    if type_url == VIRTUAL_HOST:
        held = sum(len(shelves.hosts_of(name)) for name in state.covered)
    elif state.wildcard or state.everything:
        held = len(shelves.names(type_url))
    else:
        held = sum(shelves.lookup(type_url, name) is not None for name in state.names)
    return {"state": word, "resources": held, "pending": len(state.pending), "rejected": rejected}


def configuration(connection: Connection, kinds: Iterable[str], *, name: str = "", full: bool = False) -> Json:
    """What a proxy should hold, by kind, with the users' objects that each part came from."""
    found: Json = {}
    for kind in kinds:
        rows = []
        for type_url in TYPES[kind]:
            state = connection.stream.types.get(type_url)
            for each in sorted(_names(connection, type_url)):
                resource = connection.stream.shelves.lookup(type_url, each)
                if resource is not None and state is not None and (not name or name in each):
                    rows.append(described(resource, full=full))
        found[kind] = rows
    return found


def _names(connection: Connection, type_url: str) -> Iterable[str]:
    shelves, state = connection.stream.shelves, connection.stream.types.get(type_url)
    if type_url == SECRET:
        return state.names if state else ()
    return shelves.names(type_url)


def described(resource: Resource, *, full: bool) -> Json:
    """A resource: its name, version, size in bytes, where it came from and, if asked for, its whole content."""
    row: Json = {
        "type": resource.type_url.rpartition(".")[2],
        "name": resource.name,
        "version": resource.version,
        "size": len(resource.body),
        "sources": [described_source(source) for source in resource.sources],
    }
    if full and resource.type_url != SECRET:
        row["content"] = to_dict(parsed(resource))
    return row


def described_source(source: Source) -> Json:
    """The part of a user's object that something came from."""
    return {
        "kind": source.ref.kind,
        "namespace": source.ref.namespace,
        "name": source.ref.name,
        "path": source.path,
    }


def parsed(resource: Resource) -> Message:
    """The message that a resource carries."""
    return message_class(resource.type_url).FromString(resource.body)


def described_problem(problem: Problem) -> Json:
    """One problem."""
    return {
        "kind": problem.ref.kind,
        "namespace": problem.ref.namespace,
        "name": problem.ref.name,
        "path": problem.path,
        "severity": str(problem.severity),
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
        "origin": str(problem.origin),
    }
