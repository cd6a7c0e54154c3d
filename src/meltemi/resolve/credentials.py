"""What is known of a gateway's credential without knowing its key: whether there is one, and whether it can be used.

Keys never enter a table. Whoever keeps the secrets puts this record in their place, so that configuration can tell a
missing or broken credential, and so that a change of one is seen by its fingerprint.
"""

from __future__ import annotations

import msgspec


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """A Secret that can serve as a certificate with its key, as a bundle of authorities, or as both.

    `fingerprint` changes whenever the content does. `problem` says why it cannot be used (empty: it can).
    """

    namespace: str
    name: str
    has_key: bool = False
    has_ca: bool = False
    fingerprint: str = ""
    problem: str = ""


def own_name(written: str, namespace: str) -> str:
    """The name of a Secret in the proxy's own namespace, which may be written before it, as in `kubernetes://edge/shop`.

    What names a Secret of another namespace is left with a slash in it, and names nothing that the proxy may have.
    """
    return written.removeprefix("kubernetes://").removeprefix(f"{namespace}/")
