"""What sharing a secret of 32 bytes and joining its shares takes."""

from __future__ import annotations

import os
from collections.abc import Callable

from commonprior.sums._shamir import join, split, weights
from commonprior.work import Operation

_TRIAL = 16


def _splitting() -> Callable[[], object]:
    secret = os.urandom(32)
    return lambda: split(secret, _TRIAL, range(_TRIAL), os.urandom)


def _weighing() -> Callable[[], object]:
    return lambda: weights(range(_TRIAL))


def _joining() -> Callable[[], object]:
    shares, lagrange = split(os.urandom(32), _TRIAL, range(_TRIAL), os.urandom), weights(range(_TRIAL))
    return lambda: join(shares, lagrange)


SHARE_STEP = Operation("step of Shamir's polynomial", _splitting, _TRIAL * _TRIAL)
WEIGHT_STEP = Operation("step of Lagrange's weights", _weighing, _TRIAL * _TRIAL)
JOIN_STEP = Operation("share joined", _joining, _TRIAL)
