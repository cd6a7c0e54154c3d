"""The files of volumes: which, and how an update appears."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from meltemi.api.core import ConfigMap, Pod, PodSpec, Sealed, Secret
from meltemi.api.core.volumes import Volume
from meltemi.api.meta import ObjectMeta
from meltemi.local.environment import Objects
from meltemi.local.mounts import Mount
from meltemi.local.podinfo import MissingError, Surroundings
from meltemi.local.volumes import (
    File,
    Files,
    container_mounts,
    token_projections,
    volume_files,
    volume_references,
    write_files,
)

AROUND = Surroundings("10.244.1.7", "10.244.0.1", "local")
OBJECTS = Objects(
    {"page": ConfigMap(data={"a": "1", "b": "2"}, binary_data={"raw": b"\xff"})},
    {"vault": Secret(data={"key": Sealed(b"s")})},
)
POD = Pod(metadata=ObjectMeta(name="shop", namespace="default", labels={"app": "x"}))


def files(volume: dict[str, object]) -> Files | None:
    """The files of a volume written as in YAML."""
    decoded = msgspec.convert({"name": "v", **volume}, Volume)
    tokens = {wanted: f"token for {wanted.audience}" for wanted in token_projections([decoded])}
    return volume_files(POD, decoded, AROUND, OBJECTS, tokens)


def test_all_keys_are_files_unless_items_are_named() -> None:
    shown = files({"configMap": {"name": "page"}})
    assert shown == {"a": File(b"1"), "b": File(b"2"), "raw": File(b"\xff")}
    items = [{"key": "a", "path": "deep/a.txt", "mode": 0o600}]
    assert files({"configMap": {"name": "page", "items": items}}) == {"deep/a.txt": File(b"1", 0o600)}


def test_a_projected_volume_has_the_files_of_all_its_sources() -> None:
    sources = [
        {"serviceAccountToken": {"path": "token", "audience": "istio-ca"}},
        {"secret": {"name": "vault"}},
        {"configMap": {"name": "page", "items": [{"key": "b", "path": "b"}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    shown = files({"projected": {"sources": sources, "defaultMode": 0o440}})
    assert shown is not None
    assert {name: file.content for name, file in shown.items()} == {
        "token": b"token for istio-ca",
        "key": b"s",
        "b": b"2",
        "labels": b'app="x"',
    }


def test_files_of_an_empty_directory_are_the_containers_business() -> None:
    assert files({"emptyDir": {}}) is None


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "no"}}, "configmap 'no' not found"),
        ({"secret": {"secretName": "vault", "items": [{"key": "no", "path": "x"}]}}, "secret 'vault' has no key 'no'"),
        ({"configMap": {"name": "page", "items": [{"key": "a", "path": "../x"}]}}, "not a path within a volume"),
        ({"configMap": {"name": "page", "items": [{"key": "a", "path": "/etc/x"}]}}, "not a path within a volume"),
    ],
)
def test_what_cannot_be_shown_is_named(volume: dict[str, object], message: str) -> None:
    with pytest.raises(MissingError, match=message):
        files(volume)


def test_the_objects_of_volumes_are_listed() -> None:
    volumes = msgspec.convert(
        [
            {"name": "a", "configMap": {"name": "one"}},
            {"name": "b", "projected": {"sources": [{"secret": {"name": "two"}}, {"configMap": {"name": "three"}}]}},
        ],
        tuple[Volume, ...],
    )
    assert volume_references(volumes) == (frozenset({"one", "three"}), frozenset({"two"}))


def test_an_update_appears_at_once_and_removes_what_is_gone(tmp_path: Path) -> None:
    assert write_files(tmp_path, {"a": File(b"1"), "deep/b": File(b"2", 0o600)})
    first = (tmp_path / "..data").readlink()
    assert (tmp_path / "deep" / "b").stat().st_mode & 0o777 == 0o600
    assert not write_files(tmp_path, {"a": File(b"1"), "deep/b": File(b"2", 0o600)})
    assert write_files(tmp_path, {"a": File(b"3")})
    assert (tmp_path / "..data").readlink() != first
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("..")] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"3"
    assert len(list(tmp_path.iterdir())) == 3


def test_mounts_are_ordered_and_configuration_is_read_only(tmp_path: Path) -> None:
    spec = msgspec.convert(
        {
            "volumes": [{"name": "page", "configMap": {"name": "page"}}, {"name": "tmp", "emptyDir": {}}],
            "containers": [
                {
                    "name": "app",
                    "volumeMounts": [
                        {"name": "page", "mountPath": "/srv/tmp/page"},
                        {"name": "tmp", "mountPath": "/srv/tmp"},
                        {"name": "tmp", "mountPath": "/work", "subPath": "inner"},
                    ],
                }
            ],
        },
        PodSpec,
    )
    (tmp_path / "page").mkdir()
    pod = msgspec.structs.replace(POD, spec=spec)
    assert container_mounts(pod, spec.containers[0], tmp_path) == (
        Mount(str(tmp_path / "tmp"), "/srv/tmp"),
        Mount(str(tmp_path / "page"), "/srv/tmp/page", read_only=True),
        Mount(str(tmp_path / "tmp" / "inner"), "/work"),
    )
    with pytest.raises(MissingError, match="mounts volume 'none', which the pod has not"):
        container_mounts(
            pod,
            msgspec.convert(
                {"name": "x", "volumeMounts": [{"name": "none", "mountPath": "/x"}]}, type(spec.containers[0])
            ),
            tmp_path,
        )
