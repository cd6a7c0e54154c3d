"""Service addresses: one of 10.96.0.0/16 for each Service that wants one, the same again wherever possible.

An address is drawn from the Service's name, so that a mesh that is taken down and brought up again has the same
addresses; a taken one gives way to the next free.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection

from meltemi.kube.resources import Key

NETWORK = ipaddress.IPv4Network("10.96.0.0/16")
_RESERVED = 256
"""The first addresses are not handed out: 10.96.0.1 (the API) and 10.96.0.10 (cluster DNS) have fixed meanings."""


def choose(service: Key, taken: Collection[str]) -> str:
    """A free address for a Service. Raises LookupError if there is none."""
    room = NETWORK.num_addresses - _RESERVED - 1
    digest = hashlib.blake2b(str(service).encode(), digest_size=4).digest()
    start = int.from_bytes(digest, "big") % room
    for step in range(room):
        address = str(NETWORK[_RESERVED + (start + step) % room])
        if address not in taken:
            return address
    raise LookupError(f"all addresses of {NETWORK} are taken")


def is_in_range(address: str) -> bool:
    """Whether a user may ask for this address."""
    try:
        return ipaddress.ip_address(address) in NETWORK
    except ValueError:
        return False
