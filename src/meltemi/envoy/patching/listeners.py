"""Patches of listeners and of what is in them: listener filters, chains, network filters, and filters of requests.

Source: Istio `EnvoyFilter` with `applyTo` LISTENER, LISTENER_FILTER, FILTER_CHAIN, NETWORK_FILTER and HTTP_FILTER. As
there, patches go from the outside inwards, whatever their order among each other: a listener's own, its filters', then
chain by chain the chain's, the network filters' and last those of requests; within one of these, what puts filters in
comes before what merges into them. A listener or chain that is added is not patched itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meltemi.envoy import http, names
from meltemi.envoy.patching.edits import ByKind, Used, edit, message_of
from meltemi.envoy.patching.merging import merge, merge_configured, merge_with_socket
from meltemi.envoy.resource import Resource, finish
from meltemi.model.patches import Kind, Patch
from meltemi.protos import any_of, type_url
from meltemi.protos.envoy.config.listener.v3.listener_components_pb2 import (
    Filter,
    FilterChain,
    ListenerFilter,
)
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)

_MANAGER = type_url(HttpConnectionManager)
_VIRTUAL = frozenset({names.VIRTUAL_INBOUND, names.VIRTUAL_OUTBOUND})


def patched(resource: Resource, patches: ByKind, used: Used) -> Resource | None:
    """A listener after all patches that are for it, which become `used`; None if one takes it away."""
    message = Listener.FromString(resource.body)
    for patch in patches.get(Kind.LISTENER, ()):
        if not _is_listener(message, patch):
            continue
        if patch.operation == "REMOVE":
            used[patch.source] = None
            return None
        value = message_of(patch)
        if patch.operation == "MERGE" and value is not None:
            merge(message, value)
            message.name = resource.name  # Envoy knows it by this name.
            used[patch.source] = None
    for patch in patches.get(Kind.LISTENER_FILTER, ()):
        if _is_listener(message, patch) and edit(message.listener_filters, patch, _listener_filter(patch)):
            used[patch.source] = None
    _patch_chains(message, patches, used)
    return finish(resource.name, message, [*resource.sources, *used]) if used else resource


# === what is meant ===


def _is_listener(message: Listener, patch: Patch) -> bool:
    target = patch.listener
    if target.name and target.name != message.name:
        return False
    if patch.kind is not Kind.LISTENER and message.name in _VIRTUAL:
        return True  # Its chains say which port they are for.
    return target.port in (0, message.address.socket_address.port_value)


def _listener_filter(patch: Patch) -> Callable[[ListenerFilter], bool] | None:
    wanted = patch.listener.filter
    return (lambda each: each.name == wanted) if wanted else None


def _is_chain(listener: Listener, chain: FilterChain, patch: Patch) -> bool:
    target, match = patch.listener.chain, chain.filter_chain_match
    port = match.destination_port.value if match.HasField("destination_port") else 0
    if listener.name in _VIRTUAL and patch.listener.port not in (0, port):
        return False
    return (
        target.name in ("", chain.name)
        and (not target.server_name or target.server_name in match.server_names)
        and target.transport in ("", match.transport_protocol)
        and set(target.protocols) <= set(match.application_protocols)
        and target.destination_port in (0, port)
    )


def _is_filter(filter_: Filter, patch: Patch) -> bool:
    return patch.listener.chain.filter in ("", filter_.name)


def _network_filter(patch: Patch) -> Callable[[Filter], bool] | None:
    return (lambda each: _is_filter(each, patch)) if patch.listener.chain.filter else None


def _http_filter(patch: Patch) -> Callable[[HttpFilter], bool] | None:
    wanted = patch.listener.chain.inner
    return (lambda each: each.name == wanted) if wanted else None


# === chains ===


def _patch_chains(listener: Listener, patches: ByKind, used: Used) -> None:
    removed = [index for index, each in enumerate(listener.filter_chains) if not _patch(listener, each, patches, used)]
    for index in reversed(removed):
        del listener.filter_chains[index]
    if listener.HasField("default_filter_chain") and not _patch(listener, listener.default_filter_chain, patches, used):
        listener.ClearField("default_filter_chain")
    for patch in patches.get(Kind.FILTER_CHAIN, ()):
        if patch.operation == "ADD" and _is_listener(listener, patch) and edit(listener.filter_chains, patch, None):
            used[patch.source] = None


def _patch(listener: Listener, chain: FilterChain, patches: ByKind, used: Used) -> bool:
    """Patch a chain and what is in it; False if it is taken away."""

    def here(kind: Kind) -> list[Patch]:
        found = patches.get(kind, ())
        return [each for each in found if _is_listener(listener, each) and _is_chain(listener, chain, each)]

    for patch in here(Kind.FILTER_CHAIN):
        if patch.operation == "REMOVE":
            used[patch.source] = None
            return False
        value = message_of(patch)
        if patch.operation == "MERGE" and value is not None:
            merge_with_socket(chain, value)
            used[patch.source] = None
    _patch_filters(chain.filters, here(Kind.NETWORK_FILTER), _network_filter, used)
    if found := here(Kind.HTTP_FILTER):
        for filter_ in chain.filters:
            if filter_.name == http.NAME and filter_.typed_config.type_url == _MANAGER:
                _patch_manager(filter_, [each for each in found if _is_filter(filter_, each)], used)
    return True


def _patch_filters(filters: Any, patches: list[Patch], meant: Any, used: Used) -> None:
    """First the list, then what is in it; `meant` gives what tells whether a filter is the one that a patch names."""
    for patch in patches:
        if patch.operation != "MERGE" and edit(filters, patch, meant(patch)):
            used[patch.source] = None
    for patch in patches:
        value = message_of(patch) if patch.operation == "MERGE" else None
        if value is None:
            continue
        fits = meant(patch)
        for each in filters:
            if (fits is None or fits(each)) and merge_configured(each, value):
                used[patch.source] = None


def _patch_manager(filter_: Filter, patches: list[Patch], used: Used) -> None:
    manager = HttpConnectionManager.FromString(filter_.typed_config.value)
    changes: Used = {}
    _patch_filters(manager.http_filters, patches, _http_filter, changes)
    if changes:
        used.update(changes)
        filter_.typed_config.CopyFrom(any_of(manager))
