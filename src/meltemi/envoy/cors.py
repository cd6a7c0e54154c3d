"""Cross-origin rules. The filter stands in every chain, disabled, and a route that has rules enables it."""

from __future__ import annotations

from meltemi.envoy import matches
from meltemi.envoy.values import boolean, runtime_fraction
from meltemi.model.routes import Cors
from meltemi.protos.envoy.extensions.filters.http.cors.v3.cors_pb2 import CorsPolicy

NAME = "envoy.filters.http.cors"


def per_route(cors: Cors) -> CorsPolicy:
    """The rules of one route (Istio `CorsPolicy`)."""
    return CorsPolicy(
        allow_origin_string_match=[matches.text(origin) for origin in cors.origins],
        allow_methods=",".join(cors.methods),
        allow_headers=",".join(cors.headers),
        expose_headers=",".join(cors.expose),
        max_age="" if cors.max_age is None else str(int(cors.max_age.total_seconds())),
        allow_credentials=None if cors.credentials is None else boolean(cors.credentials),
        filter_enabled=runtime_fraction(100),
        forward_not_matching_preflights=boolean(cors.forward_unmatched_preflights),
    )
