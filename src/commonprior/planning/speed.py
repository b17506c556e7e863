"""How fast this machine is at the elementary operations of a protocol."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping

from threadpoolctl import threadpool_limits

from commonprior.work import Amounts, Operation

_TRIALS = 5
_TRIAL_SECONDS = 2e-3
_LONG_SECONDS, _LONG_TRIALS = 2e-2, 3
"""What takes longer than this is timed so often, whatever it takes."""

Speed = Mapping[Operation, float]
"""Processor seconds of one operation."""


def measure(operations: Iterable[Operation]) -> dict[Operation, float]:
    """Return the seconds that each operation takes on one core: the median of a few trials of some milliseconds.

    Processor time, so that other work on the machine disturbs it little.
    """
    with threadpool_limits(limits=1):
        return {operation: _seconds(operation.prepare()) / operation.times for operation in dict.fromkeys(operations)}


def seconds(amounts: Amounts, speed: Speed) -> float:
    """Return how long amounts take, one after the other."""
    return sum(count * speed[operation] for operation, count in amounts.items())


def _seconds(once: Callable[[], object]) -> float:
    first = _spent(once, 1)
    if first > _LONG_SECONDS:
        return statistics.median([first, *(_spent(once, 1) for _ in range(_LONG_TRIALS - 1))])
    repeats = max(1, round(_TRIAL_SECONDS / max(_spent(once, 1), 1e-9)))
    return statistics.median(_spent(once, repeats) for _ in range(_TRIALS))


def _spent(once: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        once()
    return (time.process_time() - start) / repeats
