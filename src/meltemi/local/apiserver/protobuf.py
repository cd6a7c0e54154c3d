"""The bodies that `kubectl create namespace|configmap|secret|...` sends: Kubernetes' protobuf, for the few kinds it has.

Everything else that kubectl does is JSON. So this is no protobuf library but a table of the fields that those
commands can set; a field that is not in it is refused, never dropped.
Source: `generated.proto` of k8s.io/api and k8s.io/apimachinery; the envelope is `runtime.Unknown` after `k8s\\0`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from meltemi.kube.resources import Obj

_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Field(msgspec.Struct, frozen=True):
    """How a field is called in JSON and what it holds: text, int, bool, bytes, time, int-or-string, or a message.

    A count or a flag is an int or bool whose zero means that it was not set.
    """

    name: str
    holds: str | dict[int, _Field] = "text"
    repeated: bool = False
    is_map: bool = False


def _texts(name: str) -> _Field:
    return _Field(name, repeated=True)


def _map(name: str, holds: str = "text") -> _Field:
    return _Field(name, holds, is_map=True)


_Message = dict[int, _Field]

_METADATA: _Message = {
    1: _Field("name"),
    2: _Field("generateName"),
    3: _Field("namespace"),
    4: _Field("selfLink"),
    5: _Field("uid"),
    6: _Field("resourceVersion"),
    7: _Field("generation", "count"),
    8: _Field("creationTimestamp", "time"),
    11: _map("labels"),
    12: _map("annotations"),
    14: _texts("finalizers"),
}
_REFERENCE: _Message = {1: _Field("kind"), 2: _Field("apiVersion"), 3: _Field("name"), 4: _Field("uid")}
_TOKEN_REQUEST: _Message = {
    1: _texts("audiences"),
    3: _Field("boundObjectRef", _REFERENCE),
    4: _Field("expirationSeconds", "int"),
}
_SERVICE_PORT: _Message = {
    1: _Field("name"),
    2: _Field("protocol"),
    3: _Field("port", "int"),
    4: _Field("targetPort", "int-or-string"),
    5: _Field("nodePort", "count"),
    6: _Field("appProtocol"),
}
_SERVICE: _Message = {
    1: _Field("ports", _SERVICE_PORT, repeated=True),
    2: _map("selector"),
    3: _Field("clusterIP"),
    4: _Field("type"),
    5: _texts("externalIPs"),
    7: _Field("sessionAffinity"),
    8: _Field("loadBalancerIP"),
    9: _texts("loadBalancerSourceRanges"),
    10: _Field("externalName"),
    11: _Field("externalTrafficPolicy"),
    12: _Field("healthCheckNodePort", "count"),
    13: _Field("publishNotReadyAddresses", "flag"),
}
_CONTAINER_PORT: _Message = {
    1: _Field("name"),
    2: _Field("hostPort", "count"),
    3: _Field("containerPort", "int"),
    4: _Field("protocol"),
    5: _Field("hostIP"),
}
_CONTAINER: _Message = {
    1: _Field("name"),
    2: _Field("image"),
    3: _texts("command"),
    4: _texts("args"),
    5: _Field("workingDir"),
    6: _Field("ports", _CONTAINER_PORT, repeated=True),
    7: _Field("env", {1: _Field("name"), 2: _Field("value")}, repeated=True),
    8: _Field("resources", {}),
    13: _Field("terminationMessagePath"),
    14: _Field("imagePullPolicy"),
    16: _Field("stdin", "flag"),
    17: _Field("stdinOnce", "flag"),
    18: _Field("tty", "flag"),
    20: _Field("terminationMessagePolicy"),
}
_POD: _Message = {
    2: _Field("containers", _CONTAINER, repeated=True),
    3: _Field("restartPolicy"),
    4: _Field("terminationGracePeriodSeconds", "int"),
    6: _Field("dnsPolicy"),
    7: _map("nodeSelector"),
    8: _Field("serviceAccountName"),
    9: _Field("serviceAccount"),
    10: _Field("nodeName"),
    11: _Field("hostNetwork", "flag"),
    12: _Field("hostPID", "flag"),
    13: _Field("hostIPC", "flag"),
    14: _Field("securityContext", {}),
    16: _Field("hostname"),
    17: _Field("subdomain"),
    19: _Field("schedulerName"),
}
_TEMPLATE: _Message = {1: _Field("metadata", _METADATA), 2: _Field("spec", _POD)}
_REQUIREMENT: _Message = {1: _Field("key"), 2: _Field("operator"), 3: _texts("values")}
_DEPLOYMENT: _Message = {
    1: _Field("replicas", "int"),
    2: _Field("selector", {1: _map("matchLabels"), 2: _Field("matchExpressions", _REQUIREMENT, repeated=True)}),
    3: _Field("template", _TEMPLATE),
    4: _Field("strategy", {1: _Field("type")}),
    5: _Field("minReadySeconds", "count"),
    6: _Field("revisionHistoryLimit", "int"),
    7: _Field("paused", "flag"),
    9: _Field("progressDeadlineSeconds", "int"),
}


def _with_spec(spec: _Message) -> _Message:
    return {1: _Field("metadata", _METADATA), 2: _Field("spec", spec), 3: _Field("status", "skip")}


_KINDS: dict[tuple[str, str], _Message] = {
    ("v1", "Namespace"): _with_spec({1: _texts("finalizers")}),
    ("v1", "ServiceAccount"): {
        1: _Field("metadata", _METADATA),
        2: _Field("secrets", {3: _Field("name")}, repeated=True),
        3: _Field("imagePullSecrets", {1: _Field("name")}, repeated=True),
        4: _Field("automountServiceAccountToken", "bool"),
    },
    ("v1", "ConfigMap"): {
        1: _Field("metadata", _METADATA),
        2: _map("data"),
        3: _map("binaryData", "bytes"),
        4: _Field("immutable", "bool"),
    },
    ("v1", "Secret"): {
        1: _Field("metadata", _METADATA),
        2: _map("data", "bytes"),
        3: _Field("type"),
        4: _map("stringData"),
        5: _Field("immutable", "bool"),
    },
    ("v1", "Service"): _with_spec(_SERVICE),
    ("v1", "Pod"): _with_spec(_POD),
    ("apps/v1", "Deployment"): _with_spec(_DEPLOYMENT),
    ("authentication.k8s.io/v1", "TokenRequest"): _with_spec(_TOKEN_REQUEST),
}
_ENVELOPE: _Message = {
    1: _Field("type", {1: _Field("apiVersion"), 2: _Field("kind")}),
    2: _Field("raw", "raw"),
    3: _Field("contentEncoding"),
    4: _Field("contentType"),
}


def decode(body: bytes) -> Obj:
    """The object of a protobuf body. Raises ValueError for what the table does not have."""
    if not body.startswith(_MAGIC):
        raise ValueError("the body is not Kubernetes' protobuf")
    envelope = _message(body[len(_MAGIC) :], _ENVELOPE)
    named = envelope.get("type") or {}
    key = (named.get("apiVersion", ""), named.get("kind", ""))
    if key not in _KINDS:
        raise ValueError(f"a {key[1] or 'body'} of {key[0] or 'no version'} cannot be read as protobuf here: send JSON")
    return {"apiVersion": key[0], "kind": key[1], **_message(envelope.get("raw", b""), _KINDS[key])}


def _message(data: bytes, fields: _Message) -> Obj:
    found: Obj = {}
    for number, wire_type, raw in _entries(data):
        field = fields.get(number)
        if field is None:
            if not raw:
                continue  # said, but empty: Kubernetes writes out strings that are not set
            raise ValueError(f"field {number} of a protobuf message is not known here: send JSON")
        if field.holds == "skip" or (field.holds in ("time", "count", "flag") and not raw):
            continue
        if field.is_map:
            pair = _message(_as_bytes(raw), {1: _Field("key"), 2: _Field("value", field.holds)})
            found.setdefault(field.name, {})[pair.get("key", "")] = pair.get("value", "")
        elif field.repeated:
            found.setdefault(field.name, []).append(_value(raw, wire_type, field))
        else:
            found[field.name] = _value(raw, wire_type, field)
    return {name: value for name, value in found.items() if value != ""}


def _value(raw: bytes | int, wire_type: int, field: _Field) -> Any:
    if isinstance(field.holds, dict):
        return _message(_as_bytes(raw), field.holds)
    if field.holds in ("bool", "flag"):
        return bool(raw)
    if field.holds in ("int", "count"):
        number = int(raw) if isinstance(raw, int) else 0
        return number - (1 << 64) if number >> 63 else number
    if field.holds == "raw":
        return raw
    if field.holds == "bytes":
        return base64.b64encode(_as_bytes(raw)).decode()
    if field.holds == "time":
        seconds = _message(_as_bytes(raw), {1: _Field("seconds", "int"), 2: _Field("nanos", "int")}).get("seconds", 0)
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if field.holds == "int-or-string":
        either = _message(_as_bytes(raw), {1: _Field("type", "int"), 2: _Field("number", "int"), 3: _Field("text")})
        return either.get("text", "") if either.get("type") else either.get("number", 0)
    return _as_bytes(raw).decode()


def _as_bytes(raw: bytes | int) -> bytes:
    if isinstance(raw, int):
        raise ValueError("a protobuf field has another type than expected")
    return raw


def _entries(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """The fields of a message as they come: number, wire type, and the number or the bytes."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        wire_type = tag & 7
        if wire_type == _VARINT:
            value, place = _varint(data, place)
            yield tag >> 3, wire_type, value
            continue
        if wire_type == _BYTES:
            length, place = _varint(data, place)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError("the protobuf body is malformed")
        if place + length > len(data):
            raise ValueError("the protobuf body is cut short")
        yield tag >> 3, wire_type, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("the protobuf body is cut short")
