"""Finished bytes laid side by side: DeltaDiscoveryResponse without encoding anything twice.

A protobuf message is the concatenation of its fields, so a response is made by joining the resources' own bytes,
each framed once. Proxies that are due the same get the same object, nonce included.

Source: the protobuf wire format; `envoy.service.discovery.v3.DeltaDiscoveryResponse` (resources 2, type_url 4, nonce 5,
removed_resources 6), `Resource` (version 1, resource 2, name 3), `google.protobuf.Any` (type_url 1, value 2).
"""

from __future__ import annotations

import functools
import re
from collections import OrderedDict

from meltemi.envoy.resource import Resource
from meltemi.protos.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from meltemi.xds.subscription import Ask, Response


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field of that number."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _SHORT[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT = tuple(bytes([value]) for value in range(0x80))


def frame(resource: Resource) -> bytes:
    """A resource as a field of the response."""
    url, body = _type_url(resource.type_url), resource.body
    size = _varint(len(body))
    packed = len(url) + 1 + len(size) + len(body)
    version, name = field(1, resource.version.encode()), field(3, resource.name.encode())
    length = _varint(packed)
    whole = _varint(len(version) + 1 + len(length) + packed + len(name))
    return b"".join((b"\x12", whole, version, b"\x12", length, url, b"\x12", size, body, name))


@functools.cache
def _type_url(url: str) -> bytes:
    return field(1, url.encode())


class Composer:
    """Makes responses into bytes, and keeps the latest (up to `most` bytes), because many proxies are due the same one."""

    def __init__(self, most: int = 32 << 20) -> None:
        self._most = most
        self._size = 0
        self._made: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self.made = 0
        self.shared = 0

    def compose(self, response: Response) -> tuple[bytes, bytes]:
        """The serialised DeltaDiscoveryResponse in two pieces: what proxies share, and the nonce."""
        key = (
            response.type_url,
            tuple([(resource.name, resource.version) for resource in response.resources]),
            response.removed,
        )
        body = self._made.get(key)
        if body is None:
            self.made += 1
            body = self._made[key] = b"".join(
                (
                    *(frame(resource) for resource in response.resources),
                    field(4, response.type_url.encode()),
                    *(field(6, name.encode()) for name in response.removed),
                )
            )
            self._size += len(body)
            while self._size > self._most and len(self._made) > 1:
                _, forgotten = self._made.popitem(last=False)
                self._size -= len(forgotten)
        else:
            self.shared += 1
            self._made.move_to_end(key)
        return body, field(5, response.nonce.encode())


_DUMP = re.compile(r"goo\.gle/debug\w*\s*(?:^\s*(?:[\w.\[\]/-]+(?:: .*| \{)|\})$\n?)*", re.MULTILINE)


def words_of(message: str) -> str:
    """What Envoy says is wrong, without the dumps of resources that stand before or behind it."""
    return _DUMP.sub(" ", message).strip(" :\n")


def read_request(request: DeltaDiscoveryRequest) -> Ask:
    """The part of a request that the protocol is about."""
    return Ask(
        type_url=request.type_url,
        subscribe=tuple(request.resource_names_subscribe),
        unsubscribe=tuple(request.resource_names_unsubscribe),
        initial_versions=dict(request.initial_resource_versions),
        nonce=request.response_nonce,
        error=words_of(request.error_detail.message) if request.HasField("error_detail") else None,
    )
