"""Service account tokens: issued for an audience and a time, bound to a pod, and judged when someone presents them.

A token is a JWT (ES256) with the claims that Kubernetes uses; it is good while its time runs *and* the service
account and pod it names still exist with the same uid, so that deleting a pod ends its identity at once.
Source: Kubernetes TokenRequest and TokenReview (`authentication.k8s.io/v1`), RFC 7519.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from meltemi.kube.resources import Key, Obj
from meltemi.local.apiserver import refusals
from meltemi.local.apiserver.catalogue import Kind
from meltemi.local.apiserver.certificate import write_secret
from meltemi.local.apiserver.store import Store

ISSUER = "https://kubernetes.default.svc.cluster.local"
_ALGORITHM = "ES256"
_SHORTEST, _LONGEST = 600, 366 * 24 * 3600


class User(msgspec.Struct, frozen=True):
    """Who makes a request: name, uid, groups, and what a token says beside (Kubernetes `UserInfo`)."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return "system:masters" in self.groups

    def as_object(self) -> Obj:
        """The `UserInfo` of a TokenReview."""
        found: Obj = {"username": self.name, "uid": self.uid, "groups": list(self.groups)}
        if self.extra:
            found["extra"] = {f"authentication.kubernetes.io/{name}": [value] for name, value in self.extra}
        return found


class Refused(Exception):
    """A token is not good; the message says why."""


class Tokens:
    """Issues and judges tokens with a key of its own, kept in a file (0600)."""

    def __init__(self, key_file: Path, store: Store, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._key = _load_or_make(key_file)
        self._store = store
        self._now = now

    def jwks(self) -> Obj:
        """The public key set (RFC 7517), as served under `/openid/v1/jwks`."""
        public: Any = self._key.as_dict(private=False)
        return {"keys": [{**public, "kid": self._key.thumbprint(), "use": "sig", "alg": _ALGORITHM}]}

    def issue(self, kind: Kind, account: Key, request: Obj) -> Obj:
        """Answers a TokenRequest for a service account. Raises NotFound, BadRequest, Invalid."""
        spec = request.get("spec") or {}
        item = self._store.get(kind.id, account)
        if item is None:
            raise refusals.not_found(kind, account.name)
        seconds = spec.get("expirationSeconds", 3600)
        if not isinstance(seconds, int) or not _SHORTEST <= seconds <= _LONGEST:
            raise refusals.bad_request(f"spec.expirationSeconds: {seconds} is not between {_SHORTEST} and {_LONGEST}")
        audiences = [str(audience) for audience in spec.get("audiences") or ()] or [ISSUER]
        issued = int(self._now().timestamp())
        details: Obj = {
            "namespace": account.namespace,
            "serviceaccount": {"name": account.name, "uid": item.obj["metadata"]["uid"]},
        }
        if bound := spec.get("boundObjectRef"):
            details["pod"] = self._bound_pod(account, bound)
        claims = {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{account.namespace}:{account.name}",
            "aud": audiences,
            "iat": issued,
            "nbf": issued,
            "exp": issued + seconds,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": details,
        }
        token = jwt.encode({"alg": _ALGORITHM, "kid": self._key.thumbprint()}, claims, self._key)
        expires = datetime.fromtimestamp(issued + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": account.name, "namespace": account.namespace},
            "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": expires},
        }

    def review(self, request: Obj) -> Obj:
        """Answers a TokenReview."""
        spec = request.get("spec") or {}
        wanted = [str(audience) for audience in spec.get("audiences") or ()] or [ISSUER]
        status: Obj
        try:
            user, audiences = self.judge(str(spec.get("token") or ""), wanted)
            status = {"authenticated": True, "user": user.as_object(), "audiences": list(audiences)}
        except Refused as error:
            status = {"authenticated": False, "user": {}, "error": str(error)}
        shown = {"audiences": wanted}
        return {
            "kind": "TokenReview",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {},
            "spec": shown,
            "status": status,
        }

    def judge(self, token: str, audiences: Sequence[str]) -> tuple[User, tuple[str, ...]]:
        """Whose token it is, and for which of `audiences` it is good. Raises Refused."""
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError) as error:
            raise Refused("the token is not one of this API server's") from error
        moment = self._now().timestamp()
        if claims.get("iss") != ISSUER:
            raise Refused("the token was issued by someone else")
        if moment >= claims.get("exp", 0):
            raise Refused("the token has expired")
        if moment < claims.get("nbf", 0) - 60:
            raise Refused("the token is not valid yet")
        common = tuple(audience for audience in claims.get("aud") or () if audience in audiences)
        if not common:
            raise Refused(f"token audiences {claims.get('aud')} is invalid for the target audiences {list(audiences)}")
        return self._user(claims["kubernetes.io"], claims.get("jti", "")), common

    def _user(self, details: Obj, token_id: str) -> User:
        namespace, account, pod = details["namespace"], details["serviceaccount"], details.get("pod")
        if not self._exists("serviceaccounts", namespace, account):
            raise Refused(f"the service account {namespace}/{account['name']} has been deleted")
        extra = [("credential-id", f"JTI={token_id}")]
        if pod is not None:
            if not self._exists("pods", namespace, pod):
                raise Refused(f"the pod {namespace}/{pod['name']} has been deleted")
            extra += [("pod-name", pod["name"]), ("pod-uid", pod["uid"])]
        return User(
            f"system:serviceaccount:{namespace}:{account['name']}",
            account["uid"],
            ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"),
            tuple(extra),
        )

    def _exists(self, kind: str, namespace: str, reference: Obj) -> bool:
        item = self._store.get(kind, Key(namespace, reference["name"]))
        return item is not None and item.obj["metadata"].get("uid") == reference.get("uid")

    def _bound_pod(self, account: Key, bound: Obj) -> Obj:
        """The pod that a token is to be bound to; it must exist and run as the service account."""
        name, uid = str(bound.get("name") or ""), bound.get("uid")
        if bound.get("kind") != "Pod":
            raise refusals.bad_request(f"a token cannot be bound to a {bound.get('kind')}: only to a Pod")
        item = self._store.get("pods", Key(account.namespace, name))
        if item is None or (uid and item.obj["metadata"].get("uid") != uid):
            raise refusals.bad_request(
                f"the pod {account.namespace}/{name} that the token is to be bound to does not exist"
            )
        if (item.obj.get("spec") or {}).get("serviceAccountName") != account.name:
            raise refusals.bad_request(f"the pod {account.namespace}/{name} does not run as {account.name}")
        return {"name": name, "uid": item.obj["metadata"]["uid"]}


def same_secret(given: str, expected: str) -> bool:
    """Whether two secrets are equal, told in constant time."""
    return hmac.compare_digest(given.encode(), expected.encode())


def _load_or_make(path: Path) -> ECKey:
    if path.exists():
        return ECKey.import_key(path.read_bytes())
    key = ECKey.generate_key("P-256")
    write_secret(path, key.as_pem(private=True))
    return key
