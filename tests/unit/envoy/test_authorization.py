from __future__ import annotations

import pytest

from meltemi.base.refs import Ref
from meltemi.envoy import authorization, conditions
from meltemi.model.security import Attribute, Authorization, Condition, Policy, Rule, ValueMatch, Verdict
from meltemi.protos import to_dict
from meltemi.protos.envoy.config.rbac.v3.rbac_pb2 import RBAC
from meltemi.protos.envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac
from meltemi.protos.envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac

REF = Ref("AuthorizationPolicy", "shop", "only-cart")
NAME = "ns[shop]-policy[only-cart]-rule[0]"

CART = Condition(Attribute.PRINCIPAL, (ValueMatch("cluster.local/ns/shop/sa/cart"),))
GET = Condition(Attribute.METHOD, (ValueMatch("GET"),))
PORT = Condition(Attribute.DESTINATION_PORT, (ValueMatch("3306", "port"),))


def policy(verdict: Verdict, *rules: Rule, dry_run: bool = False, name: str = "only-cart") -> Policy:
    return Policy(ref=Ref("AuthorizationPolicy", "shop", name), verdict=verdict, rules=rules, dry_run=dry_run)


def of(*policies: Policy) -> Authorization:
    return Authorization(policies)


def rule(*sources: Condition, to: tuple[Condition, ...] = (), when: tuple[Condition, ...] = ()) -> Rule:
    return Rule(NAME, (sources,) if sources else (), (to,) if to else (), when)


def requests(found: Authorization) -> list[http_rbac.RBAC]:
    """What routes bring to the two filters, in the order in which these stand."""
    brought = authorization.for_routes(found)
    names = [each.name for each in authorization.http_filters()]
    assert set(brought) <= set(names)
    return [http_rbac.RBACPerRoute.FromString(brought[name].value).rbac for name in names if name in brought]


def connections(found: Authorization) -> list[network_rbac.RBAC]:
    return [network_rbac.RBAC.FromString(each.typed_config.value) for each in authorization.network(found)]


def test_without_policies_nothing_is_judged() -> None:
    assert authorization.for_routes(Authorization()) == {}
    assert authorization.network(Authorization()) == []


def test_the_filters_for_requests_are_off_until_routes_bring_rules() -> None:
    found = authorization.http_filters()
    assert [each.name for each in found] == ["envoy.filters.http.rbac", "envoy.filters.http.rbac.allow"]
    assert all(each.disabled for each in found)


def test_denying_comes_before_allowing_whatever_the_order_of_the_policies() -> None:
    both = of(policy(Verdict.ALLOW, rule(CART)), policy(Verdict.DENY, rule(CART), name="not-cart"))
    assert [each.rules.action for each in requests(both)] == [RBAC.DENY, RBAC.ALLOW]
    assert [each.rules.action for each in connections(both)] == [RBAC.DENY, RBAC.ALLOW]


def test_a_rule_says_who_and_what() -> None:
    [config] = requests(of(policy(Verdict.ALLOW, rule(CART, to=(GET,)))))
    assert to_dict(config) == {
        "track_per_rule_stats": True,
        "shadow_rules_stat_prefix": "istio_dry_run_allow_",
        "rules": {
            "policies": {
                NAME: {
                    "principals": [
                        {"authenticated": {"principal_name": {"exact": "spiffe://cluster.local/ns/shop/sa/cart"}}}
                    ],
                    "permissions": [{"header": {"name": ":method", "string_match": {"exact": "GET"}}}],
                }
            }
        },
    }


def test_allowing_nothing_refuses_everything_and_denying_nothing_refuses_nothing() -> None:
    [config] = requests(of(policy(Verdict.ALLOW)))
    assert config.HasField("rules")
    assert not config.rules.policies
    assert requests(of(policy(Verdict.DENY))) == []


def test_a_rule_that_says_nothing_fits_everything() -> None:
    [config] = requests(of(policy(Verdict.DENY, rule())))
    [made] = config.rules.policies.values()
    assert made.principals[0].any
    assert made.permissions[0].any


def test_sources_and_operations_are_alternatives_and_what_stands_in_one_must_all_hold() -> None:
    namespace = Condition(Attribute.NAMESPACE, (ValueMatch("shop"),))
    several = Rule(NAME, ((CART, namespace), (namespace,)), ((GET,), (PORT,)))
    [config] = requests(of(policy(Verdict.ALLOW, several)))
    [made] = config.rules.policies.values()
    assert len(made.principals) == 2
    assert len(made.principals[0].and_ids.ids) == 2
    assert len(made.permissions) == 2


def test_when_conditions_hold_for_every_source_and_operation() -> None:
    when = (Condition(Attribute.HEADER, (ValueMatch("v1"),), key=("x-version",)), PORT)
    several = Rule(NAME, ((CART,), (CART,)), ((GET,), (GET,)), when)
    [config] = requests(of(policy(Verdict.ALLOW, several)))
    [made] = config.rules.policies.values()
    assert [[one.WhichOneof("identifier") for one in each.and_ids.ids] for each in made.principals] == [
        ["authenticated", "header"]
    ] * 2
    assert [[one.WhichOneof("rule") for one in each.and_rules.rules] for each in made.permissions] == [
        ["header", "destination_port"]
    ] * 2


def test_what_must_not_be_is_negated_as_a_whole() -> None:
    neither = Condition(Attribute.NAMESPACE, (), (ValueMatch("shop"), ValueMatch("lab")))
    nowhere = Condition(Attribute.PATH, (), (ValueMatch("/admin", "prefix"),))
    [config] = requests(of(policy(Verdict.ALLOW, rule(neither, to=(nowhere,)))))
    [made] = config.rules.policies.values()
    assert len(made.principals[0].not_id.or_ids.ids) == 2
    assert made.permissions[0].not_rule.url_path.path.prefix == "/admin"


def test_a_dry_run_only_shadows() -> None:
    both = of(policy(Verdict.DENY, rule(CART), dry_run=True), policy(Verdict.ALLOW, rule(CART), dry_run=True))
    deny, allow = requests(both)
    assert not deny.HasField("rules")
    assert deny.shadow_rules.action == RBAC.DENY
    assert deny.shadow_rules_stat_prefix == "istio_dry_run_deny_"
    assert allow.shadow_rules_stat_prefix == "istio_dry_run_allow_"
    assert not allow.HasField("rules")


def test_on_connections_an_allow_rule_about_requests_allows_nothing() -> None:
    [config] = connections(of(policy(Verdict.ALLOW, rule(CART, to=(GET,)))))
    assert config.HasField("rules")
    assert not config.rules.policies
    assert config.stat_prefix == "tcp."


def test_on_connections_a_deny_rule_about_requests_denies_without_that() -> None:
    [config] = connections(of(policy(Verdict.DENY, rule(CART, to=(GET, PORT)))))
    [made] = config.rules.policies.values()
    assert made.permissions[0].destination_port == 3306
    assert made.principals[0].HasField("authenticated")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ValueMatch("td/ns/a/sa/b"), {"exact": "spiffe://td/ns/a/sa/b"}),
        (ValueMatch("spiffe://td/ns/a/sa/b"), {"exact": "spiffe://td/ns/a/sa/b"}),
        (ValueMatch("td/ns/a/", "prefix"), {"prefix": "spiffe://td/ns/a/"}),
        (ValueMatch("/sa/b", "suffix"), {"suffix": "/sa/b"}),
        (ValueMatch("", "present"), {"safe_regex": {"regex": "spiffe://.+"}}),
    ],
)
def test_principals_are_identities_without_the_scheme(value: ValueMatch, expected: object) -> None:
    made = conditions.principal(Condition(Attribute.PRINCIPAL, (value,)), value)
    assert to_dict(made) == {"authenticated": {"principal_name": expected}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ValueMatch("shop"), "spiffe://[^/]+/ns/shop/.+"),
        (ValueMatch("a.b+c"), r"spiffe://[^/]+/ns/a\.b\+c/.+"),
        (ValueMatch("dev-", "prefix"), "spiffe://[^/]+/ns/dev-[^/]*/.+"),
        (ValueMatch("-dev", "suffix"), "spiffe://[^/]+/ns/[^/]*-dev/.+"),
        (ValueMatch("", "present"), "spiffe://[^/]+/ns/[^/]+/.+"),
    ],
)
def test_namespaces_are_whole_segments_of_the_identity_and_never_expressions(value: ValueMatch, expected: str) -> None:
    made = conditions.principal(Condition(Attribute.NAMESPACE, (value,)), value)
    assert made.authenticated.principal_name.safe_regex.regex == expected


def test_a_service_account_is_that_of_its_namespace_in_any_trust_domain() -> None:
    value = ValueMatch("shop/ca.rt")
    made = conditions.principal(Condition(Attribute.SERVICE_ACCOUNT, (value,)), value)
    assert made.authenticated.principal_name.safe_regex.regex == r"spiffe://[^/]+/ns/shop/sa/ca\.rt"


def test_neither_case_nor_port_makes_another_host() -> None:
    value = ValueMatch("Shop.example", ignore_case=True)
    made = conditions.permission(Condition(Attribute.HOST, (value,)), value)
    assert made.header.name == ":authority"
    assert made.header.string_match.safe_regex.regex == r"(?i)Shop\.example(:[0-9]+)?"


def test_a_host_with_a_port_is_meant_with_the_port() -> None:
    value = ValueMatch("shop.example:8080", ignore_case=True)
    made = conditions.permission(Condition(Attribute.HOST, (value,)), value)
    assert made.header.string_match.exact == "shop.example:8080"
    assert made.header.string_match.ignore_case


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/a/{*}/b", "/a/*/b"), ("/a/{**}", "/a/**"), ("/{*}/x/{**}/y.txt", "/*/x/**/y.txt")],
)
def test_path_templates_become_envoys(text: str, expected: str) -> None:
    value = ValueMatch(text, "template")
    made = conditions.permission(Condition(Attribute.PATH, (value,)), value)
    assert made.uri_template.name == "envoy.path.match.uri_template.uri_template_matcher"
    assert made.uri_template.typed_config.value.decode(errors="replace").endswith(expected)


@pytest.mark.parametrize("text", ["a/{*}", "//a/{*}", "/a//{*}", "/a{*}", "/{**}/{*}", "/a*/{*}", "/{*}/{**}/{**}"])
def test_a_path_template_that_envoy_would_refuse_is_a_problem_and_allows_nothing(text: str) -> None:
    broken = of(policy(Verdict.ALLOW, rule(to=(Condition(Attribute.PATH, (ValueMatch(text, "template"),)),))))
    [config] = requests(broken)
    assert not config.rules.policies
    [problem] = authorization.problems(broken)
    assert (problem.ref, problem.path, problem.code) == (REF, "spec.rules[0]", "InvalidValue")


def test_values_that_cannot_be_read_never_widen_what_is_allowed() -> None:
    for condition in (
        Condition(Attribute.PEER_ADDRESS, (ValueMatch("10.0.0.0/33", "cidr"),)),
        Condition(Attribute.PEER_ADDRESS, (), (ValueMatch("ten", "cidr"),)),
        Condition(Attribute.DESTINATION_PORT, (ValueMatch("80a", "port"),)),
    ):
        side = {"to": (condition,)} if condition.attribute is Attribute.DESTINATION_PORT else {"when": (condition,)}
        [allow] = requests(of(policy(Verdict.ALLOW, rule(CART, **side))))
        assert not allow.rules.policies
        [deny] = requests(of(policy(Verdict.DENY, rule(CART, **side))))
        [made] = deny.rules.policies.values()
        assert made.principals[0].HasField("authenticated")
        assert made.permissions[0].any


def test_addresses_of_the_peer_and_of_the_client_behind_it_are_told_apart() -> None:
    value = ValueMatch("10.0.0.0/8", "cidr")
    assert to_dict(conditions.principal(Condition(Attribute.PEER_ADDRESS, (value,)), value)) == {
        "direct_remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}
    }
    assert to_dict(conditions.principal(Condition(Attribute.REMOTE_ADDRESS, (value,)), value)) == {
        "remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}
    }


def test_a_claim_is_a_text_or_one_of_a_list() -> None:
    value = ValueMatch("admin")
    made = conditions.principal(Condition(Attribute.CLAIM, (value,), key=("realm", "role")), value)
    assert to_dict(made.sourced_metadata) == {
        "metadata_matcher": {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{"key": "payload"}, {"key": "realm"}, {"key": "role"}],
            "value": {
                "or_match": {
                    "value_matchers": [
                        {"string_match": {"exact": "admin"}},
                        {"list_match": {"one_of": {"string_match": {"exact": "admin"}}}},
                    ]
                }
            },
        }
    }


def test_a_request_principal_is_an_issuer_and_a_subject() -> None:
    def pairs(value: ValueMatch) -> list[list[object]]:
        made = conditions.principal(Condition(Attribute.REQUEST_PRINCIPAL, (value,)), value)
        alternatives = list(made.or_ids.ids) or [made]
        return [
            [to_dict(each.sourced_metadata.metadata_matcher.value.string_match) for each in alternative.and_ids.ids]
            for alternative in alternatives
        ]

    anything = {"safe_regex": {"regex": ".+"}}
    assert pairs(ValueMatch("iss/sub")) == [[{"exact": "iss"}, {"exact": "sub"}]]
    assert pairs(ValueMatch("", "present")) == [[anything, anything]]
    assert pairs(ValueMatch("https://iss/", "prefix")) == [
        [{"exact": "https:"}, {"prefix": "/iss/"}],
        [{"exact": "https:/"}, {"prefix": "iss/"}],
        [{"exact": "https://iss"}, anything],
        [{"prefix": "https://iss/"}, anything],
    ]
    assert pairs(ValueMatch("/sub", "suffix")) == [[anything, {"exact": "sub"}], [anything, {"suffix": "/sub"}]]


def test_metadata_of_other_filters_can_be_a_list() -> None:
    value = ValueMatch("[update]")
    condition = Condition(Attribute.FILTER_METADATA, (value,), key=("envoy.filters.network.mongo_proxy", "db.users"))
    made = conditions.permission(condition, value).sourced_metadata.metadata_matcher
    assert made.filter == "envoy.filters.network.mongo_proxy"
    assert made.value.list_match.one_of.string_match.exact == "update"


def test_server_names_and_destination_addresses_are_known_of_connections() -> None:
    wanted = (
        Condition(Attribute.SNI, (ValueMatch("a.example"),)),
        Condition(Attribute.DESTINATION_ADDRESS, (ValueMatch("10.0.0.1", "cidr"),)),
    )
    [config] = connections(of(policy(Verdict.ALLOW, rule(when=wanted))))
    [made] = config.rules.policies.values()
    assert [one.WhichOneof("rule") for one in made.permissions[0].and_rules.rules] == [
        "requested_server_name",
        "destination_ip",
    ]


def test_what_is_not_supported_yet_is_told_and_custom_policies_refuse_meanwhile() -> None:
    found = of(policy(Verdict.CUSTOM, rule(CART)), policy(Verdict.AUDIT, rule(CART), name="audit"))
    assert [(each.code, each.path, each.ref.name) for each in authorization.problems(found)] == [
        ("Unsupported", "spec.action", "only-cart"),
        ("Unsupported", "spec.action", "audit"),
    ]
    [config] = requests(found)
    assert config.rules.action == RBAC.DENY
    assert list(config.rules.policies) == [NAME]
