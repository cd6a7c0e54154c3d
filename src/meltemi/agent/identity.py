"""The life of one workload certificate: asked for, held, renewed at half-life, asked for again when that fails.

A pure state machine: it is told what happened and when, and answers what to do next and when. Whoever drives it talks to
the authority and sleeps. Invariant: a certificate that still holds is never given up because a renewal failed, and the
key that a certificate is used with is the one it was issued for.

    waiting --begin--> asking --issued--> holding --(half-life, or new roots)--> begin ...
                          '----failed---> waiting (longer each time) ---^
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

import msgspec
from cryptography import x509

from meltemi.agent.keys import Key
from meltemi.base.spiffe import SpiffeId


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """When to ask again. `ttl` of zero takes the authority's default lifetime."""

    ttl: timedelta = timedelta()
    share: float = 0.5
    jitter: float = 0.05
    first_retry: timedelta = timedelta(milliseconds=100)
    last_retry: timedelta = timedelta(seconds=30)


class Certificate(msgspec.Struct, frozen=True):
    """A key with its chain (PEM, leaf first, no root), and the time for which it holds."""

    key: Key
    chain: bytes
    serial: str
    issued_at: datetime
    not_after: datetime


class Refused(Exception):
    """What the authority answered cannot be used; the message says why."""


class Identity:
    """One identity: what is held, and when the next request is due."""

    def __init__(self, spiffe_id: SpiffeId, renewal: Renewal, random: Random, now: datetime) -> None:
        self.spiffe_id = spiffe_id
        self.certificate: Certificate | None = None
        self.roots = b""
        self.due = now
        self.rotations = 0
        self.failures = 0
        self.error = ""
        self._renewal = renewal
        self._random = random
        self._asking: Key | None = None

    def __repr__(self) -> str:
        state = f"until {self.certificate.not_after:%H:%M:%S}" if self.certificate else "without a certificate"
        return f"<Identity {self.spiffe_id} {state}, {self.failures} failures>"

    @property
    def ttl(self) -> timedelta:
        """The lifetime to ask for; zero leaves it to the authority."""
        return self._renewal.ttl

    def begin(self) -> bytes:
        """Starts asking: the signing request to send. It is for a new key each time."""
        self._asking = Key()
        return self._asking.csr(self.spiffe_id)

    def issued(self, chain: Sequence[str], now: datetime) -> None:
        """The authority answered: the leaf, its intermediates, and the mesh's roots last. Raises Refused."""
        key, self._asking = self._asking, None
        if key is None:
            raise Refused("no request is under way")
        leaf = check(chain, key, self.spiffe_id, now)
        self.certificate = Certificate(
            key, "".join(chain[:-1]).encode(), f"{leaf.serial_number:x}", now, leaf.not_valid_after_utc
        )
        self.roots = chain[-1].encode()
        self.rotations += 1
        self.failures = 0
        self.error = ""
        lifetime = leaf.not_valid_after_utc - now
        self.due = now + lifetime * (self._renewal.share - self._random.uniform(0, self._renewal.jitter))

    def failed(self, reason: str, now: datetime) -> None:
        """The request failed. The next one follows after a pause that doubles, but well before the certificate ends."""
        self._asking = None
        self.failures += 1
        self.error = reason
        longest = self._renewal.last_retry
        pause = min(self._renewal.first_retry * 2 ** min(self.failures - 1, 16), longest)
        if self.certificate is not None and self.certificate.not_after > now:
            pause = min(pause, max((self.certificate.not_after - now) / 4, self._renewal.first_retry))
        self.due = now + pause * self._random.uniform(0.5, 1)

    def roots_changed(self, now: datetime) -> None:
        """The mesh's roots are others now: a certificate from the new authority is wanted, within seconds."""
        if self.certificate is not None:
            self.due = min(self.due, now + timedelta(seconds=self._random.uniform(0, 3)))


def check(chain: Sequence[str], key: Key, spiffe_id: SpiffeId, now: datetime) -> x509.Certificate:
    """The leaf of an answer, if it is for this key and this identity and holds now. Raises Refused."""
    if len(chain) < 2:
        raise Refused("the authority sent no root along")
    try:
        leaf = x509.load_pem_x509_certificate(chain[0].encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        x509.load_pem_x509_certificates(chain[-1].encode())
    except (ValueError, x509.ExtensionNotFound) as error:
        raise Refused("the authority sent something that is not a workload certificate") from error
    if not key.fits(leaf):
        raise Refused("the certificate is for another key")
    if uris != [str(spiffe_id)]:
        raise Refused(f"the certificate is for {', '.join(uris) or 'nobody'} instead of {spiffe_id}")
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        raise Refused(f"the certificate holds from {leaf.not_valid_before_utc} to {leaf.not_valid_after_utc}, not now")
    return leaf
