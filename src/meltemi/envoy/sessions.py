"""Sessions that stay where they began: a cookie or header of the answer names the endpoint, and the client shows it again.

The filter stands in every chain on the way out, disabled. A route (or one of its weighted targets) that leads to a service
with sessions enables it. The named endpoint is kept to while it is drained, too, and any other is taken when it is gone.
"""

from __future__ import annotations

from meltemi.envoy.values import extension
from meltemi.model.services import Session
from meltemi.protos.envoy.config.cluster.v3.cluster_pb2 import Cluster
from meltemi.protos.envoy.config.core.v3.health_check_pb2 import HealthStatus
from meltemi.protos.envoy.extensions.filters.http.stateful_session.v3.stateful_session_pb2 import (
    StatefulSession,
    StatefulSessionPerRoute,
)
from meltemi.protos.envoy.extensions.http.stateful_session.cookie.v3.cookie_pb2 import CookieBasedSessionState
from meltemi.protos.envoy.extensions.http.stateful_session.header.v3.header_pb2 import HeaderBasedSessionState
from meltemi.protos.envoy.type.http.v3.cookie_pb2 import Cookie

NAME = "envoy.filters.http.stateful_session"


def per_route(session: Session) -> StatefulSessionPerRoute:
    """The sessions of one route or weighted target. A cookie is the browser's to forget: it has no lifetime."""
    if session.header:
        state = extension("envoy.http.stateful_session.header", HeaderBasedSessionState(name=session.header))
    else:
        cookie = Cookie(name=session.cookie, path=session.path)
        state = extension("envoy.http.stateful_session.cookie", CookieBasedSessionState(cookie=cookie))
    return StatefulSessionPerRoute(stateful_session=StatefulSession(session_state=state))


def keep_draining(message: Cluster) -> None:
    """Let sessions go on with endpoints that take no new ones."""
    message.common_lb_config.override_host_status.statuses.extend(
        [HealthStatus.UNKNOWN, HealthStatus.HEALTHY, HealthStatus.DRAINING, HealthStatus.DEGRADED]
    )
