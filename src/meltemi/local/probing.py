"""Asks a probe again and again, at the pace that its author set.

While the first good answer is still awaited, it is asked more often than that, so that an application that is up after
80 ms is not called ready after ten seconds. Such an extra failure does not count: an application has as much time to
start as its author gave it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import msgspec

from meltemi.api.core.pods import Probe
from meltemi.local.probes import Outcome, Target, ask

_FIRST_LOOK, _LONGEST_LOOK, _GROWTH = 0.05, 1.0, 1.2


class Asked(msgspec.Struct, frozen=True):
    """One outcome; `counts` unless it is the failure of an extra question."""

    outcome: Outcome
    counts: bool


async def outcomes(probe: Probe, target: Target, is_awaited: Callable[[], bool]) -> AsyncGenerator[Asked, None]:
    """The outcomes of a probe, for ever. `is_awaited` tells whether the first good answer is still to come."""
    clock = asyncio.get_running_loop().time
    period = max(probe.period_seconds, 1)
    await asyncio.sleep(probe.initial_delay_seconds)
    next_count = clock()
    wait = _FIRST_LOOK
    while True:
        outcome = await ask(probe, target)
        counts = outcome.success or clock() >= next_count
        if counts:
            next_count = clock() + period
        yield Asked(outcome, counts)
        hurried = is_awaited() and probe.success_threshold <= 1
        await asyncio.sleep(min(wait, period) if hurried else period)
        wait = min(wait * _GROWTH, _LONGEST_LOOK)
