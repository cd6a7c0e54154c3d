"""The protobuf bodies of `kubectl create`."""

from __future__ import annotations

import pytest

from meltemi.local.apiserver.protobuf import decode


def field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | 2, len(content))) + content


def enveloped(api_version: str, kind: str, raw: bytes) -> bytes:
    named = field(1, api_version.encode()) + field(2, kind.encode())
    return b"k8s\x00" + field(1, named) + field(2, raw) + field(3, b"") + field(4, b"")


def entry(key: bytes, value: bytes) -> bytes:
    return field(1, key) + field(2, value)


def test_texts_maps_and_bytes_are_read() -> None:
    metadata = field(1, b"s") + field(3, b"") + field(11, entry(b"a", b"b")) + field(8, b"")
    raw = field(1, metadata) + field(2, entry(b"key", b"\x00\x01")) + field(3, b"Opaque")
    assert decode(enveloped("v1", "Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "labels": {"a": "b"}},
        "data": {"key": "AAE="},
        "type": "Opaque",
    }


def test_numbers_of_ports_may_be_names() -> None:
    port = bytes((3 << 3, 80)) + field(4, bytes((1 << 3, 1)) + field(3, b"http")) + bytes((5 << 3, 0))
    raw = field(2, field(1, port))
    assert decode(enveloped("v1", "Service", raw))["spec"] == {"ports": [{"port": 80, "targetPort": "http"}]}


def test_negative_numbers_are_read() -> None:
    minus_one = bytes((4 << 3,)) + b"\xff" * 9 + b"\x01"
    raw = field(2, minus_one)
    assert decode(enveloped("authentication.k8s.io/v1", "TokenRequest", raw))["spec"] == {"expirationSeconds": -1}


def test_an_unknown_field_is_refused_unless_it_is_empty() -> None:
    assert decode(enveloped("v1", "ConfigMap", field(9, b"")))
    with pytest.raises(ValueError, match="field 9 of a protobuf message is not known here"):
        decode(enveloped("v1", "ConfigMap", field(9, b"x")))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"k8s\x00\x0a",
        b"k8s\x00\x0a\xff\xff",
        enveloped("v1", "Unheard", b""),
        b"k8s\x00\x0b",
        b"k8s\x00\x08\x01",
    ],
)
def test_what_is_not_an_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        decode(body)
