"""A bearer token proves an identity if it is good, ours and a service account's; answers are kept, briefly."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from meltemi.ca.authentication import AUDIENCE, KEPT, REFUSAL_KEPT, Caller, TokenAuthenticator
from meltemi.ca.errors import ReviewUnavailable, Unauthenticated
from meltemi.kube.client import TokenIdentity

from .conftest import NOW

GOOD = TokenIdentity(
    True, "system:serviceaccount:shop:cart", audiences=(AUDIENCE,), pod="cart-1", pod_uid="7f", uid="u"
)
EXPIRED = TokenIdentity(False, error="service account token has expired")


class ApiServer:
    """Answers token reviews, counts them, and can be held or broken."""

    def __init__(self, answer: TokenIdentity = GOOD) -> None:
        self.answer = answer
        self.reviews = 0
        self.audiences: Sequence[str] = ()
        self.broken = False
        self.open = asyncio.Event()
        self.open.set()

    async def review_token(self, token: str, audiences: Sequence[str]) -> TokenIdentity:
        self.reviews += 1
        self.audiences = audiences
        await self.open.wait()
        if self.broken:
            raise OSError("connection refused")
        return self.answer


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(api: ApiServer, clock: Clock) -> TokenAuthenticator:
    return TokenAuthenticator(api, clock, capacity=8)


def bearer(token: str = "token") -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_a_good_token_names_its_service_account_and_pod(
    authenticator: TokenAuthenticator, api: ApiServer
) -> None:
    caller = await authenticator.authenticate(bearer())
    assert caller == Caller("shop", "cart", "cart-1", "7f")
    assert str(caller.identity("cluster.local")) == "spiffe://cluster.local/ns/shop/sa/cart"
    assert list(api.audiences) == ["istio-ca"]


@pytest.mark.parametrize("metadata", [{}, {"authorization": "Basic abc"}, {"authorization": "Bearer "}])
async def test_no_token_is_no_proof(
    authenticator: TokenAuthenticator, api: ApiServer, metadata: dict[str, str]
) -> None:
    with pytest.raises(Unauthenticated, match="no bearer token"):
        await authenticator.authenticate(metadata)
    assert api.reviews == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (EXPIRED, "has expired"),
        (TokenIdentity(True, GOOD.username, audiences=("vault",)), "audience 'istio-ca'"),
        (TokenIdentity(True, GOOD.username), "audience"),
        (TokenIdentity(True, "jane@example.org", audiences=(AUDIENCE,)), "not a service account"),
        (TokenIdentity(False), "refuses it"),
    ],
    ids=["expired", "other audience", "no audience", "a person", "no reason given"],
)
async def test_a_token_that_is_not_good_here_is_refused_with_the_reason(
    authenticator: TokenAuthenticator, api: ApiServer, answer: TokenIdentity, reason: str
) -> None:
    api.answer = answer
    with pytest.raises(Unauthenticated, match=reason):
        await authenticator.authenticate(bearer())


async def test_an_answer_is_kept_for_some_seconds(
    authenticator: TokenAuthenticator, api: ApiServer, clock: Clock
) -> None:
    await authenticator.authenticate(bearer())
    await authenticator.authenticate(bearer())
    assert api.reviews == 1
    clock.now += KEPT
    await authenticator.authenticate(bearer())
    assert api.reviews == 2


async def test_a_refusal_is_kept_more_briefly(authenticator: TokenAuthenticator, api: ApiServer, clock: Clock) -> None:
    api.answer = EXPIRED
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(bearer())
    assert api.reviews == 1
    clock.now += REFUSAL_KEPT
    api.answer = GOOD
    await authenticator.authenticate(bearer())


async def test_an_answer_does_not_outlive_its_token(
    authenticator: TokenAuthenticator, api: ApiServer, clock: Clock
) -> None:
    claims = json.dumps({"exp": (NOW + timedelta(seconds=5)).timestamp()}).encode()
    token = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"
    await authenticator.authenticate(bearer(token))
    api.answer = EXPIRED
    clock.now += timedelta(seconds=5)
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(bearer(token))


async def test_a_crowd_with_one_token_makes_one_review(authenticator: TokenAuthenticator, api: ApiServer) -> None:
    api.open.clear()
    crowd = [asyncio.create_task(authenticator.authenticate(bearer())) for _ in range(10)]
    await asyncio.sleep(0)
    api.open.set()
    assert len({await one for one in crowd}) == 1
    assert api.reviews == 1


async def test_what_is_kept_is_bounded(authenticator: TokenAuthenticator) -> None:
    for number in range(30):
        await authenticator.authenticate(bearer(str(number)))
    assert repr(authenticator) == "<TokenAuthenticator 8 kept, 0 under review>"


async def test_an_api_server_that_is_away_is_not_the_callers_fault(
    authenticator: TokenAuthenticator, api: ApiServer
) -> None:
    api.broken = True
    with pytest.raises(ReviewUnavailable):
        await authenticator.authenticate(bearer())
    api.broken = False
    await authenticator.authenticate(bearer())
