"""A pod's volumes: which files they hold, how those are written, and where containers see them.

The files of a volume are computed first, as a value, and then written. A reader must never see half of an update, so
the files lie in a directory of their own, to which the link `..data` points, and each visible name is a link through it;
an update writes a new directory and moves `..data` at once. Source: Kubernetes' own AtomicWriter, whose layout
applications that watch their configuration know.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from meltemi.api.core import Container, Pod
from meltemi.api.core.volumes import DownwardFile, KeyToPath, ProjectedVolume, TokenProjection, Volume
from meltemi.local.environment import Objects, secret_data
from meltemi.local.mounts import Mount
from meltemi.local.podinfo import MissingError, Surroundings, field_value, resource_value

_DATA = "..data"


class File(msgspec.Struct, frozen=True):
    """A file of a volume."""

    content: bytes
    mode: int = 0o644


Files = Mapping[str, File]
Tokens = Mapping[TokenProjection, str]


def volume_references(volumes: Iterable[Volume]) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the ConfigMaps and of the Secrets that volumes show."""
    maps, secrets = set(), set()
    for volume in volumes:
        if volume.config_map:
            maps.add(volume.config_map.name)
        if volume.secret:
            secrets.add(volume.secret.secret_name)
        for source in volume.projected.sources if volume.projected else ():
            if source.config_map:
                maps.add(source.config_map.name)
            if source.secret:
                secrets.add(source.secret.name)
    return frozenset(maps), frozenset(secrets)


def token_projections(volumes: Iterable[Volume]) -> tuple[TokenProjection, ...]:
    """The tokens that volumes show."""
    return tuple(
        source.service_account_token
        for volume in volumes
        if volume.projected
        for source in volume.projected.sources
        if source.service_account_token
    )


def volume_files(pod: Pod, volume: Volume, around: Surroundings, objects: Objects, tokens: Tokens) -> Files | None:
    """The files of a volume, or None for a volume whose files are the containers' own business.

    Raises MissingError, naming what is missing and is not optional.
    """
    if volume.config_map:
        shown = volume.config_map
        data = _config_map(objects, shown.name, optional=shown.optional)
        return _selected(data, shown.items, shown.default_mode, f"configmap {shown.name!r}", shown.optional)
    if volume.secret:
        hidden = volume.secret
        data = _secret(objects, hidden.secret_name, optional=hidden.optional)
        return _selected(data, hidden.items, hidden.default_mode, f"secret {hidden.secret_name!r}", hidden.optional)
    if volume.downward_api:
        return _downward(pod, volume.downward_api.items, volume.downward_api.default_mode, around)
    if volume.projected:
        return _projected(pod, volume.projected, around, objects, tokens)
    return None


def _projected(
    pod: Pod, volume: ProjectedVolume, around: Surroundings, objects: Objects, tokens: Tokens
) -> dict[str, File]:
    files: dict[str, File] = {}
    mode = volume.default_mode
    for source in volume.sources:
        if source.config_map:
            shown = source.config_map
            data = _config_map(objects, shown.name, optional=shown.optional)
            files |= _selected(data, shown.items, mode, f"configmap {shown.name!r}", shown.optional)
        if source.secret:
            shown = source.secret
            data = _secret(objects, shown.name, optional=shown.optional)
            files |= _selected(data, shown.items, mode, f"secret {shown.name!r}", shown.optional)
        if source.downward_api:
            files |= _downward(pod, source.downward_api.items, mode, around)
        if source.service_account_token:
            token = tokens[source.service_account_token]
            files[_inside(source.service_account_token.path)] = File(token.encode(), mode & 0o600 or 0o600)
    return files


def _config_map(objects: Objects, name: str, *, optional: bool) -> dict[str, bytes]:
    found = objects.config_maps.get(name)
    if found is None:
        if optional:
            return {}
        raise MissingError(f"configmap {name!r} not found")
    return {key: value.encode() for key, value in found.data.items()} | found.binary_data


def _secret(objects: Objects, name: str, *, optional: bool) -> dict[str, bytes]:
    found = objects.secrets.get(name)
    if found is None:
        if optional:
            return {}
        raise MissingError(f"secret {name!r} not found")
    return secret_data(found)


def _selected(
    data: Mapping[str, bytes], items: tuple[KeyToPath, ...], mode: int, whose: str, optional: bool
) -> dict[str, File]:
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    files = {}
    for item in items:
        if item.key in data:
            files[_inside(item.path)] = File(data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise MissingError(f"{whose} has no key {item.key!r}")
    return files


def _downward(pod: Pod, items: tuple[DownwardFile, ...], mode: int, around: Surroundings) -> dict[str, File]:
    files = {}
    for item in items:
        value = ""
        if item.field_ref:
            value = field_value(pod, item.field_ref.field_path, around)
        elif item.resource_field_ref:
            name = item.resource_field_ref.container_name
            container = next((one for one in pod.spec.containers if one.name == name), None)
            if container is None:
                raise MissingError(f"the volume file {item.path} names container {name!r}, which the pod has not")
            value = resource_value(container, item.resource_field_ref)
        files[_inside(item.path)] = File(value.encode(), mode if item.mode is None else item.mode)
    return files


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise MissingError(f"{path!r} is not a path within a volume")
    return str(pure)


def write_files(directory: Path, files: Files) -> bool:
    """Makes the directory show exactly these files, all at once. False: it did so already."""
    current = directory / _DATA
    if current.exists() and _shown(current) == dict(files):
        return False
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    fresh.chmod(0o755)
    for name, file in files.items():
        place = fresh / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
        place.chmod(file.mode)
    old = current.resolve() if current.is_symlink() else None
    link = directory / f"{fresh.name}_link"
    link.symlink_to(fresh.name)
    link.rename(current)
    wanted = {PurePosixPath(name).parts[0] for name in files}
    for name in wanted:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"{_DATA}/{name}")
    for entry in directory.iterdir():
        if not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _shown(data: Path) -> dict[str, File]:
    return {
        str(path.relative_to(data)): File(path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in data.rglob("*")
        if path.is_file()
    }


def container_mounts(pod: Pod, container: Container, volumes: Path) -> tuple[Mount, ...]:
    """Where a container sees the pod's volumes, which lie in `volumes` by name. Outer mounts come before inner ones.

    Raises MissingError for a mount of a volume that the pod has not.
    """
    by_name = {volume.name: volume for volume in pod.spec.volumes}
    mounts = []
    for wanted in sorted(container.volume_mounts, key=lambda one: PurePosixPath(one.mount_path).parts):
        volume = by_name.get(wanted.name)
        if volume is None:
            raise MissingError(f"container {container.name} mounts volume {wanted.name!r}, which the pod has not")
        source = Path(volume.host_path.path) if volume.host_path else volumes / volume.name
        if wanted.sub_path:
            source = source / _inside(wanted.sub_path)
        if volume.empty_dir and not source.exists():
            source.mkdir(parents=True)
        if not source.exists():
            raise MissingError(f"{source} does not exist, which volume {wanted.name!r} shows at {wanted.mount_path}")
        projected = not (volume.empty_dir or volume.host_path)
        mounts.append(Mount(os.path.realpath(source), wanted.mount_path, wanted.read_only or projected))
    return tuple(mounts)
