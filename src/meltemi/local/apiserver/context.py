"""What the parts of the HTTP layer share: the verbs, the watches, tokens, and who is asking."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from meltemi.local.apiserver import refusals
from meltemi.local.apiserver.catalogue import Catalogue, Kind
from meltemi.local.apiserver.identity import ISSUER, Refused, Tokens, User, same_secret
from meltemi.local.apiserver.openapi import OpenApi
from meltemi.local.apiserver.podaccess import PodAccess
from meltemi.local.apiserver.verbs import Verbs
from meltemi.local.apiserver.watching import Watches

ADMIN = User("meltemi:admin", groups=("system:masters", "system:authenticated"))


class Context(msgspec.Struct, frozen=True):
    """The parts of a running API server."""

    verbs: Verbs
    watches: Watches
    tokens: Tokens
    admin_token: str
    openapi: OpenApi
    now: Callable[[], datetime]
    admin_address: Callable[[], str | None]
    """The control plane's admin HTTP server as `host:port`, while there is one."""
    pods: Callable[[], PodAccess | None]
    """The pod runner, once there is one."""

    @property
    def catalogue(self) -> Catalogue:
        """The served kinds."""
        return self.verbs.catalogue

    def admit(self, authorization: str) -> User:
        """Who makes a request. Raises Unauthorized, and Forbidden for all but the administrator.

        Workloads carry tokens of this server for the mesh, not for this API: nothing here is theirs to see.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise refusals.unauthorized()
        if same_secret(token.strip(), self.admin_token):
            return ADMIN
        try:
            user, _ = self.tokens.judge(token.strip(), [ISSUER])
        except Refused:
            raise refusals.unauthorized() from None
        raise refusals.forbidden(f'User "{user.name}" may not use the API of this machine')

    def kind(self, kind_id: str) -> Kind:
        """A kind by its id, which must be served."""
        kind = self.catalogue.by_id(kind_id)
        if kind is None:
            raise refusals.no_such_path()
        return kind
