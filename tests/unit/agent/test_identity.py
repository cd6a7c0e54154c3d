"""The life of a certificate, told by a clock that the test moves."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta
from random import Random

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meltemi.agent.identity import Identity, Refused, Renewal
from meltemi.agent.keys import Key
from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority, load_authority, new_root

from .conftest import CART, NOW

HOUR = timedelta(hours=1)


def issue(identity: Identity, authority: Authority, now: datetime, to: SpiffeId = CART) -> None:
    issued = authority.sign(identity.begin(), to, identity.ttl, now)
    identity.issued(issued.chain, now)


def test_a_certificate_is_wanted_from_the_beginning(identity: Identity) -> None:
    assert identity.due == NOW
    assert identity.certificate is None


def test_it_is_renewed_at_about_half_of_its_life(identity: Identity, authority: Authority) -> None:
    issue(identity, authority, NOW)
    assert NOW + 0.45 * 2 * HOUR <= identity.due <= NOW + HOUR
    assert identity.certificate is not None
    assert identity.certificate.not_after == NOW + 2 * HOUR


def test_not_all_proxies_renew_at_the_same_moment(authority: Authority) -> None:
    dues = set()
    for seed in range(10):
        identity = Identity(CART, Renewal(ttl=2 * HOUR), Random(seed), NOW)
        issue(identity, authority, NOW)
        dues.add(identity.due)
    assert len(dues) == 10
    assert max(dues) - min(dues) <= timedelta(minutes=6)


def test_every_certificate_has_a_key_of_its_own(identity: Identity, authority: Authority) -> None:
    issue(identity, authority, NOW)
    first = identity.certificate
    issue(identity, authority, NOW + HOUR)
    second = identity.certificate
    assert first is not None
    assert second is not None
    assert first.key.pem() != second.key.pem()
    assert first.serial != second.serial
    assert identity.rotations == 2


def test_failures_are_retried_after_growing_pauses_up_to_half_a_minute(identity: Identity) -> None:
    now, pauses = NOW, []
    for _ in range(12):
        identity.begin()
        identity.failed("connection refused", now)
        pauses.append((identity.due - now).total_seconds())
        now = identity.due
    assert 0.05 <= pauses[0] <= 0.1
    assert all(15 <= pause <= 30 for pause in pauses[9:])
    assert identity.failures == 12
    assert identity.error == "connection refused"


def test_a_failed_renewal_leaves_the_certificate_in_use(identity: Identity, authority: Authority) -> None:
    issue(identity, authority, NOW)
    held = identity.certificate
    identity.begin()
    identity.failed("connection refused", NOW + HOUR)
    assert identity.certificate is held


def test_shortly_before_the_end_it_is_tried_more_often(identity: Identity, authority: Authority) -> None:
    issue(identity, authority, NOW)
    late = NOW + 2 * HOUR - timedelta(seconds=8)
    for _ in range(12):
        identity.failed("connection refused", late)
    assert identity.due <= late + timedelta(seconds=2)


def test_success_forgets_the_failures(identity: Identity, authority: Authority) -> None:
    identity.failed("connection refused", NOW)
    issue(identity, authority, NOW)
    assert (identity.failures, identity.error) == (0, "")


def test_new_roots_ask_for_a_new_certificate_within_seconds(identity: Identity, authority: Authority) -> None:
    issue(identity, authority, NOW)
    identity.roots_changed(NOW)
    assert identity.due <= NOW + timedelta(seconds=3)


def test_the_roots_come_with_the_certificate(identity: Identity, authority: Authority) -> None:
    issue(identity, authority, NOW)
    assert identity.roots.decode() == authority.trust_bundle
    assert identity.certificate is not None
    assert authority.trust_bundle.encode() not in identity.certificate.chain


def test_a_certificate_of_somebody_else_is_refused(identity: Identity, authority: Authority) -> None:
    with pytest.raises(Refused, match="sa/checkout instead of"):
        issue(identity, authority, NOW, SpiffeId("cluster.local", "shop", "checkout"))
    assert identity.certificate is None


def test_a_certificate_for_another_key_is_refused(identity: Identity, authority: Authority) -> None:
    identity.begin()
    other = authority.sign(Key().csr(CART), CART, HOUR, NOW)
    with pytest.raises(Refused, match="another key"):
        identity.issued(other.chain, NOW)


def test_a_certificate_that_does_not_hold_now_is_refused(identity: Identity) -> None:
    past = NOW - timedelta(days=2)
    authority = load_authority(new_root("cluster.local", past), past)
    chain = authority.sign(identity.begin(), CART, HOUR, past).chain
    with pytest.raises(Refused, match="not now"):
        identity.issued(chain, NOW)


@pytest.mark.parametrize("chain", [(), ("x",), ("x", "y")])
def test_an_answer_that_is_no_chain_is_refused(identity: Identity, chain: tuple[str, ...]) -> None:
    identity.begin()
    with pytest.raises(Refused):
        identity.issued(chain, NOW)


def test_an_answer_that_nobody_waits_for_is_refused(identity: Identity, authority: Authority) -> None:
    with pytest.raises(Refused, match="under way"):
        identity.issued(authority.sign(Key().csr(CART), CART, HOUR, NOW).chain, NOW)


def test_a_key_does_not_show_itself() -> None:
    key = Key()
    assert load_pem_private_key(key.pem(), None)
    assert repr(key) == "<Key>"
    with pytest.raises(TypeError):
        pickle.dumps(key)
