"""The names under which a virtual host answers, each of them claimed by one host only.

Envoy refuses a route configuration in which a domain stands twice, and virtual hosts reach it one by one, so each must
know by itself what it may claim. A host that somebody wrote down goes before names that are only derived (short names,
addresses, the wildcard of a headless service), and of several services with one address the oldest has it. Whether a
client sees the others is left aside: a claim must not depend on who looks.
"""

from __future__ import annotations

import msgspec

from meltemi.base.hosts import is_address, is_wildcard
from meltemi.base.ordering import seniority
from meltemi.envoy import names
from meltemi.envoy.binding import own_addresses, shares_http
from meltemi.flow import View
from meltemi.model.services import Service

Services = View[tuple[str, str], Service]


class Domains(msgspec.Struct, frozen=True):
    """The names for all clients, and the one for clients of the service's own namespace (or none)."""

    common: tuple[str, ...]
    own: str = ""


def of_service(service: Service, port: int, services: Services, domain: str) -> Domains:
    """What a service may be called by on a port whose HTTP is shared. `services` has the indexes host and address."""

    def free(name: str) -> bool:
        return not any(_takes_part(other, port) for other in services.by("host", name))

    found = [service.host]
    if not is_wildcard(service.host) and not is_address(service.host):
        found.append(f"{service.host}.")
    found += [name for name in names.short_names(service, domain) if free(name)]
    if service.headless and not is_wildcard(service.host) and free(f"*.{service.host}"):
        found.append(f"*.{service.host}")
    for address in own_addresses(service):
        if address != service.host and free(address) and _has_address(service, port, services, address):
            found.append(names.authority(address))
    bare = names.bare_name(service, domain)
    return Domains(tuple(dict.fromkeys(found)), bare if bare and free(bare) else "")


def _takes_part(service: Service, port: int) -> bool:
    found = service.port(port)
    return found is not None and shares_http(service, found)


def _has_address(service: Service, port: int, services: Services, address: str) -> bool:
    """Whether the address is this host's: of the services that have it, the oldest one's."""
    claims = [other for other in services.by("address", address) if _takes_part(other, port)]
    return not claims or min(claims, key=seniority).host == service.host


def derived_by(host: str, port: int, services: Services, domain: str) -> Service | None:
    """The service that answers to this name as a short name, address or wildcard of its own, if there is one.

    For hosts that no service has: they must not claim the name as well.
    """
    candidates = [*services.by("address", host), *services.by("host", f"{host}.{domain}")]
    candidates += services.by("host", f"{host}.svc.{domain}")
    candidates += [service for service in services.by("host", host.removeprefix("*.")) if service.headless]
    return next((service for service in candidates if _takes_part(service, port)), None)
