"""Service account tokens, and who may use the API."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from meltemi.kube.client import Client
from meltemi.kube.errors import BadRequest, Forbidden, NotFound, Unauthorized
from meltemi.kube.resources import PODS, SERVICE_ACCOUNTS, Obj
from meltemi.local.apiserver.identity import ISSUER
from meltemi.local.apiserver.inprocess import InProcessTransport
from meltemi.local.apiserver.server import ApiServer

from .conftest import Clock


async def make_pod(client: Client) -> Obj:
    pod = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "a"}]}}
    return await client.create(PODS, pod)


def claims_of(token: str) -> Obj:
    part = token.split(".")[1]
    claims: Obj = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


async def test_a_token_says_what_kubernetes_tokens_say(client: Client) -> None:
    pod = await make_pod(client)
    issued = await client.create_token("default", "default", ["istio-ca"], 3600, pod)
    claims = claims_of(issued.token)
    assert claims["iss"] == ISSUER
    assert claims["sub"] == "system:serviceaccount:default:default"
    assert claims["aud"] == ["istio-ca"]
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["kubernetes.io"]["pod"] == {"name": "p", "uid": pod["metadata"]["uid"]}
    assert issued.expires == "2026-01-01T13:00:00Z"


async def test_a_good_token_is_reviewed_with_its_pod(client: Client) -> None:
    pod = await make_pod(client)
    issued = await client.create_token("default", "default", ["istio-ca"], 3600, pod)
    identity = await client.review_token(issued.token, ["istio-ca"])
    assert identity.authenticated
    assert identity.service_account == ("default", "default")
    assert (identity.pod, identity.pod_uid) == ("p", pod["metadata"]["uid"])
    assert identity.audiences == ("istio-ca",)


async def test_a_token_for_another_audience_is_refused(client: Client) -> None:
    issued = await client.create_token("default", "default", ["other"], 3600)
    identity = await client.review_token(issued.token, ["istio-ca"])
    assert not identity.authenticated
    assert "audience" in identity.error


async def test_a_token_ends_with_its_time(client: Client, clock: Clock) -> None:
    issued = await client.create_token("default", "default", ["istio-ca"], 600)
    clock.advance(601)
    assert (await client.review_token(issued.token, ["istio-ca"])).error == "the token has expired"


async def test_a_token_ends_with_its_pod(client: Client) -> None:
    pod = await make_pod(client)
    issued = await client.create_token("default", "default", ["istio-ca"], 3600, pod)
    await client.delete(PODS, "p", "default")
    await make_pod(client)
    assert "the pod default/p has been deleted" in (await client.review_token(issued.token, ["istio-ca"])).error


async def test_a_token_ends_with_its_account(client: Client) -> None:
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "web", "namespace": "default"}})
    issued = await client.create_token("default", "web", ["istio-ca"], 3600)
    await client.delete(SERVICE_ACCOUNTS, "web", "default")
    assert "has been deleted" in (await client.review_token(issued.token, ["istio-ca"])).error


async def test_a_token_that_was_tampered_with_is_refused(client: Client) -> None:
    issued = await client.create_token("default", "default", ["istio-ca"], 3600)
    head, body, signature = issued.token.split(".")
    altered = body[:10] + ("A" if body[10] != "A" else "B") + body[11:]
    for token in (f"{head}.{altered}.{signature}", "nonsense", "", f"{head}.{body}."):
        assert not (await client.review_token(token, ["istio-ca"])).authenticated


async def test_a_token_is_bound_only_to_a_pod_of_its_account(client: Client) -> None:
    pod = await make_pod(client)
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "web", "namespace": "default"}})
    with pytest.raises(BadRequest, match="does not run as web"):
        await client.create_token("default", "web", ["istio-ca"], 3600, pod)
    with pytest.raises(BadRequest, match="does not exist"):
        await client.create_token("default", "default", ["istio-ca"], 3600, {"metadata": {"name": "other"}})
    with pytest.raises(NotFound):
        await client.create_token("default", "nobody", ["istio-ca"], 3600)


async def test_tokens_outlive_the_server_that_issued_them(
    client: Client, server: ApiServer, tmp_path: Path, clock: Clock
) -> None:
    issued = await client.create_token("default", "default", ["istio-ca"], 3600)
    server.verbs.store.close()
    again = ApiServer(tmp_path / "state", now=clock)
    assert (await again.client().review_token(issued.token, ["istio-ca"])).authenticated
    again.verbs.store.close()


async def test_only_the_administrator_may_use_the_api(client: Client, server: ApiServer) -> None:
    stranger = Client(InProcessTransport(server.application, "guess"))
    with pytest.raises(Unauthorized):
        await stranger.list(PODS)
    issued = await client.create_token("default", "default", [], 3600)
    workload = Client(InProcessTransport(server.application, issued.token))
    with pytest.raises(Forbidden, match="system:serviceaccount:default:default"):
        await workload.list(PODS)


async def test_the_public_keys_are_served_openly(server: ApiServer) -> None:
    stranger = Client(InProcessTransport(server.application, ""))
    keys = await stranger.raw("/openid/v1/jwks")
    assert keys["keys"][0]["alg"] == "ES256"
    assert "d" not in keys["keys"][0]
    assert (await stranger.raw("/.well-known/openid-configuration"))["issuer"] == ISSUER


async def test_secrets_on_disk_are_their_owners_only(server: ApiServer, tmp_path: Path) -> None:
    server.write_kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1")
    files = [
        tmp_path / "kubeconfig",
        *(tmp_path / "state" / name for name in ("sa.key", "tls.pem", "admin-token", "objects.db")),
    ]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 5
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
