"""AuthorizationPolicies: which hold for a workload, and what their rules say."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.model.security import Attribute, Condition, ValueMatch, Verdict


def policy(spec: str, name: str = "p", namespace: str = "shop", created: str = "1", more: str = "") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-0{created}T00:00:00Z"{more}}}
spec: {spec}
---
"""


@pytest.fixture
def workload(resolved: Any) -> Any:
    resolved.connect("a-1", labels={"app": "a"})
    return resolved


def policies(mesh: Any) -> Any:
    return mesh.only("inbound").authorization.policies


def rule(mesh: Any) -> Any:
    (found,) = policies(mesh)
    (made,) = found.rules
    return made


def test_policies_of_the_namespace_and_of_the_root_hold_the_oldest_first(workload: Any) -> None:
    workload.apply(
        policy("{}", "younger", created="3")
        + policy("{action: DENY}", "root", "istio-system", "2")
        + policy("{}", "older")
        + policy("{}", "elsewhere", "bank")
    )
    assert [each.ref.name for each in policies(workload)] == ["older", "root", "younger"]
    assert policies(workload)[1].verdict is Verdict.DENY


def test_a_selector_chooses_workloads(workload: Any) -> None:
    workload.apply(
        policy("{selector: {matchLabels: {app: a}}}", "mine") + policy("{selector: {matchLabels: {app: b}}}", "others")
    )
    assert [each.ref.name for each in policies(workload)] == ["mine"]


def test_no_rules_fit_nothing_and_an_empty_rule_fits_everything(workload: Any) -> None:
    workload.apply(policy("{}"))
    assert policies(workload)[0].rules == ()
    workload.apply(policy("{rules: [{}]}"))
    made = rule(workload)
    assert (made.name, made.sources, made.operations, made.when) == ("ns[shop]-policy[p]-rule[0]", (), (), ())


def test_sources_are_alternatives_and_what_each_says_must_all_hold(workload: Any) -> None:
    workload.apply(
        policy("""
  rules:
  - from:
    - source: {principals: ["example.org/ns/shop/sa/web"], notNamespaces: [bank]}
    - source: {ipBlocks: [10.0.0.0/8], notRemoteIpBlocks: [10.1.0.0/16]}
""")
    )
    first, second = rule(workload).sources
    assert first == (
        Condition(Attribute.PRINCIPAL, (ValueMatch("example.org/ns/shop/sa/web"),)),
        Condition(Attribute.NAMESPACE, (), (ValueMatch("bank"),)),
    )
    assert second == (
        Condition(Attribute.PEER_ADDRESS, (ValueMatch("10.0.0.0/8", "cidr"),)),
        Condition(Attribute.REMOTE_ADDRESS, (), (ValueMatch("10.1.0.0/16", "cidr"),)),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", ValueMatch("", "present")),
        ("/a*", ValueMatch("/a", "prefix")),
        ("*/a", ValueMatch("/a", "suffix")),
        ("/a", ValueMatch("/a")),
        ("/a/{*}/b", ValueMatch("/a/{*}/b", "template")),
    ],
)
def test_paths_may_be_open_at_one_end_or_be_templates(workload: Any, text: str, expected: ValueMatch) -> None:
    workload.apply(policy(f'{{rules: [{{to: [{{operation: {{paths: ["{text}"]}}}}]}}]}}'))
    assert rule(workload).operations == ((Condition(Attribute.PATH, (expected,)),),)


def test_operations(workload: Any) -> None:
    workload.apply(policy("{rules: [{to: [{operation: {hosts: [A.org], notMethods: [PUT], ports: ['80']}}]}]}"))
    assert rule(workload).operations == (
        (
            Condition(Attribute.HOST, (ValueMatch("A.org", ignore_case=True),)),
            Condition(Attribute.DESTINATION_PORT, (ValueMatch("80", "port"),)),
            Condition(Attribute.METHOD, (), (ValueMatch("PUT"),)),
        ),
    )


def test_conditions(workload: Any) -> None:
    workload.apply(
        policy("""
  rules:
  - when:
    - {key: "request.headers[x-user]", values: [ada]}
    - {key: "request.auth.claims[a][b]", notValues: ["*"]}
    - {key: destination.port, values: ["80"]}
    - {key: source.serviceAccount, values: [web]}
""")
    )
    assert rule(workload).when == (
        Condition(Attribute.HEADER, (ValueMatch("ada"),), key=("x-user",)),
        Condition(Attribute.CLAIM, (), (ValueMatch("", "present"),), key=("a", "b")),
        Condition(Attribute.DESTINATION_PORT, (ValueMatch("80", "port"),)),
        Condition(Attribute.SERVICE_ACCOUNT, (ValueMatch("shop/web"),)),
    )


def test_an_unknown_key_drops_the_rule_that_allows_and_only_itself_where_it_denies(workload: Any) -> None:
    body = "{{action: {0}, rules: [{{when: [{{key: source.moon, values: [full]}}, {{key: source.ip, values: [10.0.0.1]}}]}}]}}"
    workload.apply(policy(body.format("ALLOW")))
    assert policies(workload)[0].rules == ()
    assert workload.problems()["UnknownKey"].path == "spec.rules[0].when[0].key"
    workload.apply(policy(body.format("DENY")))
    assert [each.attribute for each in rule(workload).when] == [Attribute.PEER_ADDRESS]


def test_principals_are_known_in_all_aliases_of_the_trust_domain(workload: Any) -> None:
    workload.apply("{trustDomain: new.example, trustDomainAliases: [old.example]}")
    workload.apply(policy("{rules: [{from: [{source: {principals: [old.example/ns/shop/sa/web, other/ns/a/sa/b]}}]}]}"))
    (condition,) = rule(workload).sources[0]
    assert [each.value for each in condition.values] == [
        "new.example/ns/shop/sa/web",
        "old.example/ns/shop/sa/web",
        "other/ns/a/sa/b",
    ]


def test_a_dry_run_is_marked(workload: Any) -> None:
    workload.apply(policy("{}", more=', annotations: {istio.io/dry-run: "true"}'))
    assert policies(workload)[0].dry_run


def test_a_policy_attached_to_something_else_does_not_hold_for_sidecars(workload: Any) -> None:
    workload.apply(policy("{targetRefs: [{kind: Gateway, name: g, group: gateway.networking.k8s.io}]}"))
    assert policies(workload) == ()
