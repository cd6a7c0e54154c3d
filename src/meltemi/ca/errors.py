"""What can go wrong in the certificate authority.

AuthorityError          the authority's own files are unusable; the message is for the operator
  InsecureKey           its private key can be read by others
CsrRefused              a signing request that will not be signed; the message is for the workload's agent
Unauthenticated         the caller has not proven who it is
ReviewUnavailable       nobody could be asked who the caller is; trying again is right
"""

from __future__ import annotations


class AuthorityError(Exception):
    """The directory of the authority cannot be used as it is."""


class InsecureKey(AuthorityError):
    """The private key of the authority is readable by somebody else than its owner."""


class CsrRefused(Exception):
    """A certificate signing request that is malformed, unproven or of a weak key."""


class Unauthenticated(Exception):
    """The caller showed no token, or one that is not good here. The message says why and is safe to send."""


class ReviewUnavailable(Exception):
    """The token could not be reviewed because the API server did not answer."""
