"""EnvoyFilters change what real proxies do: on the side, for the workload and at the place that they name."""

from __future__ import annotations

from meltemi.testing.mesh import eventually

from .test_broken_input import told
from .town import Policies, Town

MANAGER = "envoy.filters.network.http_connection_manager"
GREETING = f"""
workloadSelector: {{labels: {{app: books, version: v2}}}}
configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_INBOUND
      listener:
        portNumber: 8080
        filterChain: {{filter: {{name: {MANAGER}, subFilter: {{name: envoy.filters.http.router}}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: greeting
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          default_source_code:
            inline_string: |
              function envoy_on_response(handle)
                handle:headers():add("x-greeting", "SCRIPT")
              end
"""
ROUTES = """
configPatches:
  - applyTo: HTTP_ROUTE
    match:
      context: SIDECAR_OUTBOUND
      routeConfiguration:
        portNumber: 8080
        vhost: {name: "books.town.svc.cluster.local:8080", route: {action: ROUTE}}
    patch:
      operation: MERGE
      value: {response_headers_to_add: [{header: {key: x-merged, value: "yes"}}]}
  - applyTo: HTTP_ROUTE
    match:
      context: SIDECAR_OUTBOUND
      routeConfiguration: {name: "8080", vhost: {name: "books.town.svc.cluster.local:8080"}}
    patch:
      operation: INSERT_FIRST
      value: {name: teapot, match: {path: /teapot}, direct_response: {status: 418}}
"""
LISTENER = f"""
workloadSelector: {{labels: {{app: caller}}}}
configPatches:
  - applyTo: LISTENER
    match: {{context: SIDECAR_OUTBOUND}}
    patch:
      operation: ADD
      value:
        name: own
        address: {{socket_address: {{address: 127.0.0.1, port_value: 19099}}}}
        filter_chains:
          - filters:
              - name: {MANAGER}
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                  stat_prefix: own
                  route_config:
                    virtual_hosts:
                      - name: all
                        domains: ["*"]
                        routes: [{{match: {{prefix: /}}, direct_response: {{status: 203}}}}]
                  http_filters:
                    - name: envoy.filters.http.router
                      typed_config:
                        "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"""


def greetings(town: Town) -> dict[str, set[str]]:
    """What each version of the books says in the header of the script; connections that are drained still say the old."""
    found: dict[str, set[str]] = {}
    for reply in town.caller.many("http://books:8080/", count=20):
        assert reply.status == 200
        found.setdefault(reply.echo.version, set()).add(reply.headers.get("x-greeting", ""))
    return found


def settled(town: Town, word: str) -> bool:
    """Waits until v2 says nothing but the word, and v1 nothing at all."""
    wanted = {"v1": {""}, "v2": {word}}
    return eventually(lambda: greetings(town), lambda found: found == wanted, seconds=30) == wanted


def test_a_script_runs_for_one_workload_and_one_that_envoy_refuses_changes_nothing(
    policies: Policies, town: Town
) -> None:
    ref = policies.write("EnvoyFilter", "greeting", GREETING.replace("SCRIPT", "hello"))
    assert settled(town, "hello")

    policies.write("EnvoyFilter", "greeting", GREETING.replace('"SCRIPT")', "this is not Lua"), wait=False)
    refused = told(town, ref, "False")
    assert refused["reason"] == "RejectedByProxy"
    assert "spec.configPatches[0].patch" in refused["message"]
    assert settled(town, "hello")

    policies.write("EnvoyFilter", "greeting", GREETING.replace("SCRIPT", "mended"))
    told(town, ref, "True")
    assert settled(town, "mended")


def test_routes_are_merged_into_and_put_in_by_the_names_that_istio_gives_them(policies: Policies, town: Town) -> None:
    policies.write("EnvoyFilter", "routes", ROUTES)
    assert town.caller.get("http://books:8080/").headers["x-merged"] == "yes"
    assert town.caller.get("http://books:8080/teapot").status == 418
    assert town.caller.get("http://books:8081/").status == 200


def test_a_listener_is_added_to_one_workload(policies: Policies, town: Town) -> None:
    policies.write("EnvoyFilter", "own", LISTENER)
    replies = eventually(
        lambda: town.caller.get("http://127.0.0.1:19099/"), lambda each: each.status == 203, seconds=20
    )
    assert replies.status == 203
    assert town.rival.get("http://127.0.0.1:19099/").status != 203


def test_a_patch_that_nothing_fits_is_told_until_something_does(policies: Policies, town: Town) -> None:
    spec = """
configPatches:
  - applyTo: CLUSTER
    match: {cluster: {service: HOST}}
    patch: {operation: MERGE, value: {connect_timeout: 9s}}
"""
    ref = policies.write("EnvoyFilter", "idle", spec.replace("HOST", "nobody.example"))
    assert [problem.code for problem in town.mesh.problems(ref)] == ["NothingToPatch"]
    policies.write("EnvoyFilter", "idle", spec.replace("HOST", "books.town.svc.cluster.local"))
    assert town.mesh.problems(ref) == []
