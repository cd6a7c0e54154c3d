"""Who asks for a certificate: the bearer token of a service account, reviewed by the API server that issued it.

A token proves an identity only here (its audience is ours), only now (it expires) and only while its pod exists, so it
is the API server that decides, by TokenReview. Agents retry and pods start in crowds, so an answer is kept for some
seconds and a token under review is asked about once. Invariant: what is kept is never older than `KEPT`, never outlives
the token, is bounded in number, and holds a digest of the token instead of the token.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from meltemi.base.spiffe import SpiffeId
from meltemi.ca.errors import ReviewUnavailable, Unauthenticated

AUDIENCE = "istio-ca"
"""The audience that a workload's token must be for (Istio's projected `istio-token`)."""

KEPT = timedelta(seconds=30)
REFUSAL_KEPT = timedelta(seconds=2)
CAPACITY = 4096


class Caller(msgspec.Struct, frozen=True):
    """A proven caller: its service account, and the pod that its token is bound to (empty if it is bound to none)."""

    namespace: str
    service_account: str
    pod: str = ""
    pod_uid: str = ""

    def identity(self, trust_domain: str) -> SpiffeId:
        """The identity that the caller is entitled to."""
        return SpiffeId(trust_domain, self.namespace, self.service_account)


class Reviewed(Protocol):
    """What a token review tells (`meltemi.kube.client.TokenIdentity` is one)."""

    @property
    def authenticated(self) -> bool:
        """Whether the token is good."""

    @property
    def audiences(self) -> Sequence[str]:
        """The audiences, of those asked for, that the token is for."""

    @property
    def service_account(self) -> tuple[str, str] | None:
        """Namespace and name, if it is a service account's token."""

    @property
    def pod(self) -> str:
        """The name of the pod that the token is bound to, or nothing."""

    @property
    def pod_uid(self) -> str:
        """That pod's uid."""

    @property
    def error(self) -> str:
        """Why the token is not good."""


class ReviewTokens(Protocol):
    """Asks an API server about tokens (`meltemi.kube.client.Client` does)."""

    async def review_token(self, token: str, audiences: Sequence[str]) -> Reviewed:
        """The outcome of a TokenReview of authentication.k8s.io/v1."""


class Authenticator(Protocol):
    """Finds out who a caller is."""

    async def authenticate(self, metadata: Mapping[str, str]) -> Caller:
        """The caller by its request metadata. Raises Unauthenticated or ReviewUnavailable."""


class _Kept(msgspec.Struct):
    answer: Caller | Unauthenticated
    until: datetime


class TokenAuthenticator:
    """Authenticates `authorization: Bearer <token>` by token review."""

    def __init__(
        self,
        reviewer: ReviewTokens,
        clock: Callable[[], datetime],
        *,
        audience: str = AUDIENCE,
        capacity: int = CAPACITY,
    ) -> None:
        self._reviewer = reviewer
        self._clock = clock
        self._audience = audience
        self._capacity = capacity
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._under_review: dict[bytes, asyncio.Task[Caller]] = {}

    def __repr__(self) -> str:
        return f"<TokenAuthenticator {len(self._kept)} kept, {len(self._under_review)} under review>"

    async def authenticate(self, metadata: Mapping[str, str]) -> Caller:
        """The caller that the bearer token stands for. Raises Unauthenticated or ReviewUnavailable."""
        token = bearer_token(metadata)
        digest = hashlib.sha256(token.encode()).digest()
        kept = self._kept.get(digest)
        if kept is not None and self._clock() < kept.until:
            self._kept.move_to_end(digest)
            if isinstance(kept.answer, Unauthenticated):
                raise Unauthenticated(*kept.answer.args)
            return kept.answer
        review = self._under_review.get(digest)
        if review is None:
            review = asyncio.create_task(self._review(digest, token))
            self._under_review[digest] = review
            review.add_done_callback(lambda _: self._under_review.pop(digest, None))
        return await asyncio.shield(review)

    async def _review(self, digest: bytes, token: str) -> Caller:
        try:
            reviewed = await self._reviewer.review_token(token, [self._audience])
        except Exception as error:
            raise ReviewUnavailable(f"the token could not be reviewed: {error}") from error
        now = self._clock()
        try:
            caller = caller_of(reviewed, self._audience)
        except Unauthenticated as refusal:
            self._keep(digest, _Kept(Unauthenticated(*refusal.args), now + REFUSAL_KEPT))
            raise
        self._keep(digest, _Kept(caller, min(now + KEPT, expiry_of(token) or now + KEPT)))
        return caller

    def _keep(self, digest: bytes, kept: _Kept) -> None:
        self._kept[digest] = kept
        self._kept.move_to_end(digest)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)


def bearer_token(metadata: Mapping[str, str]) -> str:
    """The token of the `authorization` header. Raises Unauthenticated if there is none."""
    scheme, _, token = metadata.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the request carries no bearer token")
    return token.strip()


def caller_of(reviewed: Reviewed, audience: str) -> Caller:
    """The caller that a review vouches for. Raises Unauthenticated, with the reason."""
    if not reviewed.authenticated:
        raise Unauthenticated(f"the token is not good: {reviewed.error or 'the API server refuses it'}")
    if audience not in reviewed.audiences:
        raise Unauthenticated(f"the token is not for the audience {audience!r}")
    account = reviewed.service_account
    if account is None:
        raise Unauthenticated("the token is not a service account's")
    return Caller(*account, reviewed.pod, reviewed.pod_uid)


class _Claims(msgspec.Struct):
    exp: float = 0


def expiry_of(token: str) -> datetime | None:
    """When a JWT says that it expires, unverified: good for keeping an answer shorter, and for nothing else."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
        return datetime.fromtimestamp(claims.exp, UTC) if claims.exp else None
    except (ValueError, OverflowError, OSError):
        return None
