"""Who gets which secret, and under which name."""

from __future__ import annotations

from meltemi.envoy.resource import finish
from meltemi.protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from meltemi.xds.vault import Vault


def secret(name: str, text: str) -> Secret:
    message = Secret(name=name)
    message.validation_context.trusted_ca.inline_string = text
    return message


def test_a_secret_is_for_proxies_of_its_namespace_only() -> None:
    vault = Vault(lambda name, version: None)
    name = "kubernetes://shop/pass"
    vault.put(name, finish(name, secret(name, "of shop")))
    assert vault.lookup(name, "shop") is not None
    assert vault.lookup(name, "other") is None
    assert vault.lookup("kubernetes://pass", "other") is None


def test_a_name_without_a_namespace_means_the_proxys_own() -> None:
    told: list[str] = []
    vault = Vault(lambda name, version: told.append(name))
    for namespace in ("shop", "other"):
        name = f"kubernetes://{namespace}/pass"
        vault.put(name, finish(name, secret(name, f"of {namespace}")))
    found = vault.lookup("kubernetes://pass", "other")
    assert found is not None
    assert Secret.FromString(found.body) == secret("kubernetes://pass", "of other")
    assert told == ["kubernetes://shop/pass", "kubernetes://pass", "kubernetes://other/pass", "kubernetes://pass"]
