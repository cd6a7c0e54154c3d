"""The aggregated API of the control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from meltemi.kube.errors import NotFound, ServerError
from meltemi.local.apiserver.server import ApiServer, listen

BASE = "/apis/debug.meltemi.dev/v1alpha1"


@pytest.fixture
async def admin() -> AsyncIterator[str]:
    async def proxies(request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers
        return web.json_response({"query": dict(request.query), "path": request.path})

    application = web.Application()
    application.router.add_get("/proxies/{name}", proxies)
    runner = web.AppRunner(application)
    await runner.setup()
    listener = listen()
    await web.SockSite(runner, listener).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    await runner.cleanup()


async def test_requests_are_passed_on_with_path_and_query_but_without_the_token(admin: str, tmp_path: Path) -> None:
    server = ApiServer(tmp_path / "state", admin_address=lambda: admin)
    answer = await server.client().raw(f"{BASE}/proxies/a", {"x": "y"})
    assert answer == {"query": {"x": "y"}, "path": "/proxies/a"}
    with pytest.raises(NotFound):
        await server.client().raw(f"{BASE}/nothing")
    server.verbs.store.close()


async def test_a_control_plane_that_is_away_is_told(tmp_path: Path) -> None:
    address: list[str | None] = [None]
    server = ApiServer(tmp_path / "state", admin_address=lambda: address[0])
    with pytest.raises(ServerError, match="the control plane is not running"):
        await server.client().raw(f"{BASE}/proxies")
    address[0] = "127.0.0.1:1"
    with pytest.raises(ServerError, match="the control plane does not answer"):
        await server.client().raw(f"{BASE}/proxies")
    server.verbs.store.close()
