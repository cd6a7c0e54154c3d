"""The control plane's admin interface: JSON over HTTP, read-only, on a loopback address.

/proxies                       who is connected, and how far each has come
/proxies/<id>/config           what a proxy should hold (?type=clusters&name=reviews&full=true)
/problems                      what is wrong with what users wrote
/wait                          is an object live? (?kind=&namespace=&name=&resourceVersion=&timeout=)
/tables, /tables/<name>        the pipeline: statistics, rows with what they rest on
/metrics                       Prometheus
/ready                         200 once the sources have been read
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from meltemi import __version__
from meltemi.base.refs import Ref
from meltemi.controlplane import dumps
from meltemi.controlplane.facts import Facts
from meltemi.controlplane.progress import Progress
from meltemi.controlplane.revisions import Revisions

LONGEST_WAIT = 300.0


def answer(value: object, status: int = 200) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(value, enc_hook=str), status, media_type="application/json")


class Admin:
    """The endpoints."""

    def __init__(self, revisions: Revisions, progress: Progress, facts: Facts, is_ready: Callable[[], bool]) -> None:
        self._revisions = revisions
        self._facts = facts
        self._progress = progress
        self._is_ready = is_ready

    def application(self) -> Starlette:
        """The ASGI application."""
        endpoints = {
            "/version": self.version,
            "/ready": self.ready,
            "/metrics": self.metrics,
            "/proxies": self.proxies,
            "/proxies/{id}": self.proxy,
            "/proxies/{id}/config": self.configuration,
            "/problems": self.problems,
            "/wait": self.wait,
            "/tables": self.tables,
            "/tables/{name:path}": self.table,
        }
        return Starlette(routes=[Route(path, endpoint) for path, endpoint in endpoints.items()])

    async def version(self, _: Request) -> Response:
        """The version of the control plane."""
        return answer({"version": __version__, "revision": self._revisions.number})

    async def ready(self, _: Request) -> Response:
        """Whether every source was read once."""
        ready = self._is_ready()
        return answer({"ready": ready}, 200 if ready else 503)

    async def metrics(self, _: Request) -> Response:
        """All metrics of this process in Prometheus' text format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def proxies(self, _: Request) -> Response:
        """All connected proxies."""
        return answer(dumps.proxies(self._revisions.hub))

    async def proxy(self, request: Request) -> Response:
        """One connected proxy."""
        hub = self._revisions.hub
        found = [each for each in hub.connections if each.proxy.id == request.path_params["id"]]
        return answer(dumps.proxy(hub, found[0])) if found else self._no_proxy(request)

    async def configuration(self, request: Request) -> Response:
        """What one proxy should hold."""
        found = [each for each in self._revisions.hub.connections if each.proxy.id == request.path_params["id"]]
        if not found:
            return self._no_proxy(request)
        kind = request.query_params.get("type", "all")
        if kind != "all" and kind not in dumps.TYPES:
            return answer({"message": f"there is no type {kind!r}; it is one of all, {', '.join(dumps.TYPES)}"}, 400)
        kinds = list(dumps.TYPES) if kind == "all" else [kind]
        full = request.query_params.get("full") == "true"
        return answer(dumps.configuration(found[0], kinds, name=request.query_params.get("name", ""), full=full))

    def _no_proxy(self, request: Request) -> Response:
        return answer({"message": f"no proxy {request.path_params['id']!r} is connected"}, 404)

    async def problems(self, _: Request) -> Response:
        """All problems."""
        read = (problem for problems in self._facts.problems.values() for problem in problems)
        graph, hub = self._revisions.pipeline.graph, self._revisions.hub
        found = sorted({*read, *graph.problems(), *hub.problems()})
        return answer([dumps.described_problem(problem) for problem in found])

    async def wait(self, request: Request) -> Response:
        """Wait until an object is live."""
        query = request.query_params
        ref = Ref(query.get("kind", ""), query.get("namespace", ""), query.get("name", ""))
        try:
            version = int(query.get("resourceVersion", "0"))
            timeout = min(float(query.get("timeout", "30")), LONGEST_WAIT)
        except ValueError as error:
            return answer({"message": str(error)}, 400)
        live = await self._progress.wait_live(ref, version, timeout)
        return answer(
            {
                "live": live.is_live,
                "seen": live.seen,
                "revision": live.revision,
                "proxies": live.proxies,
                "behind": live.behind,
                "problems": [
                    dumps.described_problem(problem) for problem in (*self._facts.problems.get(ref, ()), *live.problems)
                ],
            }
        )

    async def tables(self, _: Request) -> Response:
        """What each table of the pipeline holds and has cost."""
        return answer(self._revisions.pipeline.graph.statistics())

    async def table(self, request: Request) -> Response:
        """The rows of one table."""
        graph = self._revisions.pipeline.graph
        try:
            return answer(graph.dump(table=request.path_params["name"]))
        except KeyError:
            return answer({"message": f"there is no table {request.path_params['name']!r}"}, 404)
