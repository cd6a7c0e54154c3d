"""Where a command finds the mesh: which API it talks to, with whose credentials, and in which namespace.

In this order: what --kubeconfig, --context or --mesh name; the mesh that runs on this machine; the file in
`KUBECONFIG`; the pod that the command runs in. A kubeconfig in the home directory is used only with --context, so that a
forgotten `meltemi up` never sends a change to some cluster.

A mesh on this machine keeps its state in `$MELTEMI_HOME/<name>`, else `$XDG_STATE_HOME/meltemi/<name>`, else
`~/.local/state/meltemi/<name>`. It runs if its kubeconfig is there and its lock is held (`meltemi.local.home`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from meltemi.cli.failures import USAGE, Failure

if TYPE_CHECKING:
    from meltemi.kube.client import Client
    from meltemi.kube.config import Connection

DEFAULT_MESH = "local"


class Choice(NamedTuple):
    """What the user said about the API and the namespace; empty where nothing was said."""

    kubeconfig: str = ""
    context: str = ""
    mesh: str = ""
    namespace: str = ""
    all_namespaces: bool = False


class Place(NamedTuple):
    """An API that was found: its connection, its name for messages, and the local mesh it belongs to, if to one."""

    connection: Connection
    name: str
    mesh: str = ""


def root(environ: Mapping[str, str]) -> Path:
    """The directory with the state of all meshes on this machine."""
    if given := environ.get("MELTEMI_HOME"):
        return Path(given)
    state = environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "meltemi"


def _is_running(directory: Path) -> bool:
    from meltemi.local.home import Home

    return Home(directory).running() is not None


def _make_client(connection: Connection, warn: Callable[[str], None]) -> Client:
    from meltemi.kube.client import Client
    from meltemi.kube.transport import HttpTransport

    return Client(HttpTransport(connection), field_manager="meltemi", warn=warn)


class Surroundings(NamedTuple):
    """What a command needs of the world around it. Tests put their own in its place."""

    environ: Mapping[str, str] = os.environ
    is_running: Callable[[Path], bool] = _is_running
    client_of: Callable[[Connection, Callable[[str], None]], Client] = _make_client

    def running_meshes(self) -> dict[str, Path]:
        """The meshes that run on this machine: their names and kubeconfig files."""
        files = sorted(root(self.environ).glob("*/kubeconfig"))
        return {file.parent.name: file for file in files if self.is_running(file.parent)}

    def find(self, choice: Choice) -> Place:
        """The API that is meant. Raises Failure if there is none, or more than one."""
        from meltemi.kube import config

        try:
            if choice.kubeconfig or choice.context:
                path = Path(choice.kubeconfig) if choice.kubeconfig else config.default_kubeconfig()
                connection = config.load(path, choice.context)
                return self._named(connection, path, choice.context)
            meshes = self.running_meshes()
            if choice.mesh or meshes:
                return self._local(choice.mesh, meshes)
            if self.environ.get("KUBECONFIG"):
                return self._named(config.load(), config.default_kubeconfig())
            if "KUBERNETES_SERVICE_HOST" in self.environ:
                connection = config.in_cluster()
                return Place(connection, connection.server)
        except config.ConfigError as error:
            raise Failure(
                str(error), "--kubeconfig FILE and --context NAME say which cluster is meant", USAGE
            ) from None
        raise Failure(
            "no mesh is running on this machine",
            "start one with `meltemi up DIRECTORY`, or name a cluster with --kubeconfig or --context",
        )

    def _named(self, connection: Connection, file: Path, context: str = "") -> Place:
        """The place of a kubeconfig file, which may be that of a mesh on this machine."""
        directory = file.absolute().parent
        if directory.parent == root(self.environ).absolute():
            return Place(connection, f"the mesh {directory.name!r}", directory.name)
        return Place(connection, context or connection.server)

    def _local(self, wanted: str, meshes: dict[str, Path]) -> Place:
        from meltemi.kube.config import load

        names = ", ".join(meshes) or "none"
        name = wanted or (DEFAULT_MESH if DEFAULT_MESH in meshes else "") or next(iter(meshes))
        if not wanted and len(meshes) > 1 and DEFAULT_MESH not in meshes:
            raise Failure(f"several meshes are running here: {names}", "name one with --mesh", USAGE)
        if name not in meshes:
            raise Failure(
                f"the mesh {name!r} is not running (running: {names})", f"start it with `meltemi up --name {name}`"
            )
        return Place(load(meshes[name]), f"the mesh {name!r}", name)
