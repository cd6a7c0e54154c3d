"""Keeps the files of one pod's volumes as the API says: fetched before the start, written again when something changes.

Tokens are renewed when four fifths of their life are over. Invariant: an update that fails leaves the old files.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

from meltemi.api.core import ConfigMap, Container, Pod, Secret
from meltemi.api.core.volumes import TokenProjection
from meltemi.kube.errors import ApiError
from meltemi.local.environment import Objects, references
from meltemi.local.logs import Clock
from meltemi.local.podinfo import MissingError, PodObjects, Surroundings
from meltemi.local.volumes import token_projections, volume_files, volume_references, write_files

_TRY_AGAIN = 5.0
_FOR_EVER = 3600.0
_LIFE_USED = 0.8


class PodVolumes:
    """The volumes of one pod, below a directory that exists."""

    def __init__(self, pod: Pod, directory: Path, objects: PodObjects, around: Surroundings, now: Clock) -> None:
        self.pod = pod
        self._directory = directory
        self._objects = objects
        self._around = around
        self._now = now
        self._tokens: dict[TokenProjection, tuple[str, datetime]] = {}
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<PodVolumes of {self.pod.metadata.name}: {len(self.pod.spec.volumes)} volumes>"

    def reconsider(self) -> None:
        """Something that the volumes show may have changed."""
        self._changed.set()

    async def objects_for(self, container: Container) -> Objects:
        """What a container's environment refers to. Raises MissingError if the API cannot be asked."""
        maps, secrets = references(container)
        return await self._fetch(maps, secrets)

    async def write(self) -> None:
        """Writes what has changed. Raises MissingError, naming the volume, if something is missing."""
        volumes = self.pod.spec.volumes
        objects = await self._fetch(*volume_references(volumes))
        tokens = {wanted: await self._token(wanted) for wanted in token_projections(volumes)}
        for volume in volumes:
            try:
                files = volume_files(self.pod, volume, self._around, objects, tokens)
            except MissingError as error:
                raise MissingError(f"volume {volume.name!r} cannot be set up: {error}") from error
            place = self._directory / volume.name
            place.mkdir(exist_ok=True)
            if files is not None:
                write_files(place, files)

    async def keep_fresh(self) -> None:
        """Writes again whenever `reconsider` was called or a token is to be renewed; for ever."""
        wait = self._until_renewal()
        while True:
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            try:
                await self.write()
                wait = self._until_renewal()
            except (MissingError, OSError):
                wait = _TRY_AGAIN

    def _until_renewal(self) -> float:
        now = self._now()
        waits = [(renew - now).total_seconds() for _, renew in self._tokens.values()]
        return max(min(waits, default=_FOR_EVER), 0.0)

    async def _token(self, wanted: TokenProjection) -> str:
        token, renew = self._tokens.get(wanted, ("", self._now()))
        if token and renew > self._now():
            return token
        try:
            issued = await self._objects.token(self.pod, wanted.audience, wanted.expiration_seconds)
        except ApiError as error:
            raise MissingError(f"no service account token could be had: {error}") from error
        life = datetime.fromisoformat(issued.expires) - self._now()
        self._tokens[wanted] = (issued.token, self._now() + max(life * _LIFE_USED, timedelta(seconds=1)))
        return issued.token

    async def _fetch(self, maps: frozenset[str], secrets: frozenset[str]) -> Objects:
        namespace = self.pod.metadata.namespace
        config_maps: dict[str, ConfigMap] = {}
        found: dict[str, Secret] = {}
        try:
            for name in sorted(maps):
                config_map = await self._objects.config_map(namespace, name)
                if config_map is not None:
                    config_maps[name] = config_map
            for name in sorted(secrets):
                secret = await self._objects.secret(namespace, name)
                if secret is not None:
                    found[name] = secret
        except ApiError as error:
            raise MissingError(f"the API could not be asked: {error}") from error
        return Objects(config_maps, found)
