"""What happens to one request: the virtual host that has its name, the first route that fits, and what that does.

The model says what everything means, so it is enough to ask it; what is told here and what the proxies do come from the
same values. Tests send the same requests through a real Envoy and compare.

    explanation = explain(hosts, client, Request(authority="reviews:9080", path="/reviews/7"))
    explanation.outcome, explanation.source, [str(step) for step in explanation.why]

What chance decides is left open: shares and faults are told with their percentages.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from meltemi.explain import matching, rewriting
from meltemi.explain.names import find
from meltemi.explain.requests import Headers, Request
from meltemi.model.clients import Audience
from meltemi.model.routes import (
    Action,
    Fault,
    Forward,
    HeaderChange,
    Mirror,
    Passthrough,
    Redirect,
    Respond,
    Route,
    Source,
    Target,
    VirtualHost,
    WeightedTarget,
)

_CREATED = 201
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Share(msgspec.Struct, frozen=True):
    """One of the places that a request may go to, how likely (0..100), and the request and answer as they are then.

    Whether the client knows any endpoint there is another question: it may not see the service, or none may be ready.
    """

    target: Target
    percent: float
    request: Request
    response: tuple[HeaderChange, ...]


class Forwarded(msgspec.Struct, frozen=True):
    """The request goes to one of several places, and copies of it to the mirrors."""

    shares: tuple[Share, ...]
    mirrors: tuple[Mirror, ...] = ()


class Redirected(msgspec.Struct, frozen=True):
    """The client is told to ask elsewhere."""

    status: int
    location: str


class Answered(msgspec.Struct, frozen=True):
    """The proxy answers by itself. `location` is what Envoy adds by itself to answers that lead on: the same URL."""

    status: int
    body: bytes = b""
    location: str = ""


class PassedThrough(msgspec.Struct, frozen=True):
    """The request goes wherever the client was going."""


Outcome = Forwarded | Redirected | Answered | PassedThrough


class Step(msgspec.Struct, frozen=True):
    """A route that was tried. `objection` says why it does not fit; it is empty for the one that does."""

    route: str
    source: Source | None
    objection: str = ""

    def __str__(self) -> str:
        where = f"{self.source.ref} {self.source.path}".rstrip() if self.source else self.route
        return f"{where}: {self.objection or 'fits'}"


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to a request, and why. `outcome` None: no virtual host has its name, or no route of it fits.

    `host` and `domain` are the virtual host and the name of it by which it was found. `response` are changes of the
    answer's headers, in order; those of a share come before them.
    """

    host: str = ""
    domain: str = ""
    route: Route | None = None
    outcome: Outcome | None = None
    response: tuple[HeaderChange, ...] = ()
    why: tuple[Step, ...] = ()

    @property
    def source(self) -> Source | None:
        """The part of the user's object that decided."""
        return None if self.route is None else self.route.source

    @property
    def fault(self) -> Fault | None:
        """The fault that may come first, by chance."""
        return None if self.route is None else self.route.fault


def explain(hosts: Iterable[VirtualHost], client: Audience, request: Request) -> Explanation:
    """What a proxy of that class of clients does with a request, given the virtual hosts of the port it came to."""
    found = find(hosts, request.authority)
    if found is None:
        return Explanation()
    host, domain = found
    if host.require_tls and request.scheme != "https":
        redirect = rewriting.location(Redirect(scheme="https"), None, request)
        return Explanation(host=host.name, domain=domain, outcome=Redirected(301, redirect))
    steps: list[Step] = []
    for route in host.routes:
        objection = _objection(route, client, request)
        steps.append(Step(route.name, route.source, objection))
        if not objection:
            return Explanation(
                host=host.name,
                domain=domain,
                route=route,
                outcome=_outcome(route, route.action, request),
                response=(route.response_headers,),
                why=tuple(steps),
            )
    return Explanation(host=host.name, domain=domain, why=tuple(steps))


def answer_headers(headers: Headers, changes: Iterable[HeaderChange]) -> Headers:
    """The headers of an answer after changes, one after the other."""
    for change in changes:
        headers = rewriting.changed(headers, change)
    return headers


def _objection(route: Route, client: Audience, request: Request) -> str:
    if not route.clients.includes(client):
        return "it is for other clients"
    return matching.objection(route.match, request)


def _outcome(route: Route, action: Action, request: Request) -> Outcome:
    match action:
        case Forward():
            return Forwarded(tuple(_shares(route, action, request)), action.mirrors)
        case Redirect():
            status = action.status if action.status in _REDIRECTS else 301
            return Redirected(status, rewriting.location(action, route.match.path, request))
        case Respond():
            leads_on = action.status == _CREATED or 300 <= action.status < 400
            location = rewriting.location(Redirect(), None, request) if leads_on else ""
            return Answered(action.status, action.body, location)
        case Passthrough():
            return PassedThrough()


def _shares(route: Route, action: Forward, request: Request) -> Iterable[Share]:
    """Where the request may go. One target alone gets all, whatever its weight."""
    wanted = action.targets if len(action.targets) == 1 else [each for each in action.targets if each.weight > 0]
    total = sum(max(each.weight, 1) for each in wanted)
    for each in wanted:
        percent = 100.0 * max(each.weight, 1) / total
        response = (each.response_headers, route.response_headers)
        yield Share(each.target, percent, _passed_on(route, action, each, request), response)


def _passed_on(route: Route, action: Forward, target: WeightedTarget, request: Request) -> Request:
    """The request as the target gets it: the target's own changes come first, then the route's."""
    headers = rewriting.changed(request.headers, target.request_headers)
    authority = action.authority or rewriting.authority(route.request_headers)
    path = request.path
    if action.path is not None:
        path = rewriting.new_path(action.path, route.match.path, path)
    return msgspec.structs.replace(
        request,
        headers=rewriting.changed(headers, route.request_headers),
        authority=authority or rewriting.authority(target.request_headers) or request.authority,
        path=path,
    )
