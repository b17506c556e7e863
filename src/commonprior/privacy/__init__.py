"""Clip and noise as one mechanism, with its cost as data."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from dp_accounting import DpEvent

from commonprior.prior import Contributions, Tensors
from commonprior.session import Encoding
from commonprior.task import Array

Csprng = Callable[[int], bytes]
"""n -> n unpredictable bytes. Secrets and DP noise come from here; learning and rounding come from a `key`."""


class Release(NamedTuple):
    """What one round gives away: among `parties` sites, at worst only `honest` of the survivors added noise.

    `length` is d; `rows` is the public number of tasks a site, by which a task's mean is divided at every site.
    """

    parties: int
    honest: int
    length: int
    rows: int


class Mechanism(abc.ABC):
    """compress -> clip -> encode to integers -> noise, in this order, at the site.

    `clip` is the largest L2 norm of one row, `noise` the noise multiplier of the whole sum: a site's policy bounds
    both.
    """

    clip: float
    noise: float

    @property
    @abc.abstractmethod
    def unit(self) -> Literal["task", "site"]:
        """What one clipped row protects; named in every output."""

    @abc.abstractmethod
    def encoding(self, release: Release) -> Encoding:
        """Return the scale and width at which the sum of everyone's integers cannot wrap."""

    @abc.abstractmethod
    def protect(
        self,
        contributions: Contributions,
        encoding: Encoding,
        release: Release,
        memory: Tensors,
        key: Array,
        csprng: Csprng,
    ) -> tuple[np.ndarray, Tensors]:
        """Return integers [d] int64 within the encoding's limit, and what the site keeps.

        Stochastic rounding is drawn from `key`, noise from `csprng`.
        """

    @abc.abstractmethod
    def mean(self, total: np.ndarray, encoding: Encoding, release: Release, survivors: int) -> np.ndarray:
        """Return the mean update [d] float64 from the integers' sum over `survivors` sites; public denominator."""

    @abc.abstractmethod
    def observe(self, total: np.ndarray) -> Mechanism:
        """Return the mechanism of the next round; adaptive clipping reads the sum's quantile count."""

    @abc.abstractmethod
    def spends(self, release: Release) -> DpEvent:
        """Return the privacy cost of one release, for `unit`. What is unknown is refused, never free."""
