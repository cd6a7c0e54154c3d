"""How long a container that ended waits for its next start: doubling from half a second to half a minute.

Kubernetes goes from ten seconds to five minutes, which is for clusters; here a person is waiting.
"""

from __future__ import annotations

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """All in seconds. A run of at least `forgiven_after` makes the next failure count as the first."""

    first: float = 0.5
    longest: float = 30.0
    forgiven_after: float = 60.0

    def wait(self, failures: int) -> float:
        """How long to wait after that many failures in a row, counted from 1."""
        return min(self.longest, self.first * 2.0 ** min(max(failures - 1, 0), 32))

    def failures(self, before: int, ran: float) -> int:
        """How many failures in a row there are now, with `before` of them earlier and a last run of `ran` seconds."""
        return 1 if ran >= self.forgiven_after else before + 1
